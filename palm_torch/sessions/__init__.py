"""What shows whose session it was: seals, then openings, then segments. Both halves use it."""
