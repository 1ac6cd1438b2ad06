"""Audits of inferences: what a verifier asks after the seal, and what answers it; no torch, no numpy."""
