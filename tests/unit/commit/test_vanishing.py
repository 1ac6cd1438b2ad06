"""Z_S: its runs, its value, its weights, and the quotient by it, against products written out."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import gmpy2
import pytest
from kzg_nodes import values_of

from palm_torch.commit import field, vanishing
from palm_torch.commit.vanishing import Run

if TYPE_CHECKING:
    from collections.abc import Sequence

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


@pytest.mark.parametrize(
    "places",
    [
        (9,),
        (0, 5, 6, 4095),
        tuple(range(0, 4096, 64)),
        tuple(range(0, 4096, 8)),  # 512: both factors of the last product have 256
        tuple(sorted(random.Random(2).sample(range(4096), 700))),
        tuple(range(1, 1026)),
        tuple(range(4095)),
        tuple(sorted(random.Random(3).sample(range(4096), 3600))),
    ],
    ids=len,
)
def test_weights_of_many_places_are_those_of_the_direct_formula(places: tuple[int, ...]) -> None:
    assert vanishing._weights_of_many(places) == vanishing._weights(vanishing._runs(places))


@pytest.mark.parametrize(
    ("places", "step"),
    [
        ((9,), 1),
        ((0, 1), 2048),
        (tuple(range(64, 128)), 64),
        (tuple(range(5, 4096, 64)), 1),
        (tuple(range(0, 4096, 8)), 1),
        (tuple(range(1024, 1536)), 8),
        (tuple(range(4096)), 1),
    ],
)
def test_weights_of_a_progression_are_those_of_the_direct_formula(places: tuple[int, ...], step: int) -> None:
    assert vanishing._step(places) == step
    assert vanishing._weights_of_progression(places) == vanishing._weights(vanishing._runs(places))


@pytest.mark.parametrize("name", ["row", "whole", "aligned block", "halves of rows"])
def test_weights_of_runs_are_those_of_the_direct_formula(name: str) -> None:
    more = {
        "aligned block": tuple(64 * row + column for row in range(8) for column in range(8, 16)),
        "halves of rows": tuple(64 * row + column for row in range(20) for column in range(16)),
    }
    places = (SETS | more)[name]
    zeros = vanishing.of(places)
    assert min(run.length for run in zeros.runs) > 1
    assert list(zeros.weights) == vanishing._weights(zeros.runs)


def test_blocks_and_scattered_places_are_no_progressions() -> None:
    assert not vanishing._step(SETS["block"])
    assert not vanishing._step(SETS["scattered"])
    assert vanishing._step(SETS["all but the last"]) == 1  # which is the last exponent, too


@pytest.mark.parametrize("count", [1, 2, 17, 256, 257, 800, 1024, 1025])
def test_products_are_zero_at_their_places_alone(count: int) -> None:
    places = tuple(sorted(random.Random(count).sample(range(4096), count)))
    product = vanishing._product(places)
    assert len(product) == count + 1
    assert product[-1] == 1
    values = vanishing._values(product)
    assert [place for place, value in enumerate(values) if not value] == list(places)
    (z,) = values_of(5, 1)
    assert value_of(product, z) == vanishing.of(places).at(z)


@pytest.mark.parametrize("places", [range(1, 4096, 2), random.Random(4).sample(range(4096), 2048)])
def test_many_places_are_not_multiplied_one_by_one(
    monkeypatch: pytest.MonkeyPatch, places: Sequence[int]
) -> None:
    monkeypatch.setattr(vanishing, "_weights", None)
    vanishing.of.cache_clear()
    assert len(vanishing.of(tuple(sorted(places))).weights) == 2048


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
