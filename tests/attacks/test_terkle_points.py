"""A proof brings points and numbers that are none, or that make a false equation hold."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import py_arkworks_bls12381 as bls
import pytest
from kzg_nodes import INFINITY, ORDER_3, node, respelled_points
from trees import opened, tree_of

from palm_torch.commit import curve, field, kzg, shplonk, terkle
from palm_torch.commit.grid import Grid
from palm_torch.commit.terkle import Context
from palm_torch.errors import BindingError, DataError, EvidenceError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_torch.commit.terkle import Opening, Tree

CONTEXT = Context("w", "uint8", Grid((128,), (1,)), "kzg")
POINT = [(9,)]
ROW = [(slice(64, 128),)]
SETS = [(3,), (100,)]


@pytest.fixture(scope="module")
def tree() -> Tree:
    return tree_of(CONTEXT)


@pytest.fixture(params=[POINT, ROW, SETS], ids=["point", "row", "sets"])
def regions(request: pytest.FixtureRequest) -> list[tuple[slice, ...]]:
    found: list[tuple[slice, ...]] = request.param
    return found


def with_point(opening: Opening, place: int, point: bytes) -> Opening:
    proof = opening.proof
    return dataclasses.replace(opening, proof=proof[: 48 * place] + point + proof[48 * place + 48 :])


def places(opening: Opening) -> range:
    return range(len(opening.proof) // 48)


def refused(tree: Tree, regions: list[tuple[slice, ...]], opening: Opening, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        terkle.verify(tree.root(), CONTEXT, regions, opening)


def test_attack_66_points_of_order_3(tree: Tree, regions: list[tuple[slice, ...]]) -> None:
    """Each point of the proof in turn, moved by a point that vanishes in every third equation."""
    opening = opened(tree, regions)
    small = bls.G1Point.from_xy_bytes_unchecked_be(bytes(95) + b"\x02")
    for place in places(opening):
        genuine = bls.G1Point.from_compressed_bytes(opening.proof[48 * place : 48 * place + 48])
        moved = (genuine + small).to_compressed_bytes()
        assert moved != opening.proof[48 * place : 48 * place + 48]
        for point in (moved, ORDER_3):
            refused(tree, regions, with_point(opening, place, point), "not a point of the group")


def test_attack_66_what_such_a_point_would_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: without the check of the group a second proof holds where its factor is a multiple of 3."""
    one = node(1)
    place = next(at for at in range(kzg.WIDTH) if field.point(at) % 3 == 0)
    small = bls.G1Point.from_xy_bytes_unchecked_be(bytes(95) + b"\x02")
    proof = bls.G1Point.from_compressed_bytes(kzg.open_point(one.blob, place))
    moved = (proof + small).to_compressed_bytes()

    def unchecked(data: bytes, **_: object) -> bls.G1Point:
        return bls.G1Point.from_compressed_bytes_unchecked(data)

    with monkeypatch.context() as patched:
        patched.setattr(curve, "decoded", unchecked)
        kzg.verify_point(one.commitment, place, one.values[place], moved)
    with pytest.raises(EvidenceError, match="not a point of the group"):
        kzg.verify_point(one.commitment, place, one.values[place], moved)


def test_attack_66_infinity_as_a_commitment(tree: Tree, regions: list[tuple[slice, ...]]) -> None:
    opening = opened(tree, regions)
    refused(tree, regions, with_point(opening, 0, INFINITY), "point at infinity, which commits to nothing")


def test_attack_66_infinity_for_everything(tree: Tree, regions: list[tuple[slice, ...]]) -> None:
    """Zero equals zero in the pairing equation, if a commitment to nothing is let in."""
    opening = opened(tree, regions)
    for place in places(opening):
        opening = with_point(opening, place, INFINITY)
    refused(tree, regions, opening, "point at infinity")


def test_attack_66_infinity_as_a_proof(tree: Tree, regions: list[tuple[slice, ...]]) -> None:
    """Well formed, since the quotient of a constant is zero; it proves nothing of another polynomial."""
    opening = opened(tree, regions)
    for place in places(opening)[1:]:
        with pytest.raises(BindingError):
            terkle.verify(tree.root(), CONTEXT, regions, with_point(opening, place, INFINITY))


def spellings(point: bytes) -> Iterator[bytes]:
    """Yields other encodings that a careless reader takes for the same point, or for infinity."""
    yield bytes([point[0] & 0x7F]) + point[1:]  # not marked as compressed
    yield bytes([point[0] | 0x40]) + point[1:]  # marked as infinity
    yield b"\xc0" + bytes(46) + b"\x01"
    yield b"\xe0" + bytes(47)  # infinity with a sign
    yield b"\x40" + bytes(47)


def test_attack_66_other_spellings(tree: Tree, regions: list[tuple[slice, ...]]) -> None:
    opening = opened(tree, regions)
    for place in places(opening):
        genuine = opening.proof[48 * place : 48 * place + 48]
        for spelled in (*spellings(genuine), *respelled_points(3)):
            refused(
                tree, regions, with_point(opening, place, spelled), r"not (a point|the canonical encoding)"
            )


@pytest.mark.parametrize("value", [field.MODULUS, field.MODULUS + 5, 2**256 - 1, -1])
def test_attack_67_numbers_that_are_no_field_elements(value: int) -> None:
    """r + 5 stands for 5 in every equation: a value has one form."""
    one = node(1)
    proof = kzg.open_point(one.blob, 9)
    with pytest.raises(EvidenceError, match=r"an integer in \[0, r\)"):
        kzg.verify_point(one.commitment, 9, value, proof)
    with pytest.raises(EvidenceError, match=r"an integer in \[0, r\)"):
        kzg.verify_row(one.commitment, 0, (value, *one.values[1:64]), proof)
    with pytest.raises(EvidenceError, match=r"an integer in \[0, r\)"):
        shplonk.verify_sets([shplonk.Claim(one.commitment, (9,), (value,))], b"", proof * 2)
    if 0 <= value < 2**256:
        with pytest.raises(DataError, match="not below r"):
            kzg.commit(value.to_bytes(32, "big") + one.blob[32:])


@pytest.mark.parametrize("cell", [64, 100, 127, 128, -1])
def test_attack_67_the_other_half_of_the_cells(cell: int) -> None:
    """EIP-7594 extends a blob by as many cells again: honest proofs about values that are no child's."""
    import ckzg

    from palm_torch.commit import proving

    one = node(1)
    cells, proofs = ckzg.compute_cells_and_kzg_proofs(one.blob, proving.settings())
    at = cell % 128
    values = [int.from_bytes(cells[at][start : start + 32], "big") for start in range(0, 2048, 32)]
    if 0 <= cell < 128:
        assert ckzg.verify_cell_kzg_proof_batch(
            [one.commitment], [cell], [cells[cell]], [proofs[cell]], proving.settings()
        )
    with pytest.raises(EvidenceError, match=r"a row in \[0, 64\)"):
        kzg.verify_row(one.commitment, cell, values, proofs[at])


def test_attack_67_a_place_outside_the_node() -> None:
    one = node(1)
    proof = kzg.open_point(one.blob, 9)
    for place in (4096, 4096 + 9, -4087):
        with pytest.raises(EvidenceError, match=r"a position in \[0, 4096\)"):
            kzg.verify_point(one.commitment, place, one.values[9], proof)
        with pytest.raises(EvidenceError, match="ascending places"):
            shplonk.verify_sets([shplonk.Claim(one.commitment, (place,), (one.values[9],))], b"", proof * 2)
