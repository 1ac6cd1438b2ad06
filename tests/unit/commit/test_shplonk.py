"""Many places of many nodes under one proof: what holds, and every way not to."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
from kzg_nodes import INFINITY, ORDER_3, node, respelled_points

from palm_torch.commit import field, kzg, proving, shplonk
from palm_torch.commit.shplonk import Claim
from palm_torch.errors import BindingError, DataError, EvidenceError, SealError

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTEXT = bytes(range(32))

SHAPES: dict[str, list[tuple[int, ...]]] = {
    "one place": [(5,)],
    "a path": [(5,), (4095,)],
    "row": [tuple(range(64, 128))],
    "column and a path": [tuple(range(7, 4096, 64)), (0,), (63,)],
    "block": [tuple(64 * row + column for row in range(3, 7) for column in range(3, 7)), (2, 3)],
    "whole": [tuple(range(4096))],
    "whole and a place": [tuple(range(4096)), (9,)],
}


def polynomials_of(shape: Sequence[tuple[int, ...]]) -> list[tuple[bytes, bytes, tuple[int, ...]]]:
    nodes = [node(seed) for seed in range(1, len(shape) + 1)]
    return [(one.commitment, one.blob, places) for one, places in zip(nodes, shape, strict=True)]


def claims_of(shape: Sequence[tuple[int, ...]]) -> list[Claim]:
    nodes = [node(seed) for seed in range(1, len(shape) + 1)]
    return [
        Claim(one.commitment, places, tuple(one.values[place] for place in places))
        for one, places in zip(nodes, shape, strict=True)
    ]


PLACES = [(3, 4, 70), (9,)]


@pytest.fixture(scope="module")
def proof() -> bytes:
    return shplonk.open_sets(polynomials_of(PLACES), CONTEXT)


def test_a_known_answer(proof: bytes) -> None:
    assert proof.hex() == (
        "969a7ad7d51f99f1eb6c867fe4512b44ac4ebdf69827d9a747d82c379e2f8f30d264f310b449c67ab223111fbc4f0ef8"
        "a2f9a585961110718b82b7b0d03774513a55219f2a307c22553fe4c8694ae63bc2fb57ab81314fefa5a53051299549af"
    )


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_opens_in_96_bytes(name: str) -> None:
    proof = shplonk.open_sets(polynomials_of(SHAPES[name]), CONTEXT)
    assert len(proof) == 96
    shplonk.verify_sets(claims_of(SHAPES[name]), CONTEXT, proof)
    changed = claims_of(SHAPES[name])
    *values, last = changed[0].values
    changed[0] = dataclasses.replace(changed[0], values=(*values, last ^ 1))
    with pytest.raises(BindingError, match=f"KZG opening of {len(changed)} nodes: not the values"):
        shplonk.verify_sets(changed, CONTEXT, proof)


def test_a_whole_node_leaves_no_quotient() -> None:
    proof = shplonk.open_sets(polynomials_of(SHAPES["whole"]), CONTEXT)
    assert proof[:48] == INFINITY


def test_other_claims_are_not_proved(proof: bytes) -> None:
    one, two = claims_of(PLACES)
    others = {
        "order": [two, one],
        "fewer": [one],
        "value": [dataclasses.replace(one, values=(*one.values[:2], 0)), two],
        "values swapped": [
            dataclasses.replace(one, values=(one.values[1], one.values[0], one.values[2])),
            two,
        ],
        "place": [dataclasses.replace(one, positions=(3, 5, 70)), two],
        "fewer places": [Claim(one.commitment, one.positions[:2], one.values[:2]), two],
        "commitments swapped": [
            dataclasses.replace(one, commitment=two.commitment),
            dataclasses.replace(two, commitment=one.commitment),
        ],
        "commitment": [one, dataclasses.replace(two, commitment=node(3).commitment)],
    }
    shplonk.verify_sets([one, two], CONTEXT, proof)
    for claims in others.values():
        with pytest.raises(BindingError):
            shplonk.verify_sets(claims, CONTEXT, proof)


@pytest.mark.parametrize("context", [b"", bytes(32), CONTEXT[:-1], CONTEXT + b"\x00"])
def test_another_context_is_not_proved(context: bytes, proof: bytes) -> None:
    with pytest.raises(BindingError):
        shplonk.verify_sets(claims_of(PLACES), context, proof)


def test_halves_swapped_or_borrowed(proof: bytes) -> None:
    other = shplonk.open_sets(polynomials_of([(1,)]), CONTEXT)
    for given in (
        proof[48:] + proof[:48],
        proof[:48] * 2,
        INFINITY * 2,
        INFINITY + proof[48:],
        proof[:48] + INFINITY,
        other[:48] + proof[48:],
        proof[:48] + other[48:],
    ):
        with pytest.raises(BindingError):
            shplonk.verify_sets(claims_of(PLACES), CONTEXT, given)


@pytest.mark.parametrize("change", [b"", b"\x00", None])
def test_a_proof_has_96_bytes(change: bytes | None, proof: bytes) -> None:
    given = b"" if change is None else proof[:-1] if not change else proof + change
    with pytest.raises(EvidenceError, match=f"expected a proof of 96 bytes, got {len(given)}"):
        shplonk.verify_sets(claims_of(PLACES), CONTEXT, given)


@pytest.mark.parametrize(
    "point", [ORDER_3, bytes(48), *respelled_points(1)], ids=["order 3", "zeros", "x beyond p"]
)
def test_points_outside_the_group_are_refused(point: bytes, proof: bytes) -> None:
    one, two = claims_of(PLACES)
    for claims, given, what in (
        ([one, dataclasses.replace(two, commitment=point)], proof, "KZG commitment of claim 1"),
        ([one, two], point + proof[48:], "KZG proof, first half"),
        ([one, two], proof[:48] + point, "KZG proof, second half"),
    ):
        with pytest.raises(EvidenceError, match=f"^{what}: not "):
            shplonk.verify_sets(claims, CONTEXT, given)


def malformed(one: Claim, two: Claim) -> dict[str, tuple[list[Claim], str]]:
    def changed(**parts: object) -> list[Claim]:
        return [dataclasses.replace(one, **parts), two]  # type: ignore[arg-type]

    return {
        "no claims": ([], "got 0 nodes and 0 places"),
        "no places": (changed(positions=(), values=()), "at least one, got 0: "),
        "repeated": (changed(positions=(3, 3, 70)), "expected ascending places"),
        "descending": (changed(positions=(4, 3, 70)), "got 3: 4, 3, 70"),
        "below": (changed(positions=(-1, 3, 70)), r"places in \[0, 4096\)"),
        "above": (changed(positions=(3, 4, 4096)), r"places in \[0, 4096\)"),
        "a value too few": (
            changed(values=one.values[:2]),
            "claim 0: expected a value for each of 3 places, got 2",
        ),
        "a value too many": (changed(values=(*one.values, 1)), "for each of 3 places, got 4"),
        "value above": (
            changed(values=(1, 2, field.MODULUS)),
            r"KZG value 2: expected an integer in \[0, r\)",
        ),
        "value below": (changed(values=(1, -2, 3)), "KZG value 1: "),
        "commitment short": (changed(commitment=bytes(47)), "claim 0: expected 48 bytes, got 47"),
        "commitment at infinity": (changed(commitment=INFINITY), "claim 0: the point at infinity"),
        "one commitment twice": ([one, dataclasses.replace(two, commitment=one.commitment)], "comes twice"),
    }


@pytest.mark.parametrize("name", malformed(Claim(b"", (), ()), Claim(b"", (), ())))
def test_malformed_claims_are_refused(name: str, proof: bytes) -> None:
    claims, message = malformed(*claims_of(PLACES))[name]
    with pytest.raises(EvidenceError, match=message):
        shplonk.verify_sets(claims, CONTEXT, proof)


def test_too_many_places_are_refused_before_any_work(proof: bytes) -> None:
    places = tuple(range(4096))
    claims = [Claim(b"", places, ())] * 256
    with pytest.raises(EvidenceError, match="claim 0: expected 48 bytes, got 0"):
        shplonk.verify_sets(claims, CONTEXT, proof)
    claims.append(Claim(b"", (0,), ()))
    with pytest.raises(EvidenceError, match="at most 1048576 places, got 257 nodes and 1048577 places"):
        shplonk.verify_sets(claims, CONTEXT, proof)
    with pytest.raises(DataError, match="at most 1048576 places"):
        shplonk.open_sets([(b"", b"", claim.positions) for claim in claims], CONTEXT)


def test_what_cannot_be_opened() -> None:
    one = node(1)
    for polynomials, message in (
        ([], "got 0 nodes"),
        ([(one.commitment, one.blob, ())], "at least one, got 0"),
        ([(one.commitment, one.blob, (4096,))], r"places in \[0, 4096\)"),
        ([(one.commitment, one.blob, (2, 1))], "ascending"),
        ([(one.commitment, one.blob[:-1], (1,))], "expected 131072 bytes"),
        ([(one.commitment[:-1], one.blob, (1,))], "expected 48 bytes, got 47"),
        ([(one.commitment, one.blob, (1,)), (one.commitment, one.blob, (2,))], "comes twice"),
    ):
        with pytest.raises(DataError, match=message):
            shplonk.open_sets(polynomials, CONTEXT)


def test_a_wrong_commitment_proves_nothing() -> None:
    one, other = node(1), node(2)
    proof = shplonk.open_sets([(other.commitment, one.blob, (1,))], CONTEXT)
    for commitment in (one.commitment, other.commitment):
        with pytest.raises(BindingError):
            shplonk.verify_sets([Claim(commitment, (1,), (one.values[1],))], CONTEXT, proof)


def test_a_challenge_among_the_points_is_refused(proof: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kzg, "hash_to_field", lambda _: field.point(70))
    with pytest.raises(EvidenceError, match="one of the 4096 points"):
        shplonk.verify_sets(claims_of(PLACES), CONTEXT, proof)
    with pytest.raises(DataError, match="one of the 4096 points"):
        shplonk.open_sets(polynomials_of(PLACES), CONTEXT)


def test_a_machine_that_errs_gives_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "point_proof", lambda _blob, _at: (INFINITY, 1))
    with pytest.raises(SealError, match="not zero at the challenge"):
        shplonk.open_sets(polynomials_of(PLACES), CONTEXT)
