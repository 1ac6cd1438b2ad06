"""palm-torch: hardware-sealed evidence of what a PyTorch run did, checked offline by anyone."""

__version__ = "0.1.0"
