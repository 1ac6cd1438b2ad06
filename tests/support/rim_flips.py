"""Reference measurements with one bit flipped at a time: which flips are accepted, if any.

The tests try some, ``PALM_TORCH_FLIPS=all`` and the benchmarks try every one.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from palm_torch.cvm import certificates, rim
from palm_torch.errors import PalmTorchError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

REAL = "nvidia/nvtrust/1010_0200_882_96005E0001_PROD.swidtag"
"""A manifest of the third-party vectors that is accepted."""

NOW = datetime(2024, 6, 1, tzinfo=UTC)
ACCEPTED = "accepted"
CHUNK = 500


def verify(data: bytes) -> rim.VerifiedRim:
    """Verifies the real manifest under NVIDIA's root, when it was valid."""
    return rim.verify_rim(data, anchors=[certificates.NVIDIA_CORIM_ROOT], now=NOW)


def flip(data: bytes, bit: int) -> str:
    """Returns what refuses a flip, the class of our error, or `ACCEPTED`; other errors pass through."""
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    try:
        verify(bytes(flipped))
    except PalmTorchError as error:
        return type(error).__name__
    return ACCEPTED


def flip_all(folder: Path, *, every: int = 1, jobs: int | None = None) -> Counter[str]:
    """Flips every bit of the real manifest, on several processors: what refused it → how often.

    Args:
        folder: The third-party vectors.
        every: Try one bit in so many.
        jobs: Number of processes; one for each processor by default.
    """
    data = (folder / REAL).read_bytes()
    verify(data)
    bits = range(0, 8 * len(data), every)
    chunks = [(folder, bits[at : at + CHUNK]) for at in range(0, len(bits), CHUNK)]
    with multiprocessing.get_context("spawn").Pool(jobs or os.cpu_count()) as pool:
        return sum(pool.starmap(_flip_some, chunks, chunksize=1), Counter())


def _flip_some(folder: Path, bits: Sequence[int]) -> Counter[str]:
    data = (folder / REAL).read_bytes()
    return Counter(flip(data, bit) for bit in bits)
