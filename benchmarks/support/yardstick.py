"""How fast the machine is at this moment, by a program that is not ours: ckzg's commitment to a full node.

A shared machine is up to twice as slow in one hour as in another. Bars in milliseconds are for a virtual core
of Sapphire-Rapids class whose neighbours do nothing, where ckzg 2.1 takes `NOMINAL_MS`. It is timed in turn
with what is judged, and what is judged counts as much less as the commitment took longer: so a bar in
milliseconds is a ratio to a baseline of the same run. A machine that is faster is taken as it is.
"""

from __future__ import annotations

import functools
from typing import Final

from palm_torch.commit import kzg, proving

NOMINAL_MS: Final = 52.0


@functools.cache
def _full_node() -> bytes:
    return kzg.packed(kzg.hash_to_field(b"%d" % place) for place in range(kzg.WIDTH))


def commitment() -> bytes:
    """Returns ckzg's commitment to a node that is full."""
    return proving.blob_commitment(_full_node())


def judged(taken_ms: float, commitment_ms: float) -> float:
    """Returns what a time counts, in milliseconds.

    Args:
        taken_ms: What was measured.
        commitment_ms: What `commitment` took in turn with it.
    """
    return taken_ms * min(1.0, NOMINAL_MS / commitment_ms)
