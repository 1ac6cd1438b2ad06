"""Random single bits of a receipt file and of the segments in a bundle, flipped: all refused."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import pytest
from bits import surviving
from workshop import NOW

from palm_torch import receipt
from palm_torch.appraisal import receipts

if TYPE_CHECKING:
    from relay import ResumedRun

FLIPS = 10_000 if os.environ.get("PALM_TORCH_THOROUGH") == "1" else 500


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
