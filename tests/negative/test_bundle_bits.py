"""Random single bits of a whole bundle, flipped: all refused, and by nothing but our own errors.

``PALM_TORCH_THOROUGH=1`` flips 20,000 bits instead of 2,000.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest
import workshop
from bits import surviving

from palm_torch.errors import PalmTorchError

if TYPE_CHECKING:
    from composite_run import CompositeRun
    from workshop import GoodRun

FLIPS = 20_000 if os.environ.get("PALM_TORCH_THOROUGH") == "1" else 2_000


def test_random_bits_of_the_whole_bundle(good: GoodRun) -> None:
    bits = random.Random(2026).sample(range(8 * len(good.data)), FLIPS)
    assert surviving(good.data, good.verify, bits) == []


def test_random_bits_of_evidence_of_gpus(composite: CompositeRun) -> None:
    data = composite.data
    began, ended = data.index(b'"gpu_endorsements":'), data.index(b'"log":')
    places = [*range(8 * began, 8 * ended), *range(8 * data.index(b'"gpus":'), 8 * data.index(b'"quote":'))]
    bits = random.Random(2026).sample(places, FLIPS // 10)
    assert surviving(data, composite.verify, bits) == []


def test_twin_a_verifier_that_looks_at_nothing_accepts_every_bit(good: GoodRun) -> None:
    assert len(surviving(good.data, lambda _: None, range(50))) == 50


def test_bits_of_the_request(good: GoodRun) -> None:
    for bit in range(0, 8 * len(good.request), 3):
        flipped = bytearray(good.request)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PalmTorchError):
            good.verify(challenge=bytes(flipped))
    assert good.verify(challenge=workshop.make_request()).checks
