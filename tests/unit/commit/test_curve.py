"""Points from elsewhere: one encoding each, in the group, and combined as the textbook says."""

from __future__ import annotations

import py_arkworks_bls12381 as bls
import pytest
from kzg_nodes import INFINITY, ORDER_3, respelled_points

from palm_torch.commit import curve, field
from palm_torch.errors import DataError, EvidenceError

GENERATOR = bls.G1Point().to_compressed_bytes()

FOREIGN = {
    "order 3": ORDER_3,
    "order 3, other half": bytes([0xA0]) + bytes(47),
    "not on the curve": bytes([0x80]) + bytes(46) + b"\x01",
    "no flag": bytes([GENERATOR[0] & 0x7F]) + GENERATOR[1:],
    "infinity with a sign": bytes([0xE0]) + bytes(47),
    "infinity with an x": bytes([0xC0]) + bytes(46) + b"\x01",
    "infinity without the first flag": bytes([0x40]) + bytes(47),
    "zeros": bytes(48),
    "ones": b"\xff" * 48,
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("may_be_infinity", [True, False])
def test_what_is_no_point_of_the_group_is_refused(name: str, *, may_be_infinity: bool) -> None:
    with pytest.raises(EvidenceError, match=r"^KZG proof: not "):
        curve.decoded(FOREIGN[name], what="KZG proof", may_be_infinity=may_be_infinity)


def test_an_x_beyond_the_prime_is_refused() -> None:
    for respelled in respelled_points(3):
        with pytest.raises(EvidenceError, match=r"not a point|not the canonical"):
            curve.decoded(respelled, what="KZG proof", may_be_infinity=True)


@pytest.mark.parametrize("length", [0, 47, 49, 96])
def test_other_lengths_are_refused(length: int) -> None:
    with pytest.raises(EvidenceError, match=f"KZG commitment: expected 48 bytes, got {length}"):
        curve.decoded(bytes(length), what="KZG commitment", may_be_infinity=False)


def test_infinity_only_where_it_is_awaited() -> None:
    assert curve.decoded(INFINITY, what="x", may_be_infinity=True) == bls.G1Point.identity()
    with pytest.raises(DataError, match="x: the point at infinity"):
        curve.decoded(INFINITY, what="x", may_be_infinity=False, error=DataError)


def test_sums_take_any_integers() -> None:
    point = bls.G1Point() * bls.Scalar(9)
    total = curve.combined([point, bls.G1Point()], [-1, field.MODULUS + 12])
    assert total == bls.G1Point() * bls.Scalar(3)


def test_pairings_compare_with_the_pinned_powers() -> None:
    powers = curve.g1_powers(3)
    assert curve.same_pairing(powers[1], powers[0], 1)
    assert curve.same_pairing(powers[2], powers[1], 1)
    assert not curve.same_pairing(powers[2], powers[0], 1)
    assert curve.same_pairing(curve.g1_powers(65)[64], powers[0], 64)
