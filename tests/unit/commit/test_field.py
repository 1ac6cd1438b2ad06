"""The field, its roots of unity, and both transforms against sums written out."""

from __future__ import annotations

import gmpy2
import pytest
from kzg_nodes import at, values_of

from palm_torch.commit import field

NUMBERS = pytest.mark.parametrize("number", [int, gmpy2.mpz], ids=["int", "mpz"])


def test_the_modulus_is_prime_and_the_root_primitive() -> None:
    root = field.roots()[1]
    assert gmpy2.is_prime(field.MODULUS)
    assert root == 0x564C0A11A0F704F4FC3E8ACFE0F8245F0AD1347B378FBF96E206DA11A5D36306
    assert pow(root, 4096, field.MODULUS) == 1 != pow(root, 2048, field.MODULUS)
    assert len(set(field.roots())) == 4096


def test_points_stand_in_the_order_of_a_blob() -> None:
    root = field.roots()[1]
    assert [field.point(i) for i in range(3)] == [1, field.MODULUS - 1, pow(root, 1024, field.MODULUS)]
    assert sorted(field.EXPONENTS) == list(range(4096))
    assert all(field.EXPONENTS[field.EXPONENTS[i]] == i for i in range(4096))


def test_aligned_runs_have_one_power() -> None:
    for length in (1, 2, 64, 1024, 4096):
        for start in range(0, 4096, length):
            powers = {pow(field.point(i), length, field.MODULUS) for i in range(start, start + length, 37)}
            assert len(powers) == 1


def test_only_the_points_are_in_the_domain() -> None:
    assert all(field.in_domain(field.point(i)) for i in range(0, 4096, 117))
    assert not any(field.in_domain(value) for value in (0, 2, 7, field.MODULUS - 2))


@NUMBERS
@pytest.mark.parametrize("size", [1, 2, 8, 64])
def test_evaluations_are_the_sums(size: int, number: type[int]) -> None:
    coefficients = values_of(3, size)
    root = field.roots()[4096 // size % 4096]
    bits = size.bit_length() - 1
    order = [int(f"{i:0{bits}b}"[::-1], 2) if bits else 0 for i in range(size)]
    expected = [at(list(coefficients), pow(root, exponent, field.MODULUS)) for exponent in order]
    found = field.evaluations([number(c) for c in coefficients], number=number)
    assert found == expected
    assert field.coefficients(found, number=number) == list(coefficients)


@NUMBERS
def test_a_whole_node_there_and_back(number: type[int]) -> None:
    values = [number(value) for value in values_of(5)]
    coefficients = field.coefficients(values, number=number)
    assert field.evaluations(coefficients, number=number) == values
    for place in (0, 1, 2, 4095):
        assert at(coefficients, field.point(place)) == values[place]
    assert all(0 <= value < field.MODULUS for value in coefficients)


def test_many_inverses() -> None:
    values = [*values_of(1, 20), 1, field.MODULUS - 1]
    inverted = field.inverses(values)
    assert all(a * b % field.MODULUS == 1 for a, b in zip(values, inverted, strict=True))
    assert field.inverses([]) == []
