"""How a dataset is measured.

In reading order: `units` (what one worker does at a time), `reading` (each byte once, into private memory),
`writing` (the manifest), `products` and `private` (what may be reused, and by whom), `job` and `checking`
(what there is to do), `messages`, `worker`, `pool` (who does it), `processes` and `ranks` (where they are).
"""
