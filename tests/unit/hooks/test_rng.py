"""Reading random number generators without drawing from them."""

from __future__ import annotations

import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from palm_torch import codec, encoding
from palm_torch.hooks import rng


def _seed(seed: int) -> None:
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (the global generator is what is read)


def test_reading_draws_nothing() -> None:
    _seed(7)
    expected = (torch.rand(3), random.random(), np.random.rand())  # noqa: NPY002
    _seed(7)
    assert rng.rng_digests() == rng.rng_digests()
    assert torch.equal(torch.rand(3), expected[0])
    assert (random.random(), np.random.rand()) == expected[1:]  # noqa: NPY002


@pytest.mark.parametrize(
    ("draw", "field"),
    [
        (lambda: torch.rand(1), "torch"),
        (random.random, "python"),
        (lambda: random.gauss(0, 1), "python"),
        (lambda: np.random.standard_normal(1), "numpy"),  # noqa: NPY002
    ],
)
def test_drawing_changes_the_digest_of_that_generator_alone(draw: object, field: str) -> None:
    _seed(7)
    before = rng.rng_digests()
    draw()
    after = rng.rng_digests()
    changed = [name for name in before.__slots__ if getattr(before, name) != getattr(after, name)]
    assert changed == [field]


def test_seed_beyond_json_numbers_travels() -> None:
    state = torch.get_rng_state()
    torch.manual_seed(2**63 + 1)
    assert b'"torch_seed":"9223372036854775809"' in encoding.encode_json(codec.to_json(rng.rng_digests()))
    torch.set_rng_state(state)


def test_another_bit_generator() -> None:
    original = np.random.get_bit_generator()
    before = rng.rng_digests().numpy
    np.random.set_bit_generator(np.random.PCG64(3))
    try:
        assert rng.rng_digests().numpy != before
    finally:
        np.random.set_bit_generator(original)


def test_numpy_that_nobody_imported_is_not_imported() -> None:
    code = "import sys; sys.modules['numpy.random'] = None\nfrom palm_torch.hooks import rng\n"
    code += "assert rng.rng_digests().numpy is None"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)
