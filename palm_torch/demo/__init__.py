"""The demo: a real training run on text that every machine has, sealed, verified, and tampered with.

Reading order: `model` (a small GPT, plain PyTorch), `loop` (an ordinary training loop), `corpus` (the
text), `story` (what happens when), `tampering` (six ways to cheat).
"""
