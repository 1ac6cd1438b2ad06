"""The parts of a model, one file each: which operations they have, in which order, and what feeds which."""
