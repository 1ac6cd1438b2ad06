"""Nodes of KZG trees with reproducible values, and points that must not be let in."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from palm_torch.commit import field, kzg

FIELD_PRIME = (
    0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB
)
"""p, over which the curve y² = x³ + 4 stands."""

INFINITY = bytes([0xC0]) + bytes(47)

ORDER_3 = bytes([0x80]) + bytes(47)
"""The point (0, 2): on the curve, of order 3, outside the group of prime order."""


@dataclass(frozen=True)
class Node:
    values: tuple[int, ...]
    blob: bytes
    commitment: bytes


def values_of(seed: int, count: int = field.WIDTH) -> tuple[int, ...]:
    return tuple(kzg.hash_to_field(b"%d/%d" % (seed, at)) for at in range(count))


@functools.cache
def node(seed: int) -> Node:
    values = values_of(seed)
    blob = b"".join(value.to_bytes(32, "big") for value in values)
    return Node(values, blob, kzg.commit(blob))


def at(polynomial: list[int], point: int) -> int:
    """Evaluates coefficients, lowest first, in the plainest way."""
    return sum(c * pow(point, power, field.MODULUS) for power, c in enumerate(polynomial)) % field.MODULUS


def respelled_points(wanted: int) -> list[bytes]:
    """Returns encodings whose x is p more than it should be: the same residue in other bytes."""
    import py_arkworks_bls12381 as curve

    found: list[bytes] = []
    point = curve.G1Point()
    while len(found) < wanted:
        point += curve.G1Point()
        encoded = point.to_compressed_bytes()
        x = int.from_bytes(encoded, "big") % 2**381 + FIELD_PRIME
        if x < 2**381:
            flags = encoded[0] & 0xE0
            found.append(bytes([flags | x >> 376]) + (x % 2**376).to_bytes(47, "big"))
    return found
