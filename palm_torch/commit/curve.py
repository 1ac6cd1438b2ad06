"""Points of BLS12-381 that came from elsewhere: decoded strictly, combined, compared by pairings.

A point of E(Fp) outside the group of prime order, once added into a combination, can make a false equation
hold; so nothing leaves `decoded` unless it is in the group and in its one encoding.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from palm_torch import extras
from palm_torch.commit import ceremony, field
from palm_torch.errors import EvidenceError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from py_arkworks_bls12381 import G1Point, G2Point

POINT_BYTES: Final = 48
"""Length of a compressed point of G1: a bit each for *compressed*, *infinity*, *larger y*, then x."""

INFINITY: Final = bytes([0xC0]) + bytes(POINT_BYTES - 1)


def decoded(
    data: bytes, *, what: str, may_be_infinity: bool, error: type[InputError] = EvidenceError
) -> G1Point:
    """Decodes a compressed point of G1.

    Args:
        data: 48 bytes.
        what: What it is, for the message.
        may_be_infinity: Whether the point at infinity is let through.
        error: Class of the error.

    Raises:
        InputError: As `error`: another length, not the canonical encoding of a point on the curve, outside
            the group of prime order, or infinity where that is refused.
    """
    if len(data) != POINT_BYTES:
        raise error(f"{what}: expected {POINT_BYTES} bytes, got {len(data)}")
    if data == INFINITY and not may_be_infinity:
        raise error(f"{what}: the point at infinity, which commits to nothing")
    try:
        point: G1Point = library().G1Point.from_compressed_bytes(data)
    except ValueError as cause:
        raise error(f"{what}: not a point of the group G1 of BLS12-381: {data.hex()}") from cause
    if point.to_compressed_bytes() != data:
        raise error(f"{what}: not the canonical encoding of its point: {data.hex()}")
    return point


def combined(points: Sequence[G1Point], scalars: Sequence[int]) -> G1Point:
    """Returns the sum of scalar × point; scalars are any integers."""
    curve = library()
    reduced = [(scalar % field.MODULUS).to_bytes(field.FIELD_BYTES, "big") for scalar in scalars]
    total: G1Point = curve.G1Point.multiexp_unchecked(
        list(points), [curve.Scalar.from_be_bytes(scalar) for scalar in reduced]
    )
    return total


def same_pairing(left: G1Point, right: G1Point, power: int) -> bool:
    """Says whether ``e(left, [1]_2) = e(right, [tau^k]_2)`` for k = `power`."""
    same: bool = library().GT.pairing_check([left, -right], [g2_power(0), g2_power(power)])
    return same


@functools.cache
def generator() -> G1Point:
    """Returns ``[1]_1``."""
    return g1_powers(1)[0]


@functools.cache
def g1_powers(count: int) -> tuple[G1Point, ...]:
    """Returns ``[tau^0]_1 … [tau^(count-1)]_1`` of the pinned ceremony."""
    decode = library().G1Point.from_compressed_bytes_unchecked  # pinned: the tests checked them all
    return tuple(decode(ceremony.g1_power(exponent)) for exponent in range(count))


@functools.cache
def g2_power(exponent: int) -> G2Point:
    """Returns ``[tau^k]_2`` of the pinned ceremony."""
    point: G2Point = library().G2Point.from_compressed_bytes(ceremony.g2_power(exponent))
    return point


def library() -> ModuleType:
    """Returns py_arkworks_bls12381, which computes in the groups.

    Raises:
        MissingExtraError: If the extra `kzg` is not installed.
    """
    with extras.needed("kzg", for_what="checking a KZG opening"):
        import py_arkworks_bls12381  # noqa: PLC0415 (an extra: only KZG trees need it)
    return py_arkworks_bls12381
