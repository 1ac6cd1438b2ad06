"""The input for Ethereum's precompile, given to a plain restatement of EIP-4844 on a third curve library."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from kzg_nodes import node
from third_curve import (
    FQ12,
    G1,
    G2,
    add,
    curve_order,
    deep_recursion,
    final_exponentiate,
    multiply,
    neg,
    pairing,
    pubkey_to_G1,
    signature_to_G2,
)

from palm_torch.commit import ceremony, kzg

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _deep() -> Iterator[None]:
    with deep_recursion():
        yield


def accepts(data: bytes) -> bool:
    """Says what ``point_evaluation_precompile`` of EIP-4844 says, line by line."""
    if len(data) != 192:
        return False
    versioned_hash, z, y, commitment, proof = data[:32], data[32:64], data[64:96], data[96:144], data[144:]
    if b"\x01" + hashlib.sha256(commitment).digest()[1:] != versioned_hash:
        return False
    z, y = int.from_bytes(z, "big"), int.from_bytes(y, "big")
    if max(z, y) >= curve_order:
        return False
    x_minus_z = add(signature_to_G2(ceremony.g2_power(1)), multiply(G2, curve_order - z))
    p_minus_y = add(pubkey_to_G1(commitment), multiply(G1, curve_order - y))
    left = pairing(neg(G2), p_minus_y, final_exponentiate=False)
    right = pairing(x_minus_z, pubkey_to_G1(proof), final_exponentiate=False)
    return final_exponentiate(left * right) == FQ12.one()


@pytest.fixture(scope="module")
def given() -> bytes:
    one = node(21)
    return kzg.point_evaluation_input(one.commitment, 1234, one.values[1234], kzg.open_point(one.blob, 1234))


def test_a_contract_accepts_the_opening(given: bytes) -> None:
    assert accepts(given)


@pytest.mark.parametrize("at", [5, 40, 95])
def test_a_contract_refuses_a_changed_one(at: int, given: bytes) -> None:
    changed = bytearray(given)
    changed[at] ^= 1
    assert not accepts(bytes(changed))
    assert not accepts(given[:-1])
