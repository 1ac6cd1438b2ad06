"""The verbs of the command line, one file each; `palm_torch.cli` gathers them.

What a command needs is imported when it runs: `verify` starts without torch, and without rich if it only
prints JSON. Reading order: codes, arguments, printing, then the verbs.
"""
