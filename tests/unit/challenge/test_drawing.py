"""The seed of an audit and the numbers drawn from it."""

from __future__ import annotations

import hashlib

import audited

from palm_torch.challenge import drawing
from palm_torch.digest import sha256_digest, tagged_digest

CLAIMS = sha256_digest(b"claims")
TRACE = tagged_digest("palm-torch/example/v1", b"trace")


def framed(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def test_the_seed_is_the_formula_of_the_specification() -> None:
    parts = [str(CLAIMS).encode(), str(TRACE).encode(), audited.NONCE]
    expected = hashlib.sha512(b"palm-torch/audit/v1" + b"".join(map(framed, parts))).digest()
    assert drawing.seed(CLAIMS, TRACE, audited.NONCE) == expected


def test_every_part_counts() -> None:
    seeds = {
        drawing.seed(CLAIMS, TRACE, audited.NONCE),
        drawing.seed(None, TRACE, audited.NONCE),
        drawing.seed(CLAIMS, tagged_digest("palm-torch/example/v1", b"other"), audited.NONCE),
        drawing.seed(CLAIMS, TRACE, bytes(32)),
    }
    assert len(seeds) == 4


def test_a_stream_is_one_run_of_bytes_however_it_is_taken() -> None:
    seed = drawing.seed(CLAIMS, TRACE, audited.NONCE)
    expected = hashlib.shake_256(seed + framed(b"places")).digest(5000)
    stream = drawing.Stream(seed, "places")
    assert b"".join(stream.take(count) for count in (1, 0, 7, 1016, 1, 3975)) == expected
    assert drawing.Stream(seed, "whole").take(8) != expected[:8]


class Fixed(drawing.Stream):
    """A stream of bytes that the test chose."""

    def __init__(self, *numbers: int) -> None:
        super().__init__(bytes(64), "")
        self.numbers = list(numbers)

    def take(self, count: int) -> bytes:
        return self.numbers.pop(0).to_bytes(count, "big")


def test_numbers_that_would_favour_some_are_drawn_again() -> None:
    assert Fixed(2**64 - 1, 7).below(3) == 1  # 2^64 - 1 is divisible by 3
    assert Fixed(2**64 - 2).below(3) == 2
    assert Fixed(2**64 - 1).below(1) == 0
    assert Fixed(2**64 - 1).below(2**64) == 2**64 - 1
