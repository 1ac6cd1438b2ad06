"""A proof for many places, recomputed step by step from its description in plain integers.

Only the commitments of the two resulting polynomials come from a library. The quotients come from values
(never from coefficients, as in the library), the challenges from bytes that are put together here.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import ckzg
import pytest
from kzg_nodes import node
from third_curve import G1, G1_to_pubkey, add, deep_recursion, multiply, pubkey_to_G1

from palm_torch.commit import proving, shplonk

if TYPE_CHECKING:
    from collections.abc import Iterator

R = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
N = 4096
ROOT = pow(7, (R - 1) // N, R)
X = [pow(ROOT, int(f"{i:012b}"[::-1], 2), R) for i in range(N)]
SRS = bytes.fromhex("d39b9f2d047cc9dca2de58f264b6a09448ccd34db967881a6713eacacf0f26b7")

CASES = {
    "one place": {31: (5,)},
    "two nodes": {31: (5, 4000), 32: (0,)},
    "an aligned run": {31: (8, 9, 10, 11)},
    "three nodes": {33: (1, 2, 3), 31: (4095,), 32: (64, 128)},
}


@pytest.fixture(autouse=True)
def _deep() -> Iterator[None]:
    with deep_recursion():
        yield


def inverse(value: int) -> int:
    return pow(value, -1, R)


def lp(part: bytes) -> bytes:
    return len(part).to_bytes(4, "big") + part


def to_field(data: bytes) -> int:
    return int.from_bytes(hashlib.sha512(data).digest(), "big") % R


def blob_of(values: list[int]) -> bytes:
    return b"".join((value % R).to_bytes(32, "big") for value in values)


def zero_at(places: tuple[int, ...], z: int) -> int:
    product = 1
    for place in places:
        product = product * (z - X[place]) % R
    return product


def interpolant(places: tuple[int, ...], values: tuple[int, ...], z: int) -> int:
    total = 0
    for place in places:
        others = tuple(other for other in places if other != place)
        total += values[place] * zero_at(others, z) * inverse(zero_at(others, X[place]))
    return total % R


def quotient(places: tuple[int, ...], values: tuple[int, ...]) -> list[int]:
    """q(x_j) = sum over s of l_s (f_j - f_s) / (x_j - x_s); at s itself the slope of f is the ratio."""
    total = [0] * N
    for s in places:
        weight = inverse(zero_at(tuple(other for other in places if other != s), X[s]))
        slope = 0
        for j in range(N):
            if j != s:
                ratio = (values[j] - values[s]) * inverse(X[j] - X[s])
                total[j] += weight * ratio
                slope -= X[j] * ratio * inverse(X[s])
        total[s] += weight * slope
    return [value % R for value in total]


def naive_proof(case: dict[int, tuple[int, ...]], context: bytes) -> tuple[bytes, bytes, int]:
    """Returns both halves of the proof and the commitment that the verifier's last step is about, and z."""
    nodes, settings = [node(seed) for seed in case], proving.settings()
    t = lp(SRS) + lp(context) + lp(len(case).to_bytes(4, "big"))
    for one, places in zip(nodes, case.values(), strict=True):
        t += lp(one.commitment) + lp(b"".join(place.to_bytes(2, "big") for place in places))
        t += lp(b"".join(one.values[place].to_bytes(32, "big") for place in places))
    statement = hashlib.sha256(b"palm-torch/kzg-claims/v1" + t).digest()
    gamma = to_field(b"palm-torch/kzg-gamma/v1" + lp(statement))
    h = [0] * N
    for k, (one, places) in enumerate(zip(nodes, case.values(), strict=True)):
        q = quotient(places, one.values)
        h = [a + pow(gamma, k, R) * b for a, b in zip(h, q, strict=True)]
    witness = ckzg.blob_to_kzg_commitment(blob_of(h), settings)
    z = to_field(b"palm-torch/kzg-z/v1" + lp(statement) + lp(gamma.to_bytes(32, "big")) + lp(witness))
    last, constant = [-value for value in h], 0
    folded = multiply(pubkey_to_G1(witness), R - 1)
    for k, (one, places) in enumerate(zip(nodes, case.values(), strict=True)):
        scale = pow(gamma, k, R) * inverse(zero_at(places, z)) % R
        at_z = interpolant(places, one.values, z)
        last = [a + scale * (value - at_z) for a, value in zip(last, one.values, strict=True)]
        constant += scale * at_z
        folded = add(folded, multiply(pubkey_to_G1(one.commitment), scale))
    proof, y = ckzg.compute_kzg_proof(blob_of(last), z.to_bytes(32, "big"), settings)
    assert y == bytes(32)
    folded = add(folded, multiply(G1, -constant % R))
    assert ckzg.verify_kzg_proof(G1_to_pubkey(folded), z.to_bytes(32, "big"), bytes(32), proof, settings)
    return witness, proof, z


@pytest.mark.parametrize("name", CASES)
def test_the_proof_is_the_one_of_its_description(name: str) -> None:
    case = CASES[name]
    nodes = [node(seed) for seed in case]
    witness, last, _ = naive_proof(case, b"a context")
    polynomials = [
        (one.commitment, one.blob, places) for one, places in zip(nodes, case.values(), strict=True)
    ]
    assert shplonk.open_sets(polynomials, b"a context") == witness + last
    claims = [
        shplonk.Claim(one.commitment, places, tuple(one.values[place] for place in places))
        for one, places in zip(nodes, case.values(), strict=True)
    ]
    shplonk.verify_sets(claims, b"a context", witness + last)
