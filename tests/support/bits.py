"""Flipped bits: which of them a verifier accepts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch.errors import PalmTorchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


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
