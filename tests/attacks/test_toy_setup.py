"""Someone knows the number behind a KZG setup of their own, and opens a commitment to anything with it."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Final

import py_arkworks_bls12381 as bls
import pytest
from kzg_nodes import ORDER_3, node

import palm_torch
from palm_torch.commit import field, kzg, shplonk
from palm_torch.errors import BindingError, EvidenceError

R: Final = field.MODULUS
TAU: Final = 0xC0FFEE
"""What the attacker knows of their own setup."""

PACKAGE: Final = Path(palm_torch.__file__).parent

DECODES: Final = frozenset({"from_compressed_bytes"})
"""What the package may do in G2: a setup's verifying half is arithmetic there."""


def scaled(scalar: int) -> bls.G1Point:
    return bls.G1Point() * bls.Scalar(scalar % R)


def forged(committed: int, value: int, z: int) -> bytes:
    """Returns the proof that the constant polynomial `committed` has another value at z, in the toy setup."""
    return scaled((committed - value) * pow(TAU - z, -1, R)).to_compressed_bytes()


def test_a_forgery_holds_in_its_own_setup_and_nowhere_else() -> None:
    committed, value, z = 5, 6, field.point(9)
    commitment, proof = scaled(committed).to_compressed_bytes(), forged(5, 6, z)
    left = bls.G1Point.from_compressed_bytes(commitment) - scaled(value)
    right = bls.G1Point.from_compressed_bytes(proof)
    toy = bls.G2Point() * bls.Scalar(TAU) - bls.G2Point() * bls.Scalar(z)
    assert bls.GT.pairing_check([left, -right], [bls.G2Point(), toy])
    with pytest.raises(BindingError):
        kzg.verify_point(commitment, 9, value, proof)


def test_no_function_takes_a_setup() -> None:
    arguments = {
        name
        for module in (kzg, shplonk)
        for function in vars(module).values()
        if inspect.isfunction(function) and function.__module__ == module.__name__
        for name in inspect.signature(function).parameters
    }
    assert {"blob", "proof", "context"} <= arguments
    assert not arguments & {"srs", "setup", "settings", "tau", "secret", "path"}


def makes_a_setup(source: str) -> list[str]:
    """Returns what in a module could make or bring powers other than the pinned ones."""
    found: list[str] = []
    if "G2Point" not in source and "load_trusted_setup" not in source:
        return found
    for node_ in ast.walk(ast.parse(source)):
        if isinstance(node_, ast.Attribute):
            parent = node_.value
            in_g2 = isinstance(parent, ast.Attribute) and parent.attr == "G2Point"
            if (in_g2 and node_.attr not in DECODES) or node_.attr == "load_trusted_setup":
                found.append(ast.unparse(node_))
        if isinstance(node_, ast.Call) and ast.unparse(node_.func).endswith("G2Point"):
            found.append(ast.unparse(node_))
    return found


def test_nothing_in_the_package_makes_one() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix(): makes
        for path in sorted(PACKAGE.rglob("*.py"))
        if (makes := makes_a_setup(path.read_text(encoding="utf-8")))
    }
    assert found == {"commit/proving.py": ["ckzg.load_trusted_setup"]}  # of the bytes that were hashed


@pytest.mark.parametrize(
    "line",
    [
        "h = curve.G2Point() * curve.Scalar(tau)",
        "h = curve.G2Point.multiexp_unchecked(points, powers)",
        "h = library().G2Point.hash_to_curve(b'', b'')",
        "s = ckzg.load_trusted_setup('mine.txt', 0)",
    ],
)
def test_twin_one_would_be_found(line: str) -> None:
    assert makes_a_setup(line)


def test_a_point_of_order_3_added_to_a_commitment_is_refused() -> None:
    """Such a point vanishes from an equation in which its factor happens to be a multiple of 3."""
    one = node(1)
    small = bls.G1Point.from_xy_bytes_unchecked_be(bytes(95) + b"\x02")
    assert small.to_compressed_bytes() == ORDER_3
    assert small + small + small == bls.G1Point.identity()
    shifted = (bls.G1Point.from_compressed_bytes(one.commitment) + small).to_compressed_bytes()
    proof = kzg.open_point(one.blob, 9)
    sets = shplonk.open_sets([(one.commitment, one.blob, (9,))], b"")
    values = (one.values[9],)
    with pytest.raises(EvidenceError, match="not a point of the group"):
        kzg.verify_point(shifted, 9, one.values[9], proof)
    with pytest.raises(EvidenceError, match="not a point of the group"):
        shplonk.verify_sets([shplonk.Claim(shifted, (9,), values)], b"", sets)
    for half in (0, 48):
        witness = bls.G1Point.from_compressed_bytes(sets[half : half + 48]) + small
        given = sets[:half] + witness.to_compressed_bytes() + sets[half + 48 :]
        with pytest.raises(EvidenceError, match="not a point of the group"):
            shplonk.verify_sets([shplonk.Claim(one.commitment, (9,), values)], b"", given)
