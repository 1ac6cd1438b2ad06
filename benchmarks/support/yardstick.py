"""What ckzg's own commitments take on a machine that does nothing else, to judge the time beside them by."""

from __future__ import annotations

from typing import Final

NOMINAL_MS: Final = 52.0
"""One commitment by ckzg 2.1, on a virtual core of Sapphire-Rapids class whose neighbours do nothing."""


def nominal_ms(taken_ms: float, commitment_ms: float, commitments: int) -> float:
    """Returns what a time would be, had each of ckzg's commitments in it taken `NOMINAL_MS` or less.

    Args:
        taken_ms: What was measured.
        commitment_ms: One commitment by ckzg in the same run.
        commitments: How many are in what was measured.
    """
    return taken_ms - commitments * max(commitment_ms - NOMINAL_MS, 0.0)
