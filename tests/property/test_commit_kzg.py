"""Laws of KZG openings: whatever opens verifies, and nothing else does."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kzg_nodes import node

from palm_torch.commit import field, kzg, shplonk, vanishing
from palm_torch.errors import BindingError, EvidenceError

places = st.one_of(
    st.sets(st.integers(0, 4095), min_size=1, max_size=12),
    st.tuples(st.integers(0, 4000), st.integers(1, 90)).map(lambda run: set(range(run[0], run[0] + run[1]))),
    st.integers(0, 63).map(lambda column: set(range(column, 4096, 64))),
).map(lambda chosen: tuple(sorted(chosen)))

openings = st.lists(
    st.tuples(st.integers(41, 44), places), min_size=1, max_size=3, unique_by=lambda one: one[0]
)


@settings(max_examples=12)
@given(openings, st.binary(max_size=40), st.data())
def test_sets_open_and_one_change_is_refused(
    chosen: list[tuple[int, tuple[int, ...]]], context: bytes, data: st.DataObject
) -> None:
    polynomials = [(node(seed).commitment, node(seed).blob, positions) for seed, positions in chosen]
    claims = [
        shplonk.Claim(node(seed).commitment, positions, tuple(node(seed).values[p] for p in positions))
        for seed, positions in chosen
    ]
    proof = shplonk.open_sets(polynomials, context)
    shplonk.verify_sets(claims, context, proof)

    which = data.draw(st.integers(0, len(claims) - 1))
    one = claims[which]
    at = data.draw(st.integers(0, len(one.positions) - 1))
    value = data.draw(st.integers(0, field.MODULUS - 1).filter(lambda value: value != one.values[at]))
    place = data.draw(st.integers(0, 4095).filter(lambda place: place not in one.positions))
    values = (*one.values[:at], value, *one.values[at + 1 :])
    moved = (*one.positions[:at], place, *one.positions[at + 1 :])
    order = sorted(range(len(moved)), key=moved.__getitem__)
    for changed in (
        dataclasses.replace(one, values=values),
        shplonk.Claim(one.commitment, tuple(moved[i] for i in order), tuple(one.values[i] for i in order)),
        dataclasses.replace(one, commitment=node(45).commitment),
    ):
        with pytest.raises(BindingError):
            shplonk.verify_sets([*claims[:which], changed, *claims[which + 1 :]], context, proof)
    bit = data.draw(st.integers(0, 8 * 96 - 1))
    flipped = bytearray(proof)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises((BindingError, EvidenceError)):
        shplonk.verify_sets(claims, context, bytes(flipped))
    flipped = bytearray(one.commitment)
    flipped[bit // 8 % 48] ^= 1 << bit % 8
    changed = dataclasses.replace(one, commitment=bytes(flipped))
    with pytest.raises((BindingError, EvidenceError)):
        shplonk.verify_sets([*claims[:which], changed, *claims[which + 1 :]], context, proof)


@settings(max_examples=12)
@given(st.integers(0, 4095), st.integers(0, 8 * 48 - 1))
def test_a_place_opens_and_one_flipped_bit_is_refused(position: int, bit: int) -> None:
    one = node(41)
    proof = kzg.open_point(one.blob, position)
    kzg.verify_point(one.commitment, position, one.values[position], proof)
    flips = [bytearray(one.commitment), bytearray(proof)]
    for flipped in flips:
        flipped[bit // 8] ^= 1 << bit % 8
    for commitment, witness in ((bytes(flips[0]), proof), (one.commitment, bytes(flips[1]))):
        with pytest.raises((BindingError, EvidenceError)):
            kzg.verify_point(commitment, position, one.values[position], witness)


@settings(max_examples=8)
@given(st.integers(0, 63), st.integers(0, 64 * 254 - 1))
def test_a_row_opens_and_one_flipped_bit_is_refused(row: int, bit: int) -> None:
    one = node(41)
    values, proof = list(one.values[64 * row : 64 * row + 64]), kzg.open_row(one.blob, row)
    kzg.verify_row(one.commitment, row, values, proof)
    values[bit // 254] ^= 1 << bit % 254
    with pytest.raises((BindingError, EvidenceError)):
        kzg.verify_row(one.commitment, row, values, proof)


@settings(max_examples=12)
@given(st.lists(st.tuples(st.integers(0, 4095), st.integers(0, field.MODULUS - 1)), min_size=1, max_size=6))
def test_updates_in_any_number_are_the_new_commitment(changes: list[tuple[int, int]]) -> None:
    values, commitment = list(node(41).values), node(41).commitment
    for position, new in changes:
        commitment = kzg.update(commitment, position, values[position], new)
        values[position] = new
    assert commitment == kzg.commit(kzg.packed(values))


@given(places)
def test_runs_cover_exactly_the_places(chosen: tuple[int, ...]) -> None:
    runs = vanishing.of(chosen).runs
    assert tuple(i for run in runs for i in range(run.start, run.start + run.length)) == chosen
    assert all(run.start % run.length == 0 and run.length.bit_count() == 1 for run in runs)


@settings(max_examples=30)
@given(
    st.binary(max_size=200),
    st.binary(max_size=60),
    st.binary(max_size=60),
    st.integers(-5, 5000),
    st.integers(),
)
def test_only_our_own_errors_leave_a_verifier(
    proof: bytes, commitment: bytes, context: bytes, position: int, value: int
) -> None:
    with pytest.raises(EvidenceError):
        kzg.verify_point(commitment, position, value, proof)
    with pytest.raises(EvidenceError):
        kzg.verify_row(commitment, position, [value] * 64, proof)
    with pytest.raises(EvidenceError):
        shplonk.verify_sets([shplonk.Claim(commitment, (position,), (value,))], context, proof)
