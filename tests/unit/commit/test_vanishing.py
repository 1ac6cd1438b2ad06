"""Z_S: its runs, its value, its weights, and the quotient by it, against products written out."""

from __future__ import annotations

import math
import random

import gmpy2
import pytest
from kzg_nodes import values_of

from palm_torch.commit import field, vanishing
from palm_torch.commit.vanishing import Run

SETS = {
    "one place": (77,),
    "row": tuple(range(64, 128)),
    "column": tuple(range(5, 4096, 64)),
    "block": tuple(64 * row + column for row in range(3, 7) for column in range(3, 7)),
    "two halves of different runs": (3, 4),
    "whole": tuple(range(4096)),
    "all but the last": tuple(range(4095)),
    "scattered": tuple(sorted(random.Random(1).sample(range(4096), 40))),
    "long": tuple(range(3, 700)),
}


def value_of(coefficients: list[int], point: int) -> int:
    total = 0
    for coefficient in reversed(coefficients):
        total = (total * point + coefficient) % field.MODULUS
    return total


def test_runs_are_the_largest_aligned_ones() -> None:
    assert vanishing.of((3, 4, 5, 6, 7, 8)).runs == (Run(3, 1), Run(4, 4), Run(8, 1))
    assert vanishing.of(tuple(range(4096))).runs == (Run(0, 4096),)
    assert len(vanishing.of(SETS["column"]).runs) == 64


@pytest.mark.parametrize("name", SETS)
def test_runs_cover_the_set_once(name: str) -> None:
    runs = vanishing.of(SETS[name]).runs
    assert tuple(i for run in runs for i in range(run.start, run.start + run.length)) == SETS[name]
    assert all(run.start % run.length == 0 for run in runs)


@pytest.mark.parametrize("name", SETS)
def test_its_value_is_the_product(name: str) -> None:
    for z in values_of(2, 3):
        expected = 1
        for place in SETS[name]:
            expected = expected * (z - field.point(place)) % field.MODULUS
        assert vanishing.of(SETS[name]).at(z) == expected
    assert vanishing.of(SETS[name]).at(field.point(SETS[name][-1])) == 0


@pytest.mark.parametrize("name", [name for name in SETS if len(SETS[name]) <= 64])
def test_weights_are_the_inverse_slopes(name: str) -> None:
    places = SETS[name]
    for place, weight in zip(places, vanishing.of(places).weights, strict=True):
        others = [field.point(place) - field.point(other) for other in places if other != place]
        assert weight * math.prod(others) % field.MODULUS == 1


@pytest.mark.parametrize("number", [int, gmpy2.mpz], ids=["int", "mpz"])
@pytest.mark.parametrize("name", SETS)
def test_quotient_times_divisor_plus_remainder(name: str, number: type[int]) -> None:
    places, values = SETS[name], values_of(9)
    zeros = vanishing.of(places)
    coefficients = field.coefficients([number(value) for value in values], number=number)
    quotient = zeros.divide(coefficients, number=number)
    assert len(quotient) == 4096 - len(places)
    z = values_of(4, 1)[0]
    remainder = zeros.at(z) * sum(
        weight * values[place] * pow(z - field.point(place), -1, field.MODULUS)
        for place, weight in zip(places, zeros.weights, strict=True)
    )
    expected = value_of(coefficients, z)
    assert (value_of(quotient, z) * zeros.at(z) + remainder) % field.MODULUS == expected


@pytest.mark.parametrize("place", [0, 1, 77, 4095])
def test_the_quotient_at_one_place_without_transforms(place: int) -> None:
    values = list(values_of(6))
    quotient = vanishing.of((place,)).divide(field.coefficients(values))
    expected = [value * field.point(place) % field.MODULUS for value in field.evaluations([*quotient, 0])]
    assert vanishing.quotient_at_one(values, place) == expected
    fast = vanishing.quotient_at_one([gmpy2.mpz(value) for value in values], place, number=gmpy2.mpz)
    assert fast == expected
