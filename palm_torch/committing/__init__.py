"""Committing to what a model computes: from a hook to one root, and back to any piece of it.

`entry` is what users call, `proof` what they hold; `capture` copies each tensor in the hook, `ring` those on
a device; `lanes` queue the copies, within a limit of bytes, for the threads that hash them; in `streams` they
become the bytes of one site, in `leaves` the leaves of its tree. `spill` keeps the copies for openings, where
that was asked for, and `given` reads tensors that somebody else kept. `bound_tokens` binds the ids of the
tokens, `answering` opens what an audit asks for, and `saved_trace` is a kept trace as a folder, for another
process to answer from; the last two need no torch. What a root binds, and how openings are checked, is in
`palm_torch.commit.trace` and `palm_torch.commit.trace_opening`, which need none either.
"""
