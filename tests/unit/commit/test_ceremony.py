"""The pinned ceremony: its bytes, and by pairings that they are powers of one number."""

from __future__ import annotations

import hashlib
import random
import tomllib
from pathlib import Path

import py_arkworks_bls12381 as bls
import pytest
from kzg_nodes import values_of

from palm_torch.commit import ceremony, curve, field, kzg
from palm_torch.errors import DataError

G1 = bls.G1Point.from_compressed_bytes_unchecked


def combined(points: list[bls.G1Point], scalars: list[int]) -> bls.G1Point:
    return bls.G1Point.multiexp_unchecked(points, [bls.Scalar(scalar) for scalar in scalars])


def test_the_file_is_the_one_that_is_named() -> None:
    assert len(ceremony.text()) == 807_177
    assert hashlib.sha256(ceremony.text()).digest() == ceremony.SRS_ID
    lines = ceremony.text().decode().splitlines()
    assert lines[:2] == ["4096", "65"]
    assert ceremony.lagrange(0).hex() == lines[2]
    assert ceremony.lagrange(1).hex() == lines[2 + 2048]
    assert ceremony.g2_power(0).hex() == lines[2 + 4096]
    assert ceremony.g2_power(64).hex() == lines[2 + 4096 + 64]
    assert ceremony.g1_power(0).hex() == lines[2 + 4096 + 65]
    assert ceremony.g1_power(4095).hex() == lines[-1]


def test_it_is_shipped() -> None:
    project = Path(__file__).parents[3] / "pyproject.toml"
    with project.open("rb") as stream:
        shipped = tomllib.load(stream)["tool"]["setuptools"]["package-data"]["palm_torch"]
    assert f"commit/{ceremony.FILE.name}" in shipped


def test_it_begins_with_the_generators() -> None:
    assert bls.G1Point().to_compressed_bytes() == ceremony.g1_power(0)
    assert bls.G2Point().to_compressed_bytes() == ceremony.g2_power(0)
    assert curve.generator() == bls.G1Point()


def test_every_point_is_in_the_group() -> None:
    points = [G1(make(k)) for make in (ceremony.g1_power, ceremony.lagrange) for k in range(4096)]
    assert all(point.is_in_subgroup() for point in points)
    assert all(point.to_compressed_bytes() == ceremony.g1_power(k) for k, point in enumerate(points[:4096]))
    for exponent in range(ceremony.G2_POWERS):
        bls.G2Point.from_compressed_bytes(ceremony.g2_power(exponent))


def test_lagrange_points_add_up_to_the_generator() -> None:
    total = sum((G1(ceremony.lagrange(place)) for place in range(4096)), bls.G1Point.identity())
    assert total == bls.G1Point()


@pytest.mark.parametrize("power", [1, 2, 4095])
def test_a_power_in_lagrange_form_is_the_monomial(power: int) -> None:
    blob = kzg.packed(pow(field.point(place), power, field.MODULUS) for place in range(4096))
    assert kzg.commit(blob) == ceremony.g1_power(power)


def test_every_power_is_the_one_before_times_one_number() -> None:
    powers = [G1(ceremony.g1_power(exponent)) for exponent in range(4096)]
    scalars = list(values_of(random.Random(0).randrange(2**32), 4095))
    low, high = combined(powers[:-1], scalars), combined(powers[1:], scalars)
    one, tau = (bls.G2Point.from_compressed_bytes(ceremony.g2_power(k)) for k in (0, 1))
    assert bls.GT.pairing_check([high, -low], [one, tau])
    assert not bls.GT.pairing_check([high, -high], [one, tau])


@pytest.mark.parametrize("exponent", [1, 2, 64])
def test_both_groups_hold_powers_of_one_number(exponent: int) -> None:
    in_g1 = bls.G1Point.from_compressed_bytes(ceremony.g1_power(exponent))
    in_g2 = bls.G2Point.from_compressed_bytes(ceremony.g2_power(exponent))
    assert bls.GT.pairing_check([in_g1, -bls.G1Point()], [bls.G2Point(), in_g2])


def test_an_altered_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    altered = bytearray(ceremony.text())
    altered[1000] ^= 1
    (tmp_path / "kzg_ceremony.txt").write_bytes(altered)
    monkeypatch.setattr(ceremony, "FILE", tmp_path / "kzg_ceremony.txt")
    with pytest.raises(
        DataError, match=f"expected SHA-256 {ceremony.SRS_ID.hex()}, got .* install palm-torch again"
    ):
        ceremony.text.__wrapped__()


def test_a_missing_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceremony, "FILE", tmp_path / "kzg_ceremony.txt")
    with pytest.raises(DataError, match=r"No such file or directory; install palm-torch again"):
        ceremony.text.__wrapped__()
