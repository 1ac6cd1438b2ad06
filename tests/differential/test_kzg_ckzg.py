"""One node against the reference library of EIP-4844 and EIP-7594, both ways."""

from __future__ import annotations

import random

import ckzg
import pytest
from kzg_nodes import INFINITY, ORDER_3, node

from palm_torch.commit import field, kzg, proving
from palm_torch.errors import BindingError, EvidenceError

CELLS = 128


def encoded(value: int) -> bytes:
    return value.to_bytes(32, "big")


@pytest.mark.parametrize("seed", [11, 12])
def test_commitments_are_those_of_the_blob(seed: int) -> None:
    one = node(seed)
    assert one.commitment == ckzg.blob_to_kzg_commitment(one.blob, proving.settings())


@pytest.mark.parametrize("position", random.Random(4).sample(range(4096), 4))
def test_proofs_of_a_place_both_ways(position: int) -> None:
    one, settings, z = node(11), proving.settings(), encoded(field.point(position))
    proof = kzg.open_point(one.blob, position)
    theirs, value = ckzg.compute_kzg_proof(one.blob, z, settings)
    assert (proof, one.values[position]) == (theirs, int.from_bytes(value, "big"))
    assert ckzg.verify_kzg_proof(one.commitment, z, encoded(one.values[position]), proof, settings)
    kzg.verify_point(one.commitment, position, one.values[position], theirs)
    wrong = one.values[position] ^ 1
    assert not ckzg.verify_kzg_proof(one.commitment, z, encoded(wrong), proof, settings)
    with pytest.raises(BindingError):
        kzg.verify_point(one.commitment, position, wrong, proof)


def test_proofs_at_any_element() -> None:
    one = node(11)
    for z in (0, 2, field.MODULUS - 2, kzg.hash_to_field(b"z")):
        proof, value = proving.point_proof(one.blob, z)
        arguments = (one.commitment, encoded(z), encoded(value), proof)
        assert ckzg.verify_kzg_proof(*arguments, proving.settings())


def test_rows_both_ways() -> None:
    one, settings = node(11), proving.settings()
    cells, proofs = ckzg.compute_cells_and_kzg_proofs(one.blob, settings)
    for row in (0, 1, 5, 40, 63):
        proof, values = kzg.open_row(one.blob, row), one.values[64 * row : 64 * row + 64]
        assert proof == proofs[row]
        assert kzg.packed(values) == cells[row]
        assert ckzg.verify_cell_kzg_proof_batch([one.commitment], [row], [cells[row]], [proof], settings)
        kzg.verify_row(one.commitment, row, values, proofs[row])


@pytest.mark.parametrize("cell", [64, 77, 127])
def test_cells_of_the_redundant_half_hold_for_ethereum_and_are_no_rows(cell: int) -> None:
    one, settings = node(11), proving.settings()
    cells, proofs = ckzg.compute_cells_and_kzg_proofs(one.blob, settings)
    assert len(cells) == CELLS
    assert ckzg.verify_cell_kzg_proof_batch([one.commitment], [cell], [cells[cell]], [proofs[cell]], settings)
    values = [int.from_bytes(cells[cell][at : at + 32], "big") for at in range(0, 2048, 32)]
    with pytest.raises(EvidenceError, match="expected a row"):
        kzg.verify_row(one.commitment, cell, values, proofs[cell])
    with pytest.raises(BindingError):
        kzg.verify_row(one.commitment, cell - 64, values, proofs[cell])


@pytest.mark.parametrize("point", [ORDER_3, bytes(48), b"\xff" * 48], ids=["order 3", "zeros", "ones"])
def test_both_refuse_the_same_points(point: bytes) -> None:
    one = node(11)
    for commitment, proof in ((point, one.commitment), (one.commitment, point)):
        with pytest.raises(RuntimeError):
            ckzg.verify_kzg_proof(commitment, encoded(1), encoded(1), proof, proving.settings())
        with pytest.raises(EvidenceError):
            kzg.verify_point(commitment, 0, 1, proof)


def test_infinity_is_a_commitment_there_and_none_here() -> None:
    assert ckzg.verify_kzg_proof(INFINITY, encoded(1), encoded(0), INFINITY, proving.settings())
    with pytest.raises(EvidenceError, match="infinity"):
        kzg.verify_point(INFINITY, 0, 0, INFINITY)


def test_both_refuse_elements_beyond_the_modulus() -> None:
    one = node(11)
    with pytest.raises(RuntimeError):
        ckzg.verify_kzg_proof(
            one.commitment, encoded(1), encoded(field.MODULUS), one.commitment, proving.settings()
        )
    with pytest.raises(EvidenceError):
        kzg.verify_point(one.commitment, 0, field.MODULUS, one.commitment)
