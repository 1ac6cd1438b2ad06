"""One node: what commits, opens and updates, and everything that is refused."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from kzg_nodes import INFINITY, ORDER_3, node, values_of

from palm_torch.commit import field, kzg
from palm_torch.errors import BindingError, DataError, EvidenceError

if TYPE_CHECKING:
    from collections.abc import Callable

NODE = 1
ROW = 9


def row_values(row: int = ROW) -> tuple[int, ...]:
    return node(NODE).values[64 * row : 64 * row + 64]


def test_hashing_to_the_field() -> None:
    expected = int(hashlib.sha512(b"abc").hexdigest(), 16) % field.MODULUS
    assert kzg.hash_to_field(b"abc") == expected
    assert kzg.hash_to_field(b"") != kzg.hash_to_field(b"\x00")


def test_constants_are_those_of_the_two_proposals() -> None:
    assert (kzg.WIDTH, kzg.BLOB_BYTES, kzg.COMMITMENT_BYTES, kzg.PROOF_BYTES) == (4096, 131_072, 48, 48)
    assert (kzg.ROW, kzg.ROWS) == (64, 64)


def test_elements_and_back() -> None:
    assert kzg.elements(node(NODE).blob) == list(node(NODE).values)
    assert kzg.packed(node(NODE).values) == node(NODE).blob


@pytest.mark.parametrize("position", [0, 1, 64, 2047, 4095])
def test_a_place_opens(position: int) -> None:
    one = node(NODE)
    proof = kzg.open_point(one.blob, position)
    kzg.verify_point(one.commitment, position, one.values[position], proof)


@pytest.mark.parametrize("row", [0, 9, 63])
def test_a_row_opens(row: int) -> None:
    kzg.verify_row(node(NODE).commitment, row, row_values(row), kzg.open_row(node(NODE).blob, row))


def test_a_constant_node_opens_with_proofs_at_infinity() -> None:
    blob = kzg.packed([5] * 4096)
    commitment, point, row = kzg.commit(blob), kzg.open_point(blob, 3), kzg.open_row(blob, 3)
    assert point == row == INFINITY
    kzg.verify_point(commitment, 3, 5, point)
    kzg.verify_row(commitment, 3, [5] * 64, row)
    with pytest.raises(BindingError):
        kzg.verify_point(commitment, 3, 6, point)
    with pytest.raises(BindingError):
        kzg.verify_row(commitment, 3, [5] * 63 + [6], row)


def test_another_value_place_commitment_or_proof_is_no_opening() -> None:
    one, other, proof = node(NODE), node(2), kzg.open_point(node(NODE).blob, 7)
    for commitment, position, value, witness in (
        (one.commitment, 7, one.values[7] + 1, proof),
        (one.commitment, 7, 0, proof),
        (one.commitment, 8, one.values[7], proof),
        (one.commitment, 8, one.values[8], proof),
        (other.commitment, 7, one.values[7], proof),
        (one.commitment, 7, one.values[7], INFINITY),
        (one.commitment, 7, one.values[7], one.commitment),
        (one.commitment, 7, one.values[7], kzg.open_row(one.blob, 0)),
    ):
        with pytest.raises(BindingError, match="not the value under commitment"):
            kzg.verify_point(commitment, position, value, witness)


def test_another_row_value_commitment_or_proof_is_no_opening() -> None:
    one, other, proof = node(NODE), node(2), kzg.open_row(node(NODE).blob, ROW)
    values = list(row_values())
    swapped = [values[1], values[0], *values[2:]]
    for commitment, row, given, witness in (
        (one.commitment, ROW, [*values[:-1], values[-1] ^ 1], proof),
        (one.commitment, ROW, swapped, proof),
        (one.commitment, ROW + 1, values, proof),
        (one.commitment, ROW + 1, row_values(ROW + 1), proof),
        (other.commitment, ROW, values, proof),
        (one.commitment, ROW, values, INFINITY),
        (one.commitment, ROW, values, kzg.open_point(one.blob, 64 * ROW)),
    ):
        with pytest.raises(BindingError, match="not the values under commitment"):
            kzg.verify_row(commitment, row, given, witness)


MALFORMED_POINTS: dict[str, tuple[Callable[[bytes, bytes], tuple[bytes, int, int, bytes]], str]] = {
    "position below": (lambda c, w: (c, -1, 5, w), r"a position in \[0, 4096\), got -1"),
    "position above": (lambda c, w: (c, 4096, 5, w), r"a position in \[0, 4096\), got 4096"),
    "value below": (lambda c, w: (c, 3, -1, w), r"expected an integer in \[0, r\), got -0x1"),
    "value above": (lambda c, w: (c, 3, field.MODULUS, w), r"expected an integer in \[0, r\), got 0x73"),
    "commitment at infinity": (lambda _, w: (INFINITY, 3, 5, w), "KZG commitment: the point at infinity"),
    "commitment short": (lambda c, w: (c[:-1], 3, 5, w), "KZG commitment: expected 48 bytes, got 47"),
    "commitment of order 3": (lambda _, w: (ORDER_3, 3, 5, w), "KZG commitment: not a point of the group"),
    "proof of order 3": (lambda c, _: (c, 3, 5, ORDER_3), "KZG proof: not a point of the group"),
    "proof empty": (lambda c, _: (c, 3, 5, b""), "KZG proof: expected 48 bytes, got 0"),
    "proof long": (lambda c, w: (c, 3, 5, w + b"\x00"), "KZG proof: expected 48 bytes, got 49"),
}


@pytest.mark.parametrize("name", MALFORMED_POINTS)
def test_a_malformed_opening_of_a_place_is_refused_before_any_pairing(name: str) -> None:
    make, message = MALFORMED_POINTS[name]
    with pytest.raises(EvidenceError, match=message):
        kzg.verify_point(*make(node(NODE).commitment, node(2).commitment))


@pytest.mark.parametrize("row", [-1, 64, 65, 127, 128])
def test_cells_outside_the_node_are_no_rows(row: int) -> None:
    with pytest.raises(EvidenceError, match=rf"expected a row in \[0, 64\), got {row}"):
        kzg.verify_row(node(NODE).commitment, row, values_of(1, 64), node(2).commitment)
    with pytest.raises(DataError, match=rf"expected a row in \[0, 64\), got {row}"):
        kzg.open_row(node(NODE).blob, row)


@pytest.mark.parametrize("count", [0, 63, 65])
def test_a_row_has_64_values(count: int) -> None:
    with pytest.raises(EvidenceError, match=f"expected 64 values, got {count}"):
        kzg.verify_row(node(NODE).commitment, 0, values_of(1, count), node(2).commitment)


def test_values_and_points_of_a_row_are_checked() -> None:
    values = list(row_values())
    for given, commitment, proof, message in (
        (
            [*values[:5], field.MODULUS, *values[6:]],
            node(NODE).commitment,
            node(2).commitment,
            "KZG value 5: ",
        ),
        (values, INFINITY, node(2).commitment, "KZG commitment: the point at infinity"),
        (values, ORDER_3, node(2).commitment, "KZG commitment: not a point"),
        (values, node(NODE).commitment, ORDER_3, "KZG proof: not a point"),
    ):
        with pytest.raises(EvidenceError, match=message):
            kzg.verify_row(commitment, ROW, given, proof)


@pytest.mark.parametrize("length", [0, 131_071, 131_073])
def test_a_node_has_one_length(length: int) -> None:
    for act in (kzg.commit, lambda blob: kzg.open_point(blob, 0), lambda blob: kzg.open_row(blob, 0)):
        with pytest.raises(DataError, match=f"expected 131072 bytes, got {length}"):
            act(bytes(length))


@pytest.mark.parametrize("value", [field.MODULUS, field.MODULUS + 1, 2**256 - 1])
def test_elements_beyond_the_modulus_are_refused(value: int) -> None:
    blob = bytearray(node(NODE).blob)
    blob[32 * 70 : 32 * 71] = value.to_bytes(32, "big")
    for act in (kzg.commit, lambda blob: kzg.open_point(blob, 0), lambda blob: kzg.open_row(blob, 0)):
        with pytest.raises(DataError, match=f"value 70 is not below r: {value:064x}"):
            act(bytes(blob))


def test_a_node_of_zeros_commits_to_nothing() -> None:
    with pytest.raises(DataError, match="all its values are 0"):
        kzg.commit(bytes(131_072))


@pytest.mark.parametrize("position", [-1, 4096])
def test_places_outside_the_node_do_not_open(position: int) -> None:
    with pytest.raises(DataError, match=rf"a position in \[0, 4096\), got {position}"):
        kzg.open_point(node(NODE).blob, position)


def test_an_update_is_the_commitment_of_the_new_node() -> None:
    one = node(NODE)
    for position, new in ((0, 0), (1, field.MODULUS - 1), (77, one.values[77]), (4095, 12)):
        values = list(one.values)
        values[position] = new
        updated = kzg.update(one.commitment, position, one.values[position], new)
        assert updated == kzg.commit(kzg.packed(values))


def test_updates_are_checked() -> None:
    single = kzg.commit(kzg.packed([0, 7] + [0] * 4094))
    for commitment, position, old, new, message in (
        (single, 4096, 0, 1, r"a position in \[0, 4096\)"),
        (single, 0, -1, 1, "KZG value 0"),
        (single, 0, 0, field.MODULUS, "KZG value 1"),
        (INFINITY, 0, 0, 1, "the point at infinity"),
        (ORDER_3, 0, 0, 1, "not a point of the group"),
        (single, 1, 7, 0, "all its values are 0"),
    ):
        with pytest.raises(DataError, match=message):
            kzg.update(commitment, position, old, new)


def test_the_input_of_the_precompile_has_its_layout() -> None:
    one, position = node(NODE), 65
    proof = kzg.open_point(one.blob, position)
    given = kzg.point_evaluation_input(one.commitment, position, one.values[position], proof)
    assert len(given) == 192
    assert given[:32] == b"\x01" + hashlib.sha256(one.commitment).digest()[1:]
    assert int.from_bytes(given[32:64], "big") == field.point(position)
    assert int.from_bytes(given[64:96], "big") == one.values[position]
    assert given[96:] == one.commitment + proof
    with pytest.raises(BindingError):
        kzg.point_evaluation_input(one.commitment, position, one.values[position] ^ 1, proof)
