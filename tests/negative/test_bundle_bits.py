"""Random single bits of a whole bundle, flipped: all refused, and by nothing but our own errors.

``PALM_TORCH_THOROUGH=1`` flips 20,000 bits instead of 2,000.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest
import workshop

from palm_torch.errors import (
    PalmTorchError,
)
from palm_torch.evidence import GpuEvidence

if TYPE_CHECKING:
    from collections.abc import Callable

    from workshop import GoodRun

FLIPS = 20_000 if os.environ.get("PALM_TORCH_THOROUGH") == "1" else 2_000
GPU = GpuEvidence(evidence=b"report", chain=b"chain")


def surviving(good: GoodRun, verify: Callable[[bytes], object], count: int) -> list[int]:
    """Flips bits drawn with a fixed seed; returns those that were accepted.

    What is raised outside our tree of errors fails the test by itself.
    """
    accepted = []
    for bit in random.Random(2026).sample(range(8 * len(good.data)), count):
        flipped = bytearray(good.data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            verify(bytes(flipped))
        except PalmTorchError:
            continue
        accepted.append(bit)
    return accepted


def test_random_bits_of_the_whole_bundle(good: GoodRun) -> None:
    assert surviving(good, good.verify, FLIPS) == []


def test_twin_a_verifier_that_looks_at_nothing_accepts_every_bit(good: GoodRun) -> None:
    assert len(surviving(good, lambda _: None, 50)) == 50


def test_bits_of_the_request(good: GoodRun) -> None:
    for bit in range(0, 8 * len(good.request), 3):
        flipped = bytearray(good.request)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PalmTorchError):
            good.verify(challenge=bytes(flipped))
    assert good.verify(challenge=workshop.make_request()).checks
