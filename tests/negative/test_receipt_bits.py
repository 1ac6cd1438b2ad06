"""Random single bits of a receipt file and of the segments in a bundle, flipped: all refused."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import pytest
from workshop import NOW

from palm_torch import receipt
from palm_torch.appraisal import receipts
from palm_torch.errors import PalmTorchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from relay import ResumedRun

FLIPS = 10_000 if os.environ.get("PALM_TORCH_THOROUGH") == "1" else 500


def surviving(data: bytes, verify: Callable[[bytes], object], bits: Iterable[int]) -> list[int]:
    """Flips each bit; returns those that were accepted. What is not ours fails the test by itself."""
    accepted = []
    for bit in bits:
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            verify(bytes(flipped))
        except PalmTorchError:
            continue
        accepted.append(bit)
    return accepted


@pytest.mark.parametrize("kind", ["file", "segment"])
def test_bits_of_a_receipt(resumed: ResumedRun, kind: str) -> None:
    data = getattr(resumed.sessions[1], kind).encode()
    options: dict[str, Any] = {"policy": resumed.policy(), "at": NOW, "challenge": resumed.request}
    assert receipts.verify(receipt.decode(data), **options).checks
    bits = random.Random(2026).sample(range(8 * len(data)), FLIPS)
    assert surviving(data, lambda bent: receipts.verify(receipt.decode(bent), **options), bits) == []


def test_bits_of_the_segments(resumed: ResumedRun) -> None:
    data = resumed.data
    start, end = data.index(b'"segments":['), data.index(b'"session_key"', data.rindex(b'"receipt":{'))
    assert resumed.verify(data).checks
    bits = random.Random(2026).sample(range(8 * start, 8 * end), FLIPS // 2)
    assert surviving(data, resumed.verify, bits) == []


def test_twin_a_verifier_that_looks_at_nothing_accepts_every_bit(resumed: ResumedRun) -> None:
    assert len(surviving(resumed.data, lambda _: None, range(50))) == 50
