"""Datasets that hash what they hand out, and the loader that counts what the loop received."""
