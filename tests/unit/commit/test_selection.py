"""Choosing layers: the optimum by vectors, by brute force and at scale; how sure a number of checks makes."""

from __future__ import annotations

import csv
import itertools
import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palm_torch.commit import selection
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def checked(values: Sequence[float], costs: Sequence[float], budgets: Sequence[float]) -> float:
    """Returns the value of a selection that keeps to all budgets and takes no layer twice."""
    found = selection.select(values, costs, budgets)
    assert len(found.intervals) == len(budgets)
    assert len(set(found.layers)) == len(found.layers)
    for interval, budget in zip(found.intervals, budgets, strict=True):
        assert sum(costs[layer] for layer in interval) <= budget
    assert found.value == pytest.approx(sum(values[layer] for layer in found.layers))
    return found.value


def tried(values: Sequence[float], costs: Sequence[float], budgets: Sequence[float]) -> float:
    """Returns the largest value of all ways to give each verifier one interval."""
    ends = range(len(values) + 1)
    spans = [range(first, last) for first in ends for last in ends[first:]]
    affordable = [[span for span in spans if sum(costs[at] for at in span) <= budget] for budget in budgets]
    ways = (list(itertools.chain.from_iterable(way)) for way in itertools.product(*affordable))
    return max(sum(values[at] for at in way) for way in ways if len(set(way)) == len(way))


numbers = st.integers(0, 6)


@given(
    layers=st.lists(st.tuples(numbers, numbers), max_size=5),
    budgets=st.lists(st.integers(0, 10), max_size=3),
)
def test_no_other_way_is_worth_more(layers: list[tuple[int, int]], budgets: list[int]) -> None:
    values, costs = [value for value, _ in layers], [cost for _, cost in layers]
    assert checked(values, costs, budgets) == tried(values, costs, budgets)


@pytest.mark.parametrize(
    ("values", "costs", "budgets", "best"),
    [
        pytest.param([100, 1, 1], [5, 1, 1], [1, 5], 101, id="the order of verifiers is free"),
        pytest.param([1, 1], [2, 2], [2, 1], 1, id="a verifier that takes nothing costs nothing"),
        pytest.param([3, 0, 3], [1, 9, 1], [1, 1], 6, id="two equal verifiers on both sides of a gap"),
        pytest.param([1, 2], [0, 0], [0], 3, id="what costs nothing"),
        pytest.param([], [], [1], 0, id="no layers"),
        pytest.param([1], [1], [], 0, id="no verifiers"),
    ],
)
def test_known_cases(values: list[int], costs: list[int], budgets: list[int], best: int) -> None:
    assert checked(values, costs, budgets) == best


def test_the_optimum_of_published_experiments(vectors: Callable[[str], bytes]) -> None:
    def table(name: str) -> list[dict[str, str]]:
        return list(csv.DictReader(vectors(f"selection/{name}.csv").decode().splitlines()))

    layers = {model: table(f"layers_{model}") for model in ("llama2_7b", "opt_125m")}
    better, cases = 0, table("cases_experiment")
    assert len(cases) == 260
    for case in cases:
        model = layers[case["model"]]
        budgets = [float(case[name]) for name in ("B1", "B2", "B3")]
        value = checked(
            [float(layer["value"]) for layer in model], [float(layer["cost"]) for layer in model], budgets
        )
        assert value == pytest.approx(float(case["exact"]), abs=1e-6)
        better += value > float(case["reference_value"]) + 1e-6
    assert better > 0, "the published solver misses the optimum in some of them"


def test_many_equal_verifiers() -> None:
    values = [math.sin(at) ** 2 for at in range(560)]
    costs = [1 + at % 7 for at in range(560)]
    assert checked(values, costs, [11] * 96) > checked(values, costs, [11] * 95) > 0


@pytest.mark.parametrize(
    ("values", "costs", "budgets", "says"),
    [
        ([1], [], [1], "a cost for each of 1 layers, got 0"),
        ([-1], [1], [1], "value 0: expected a number from 0 on, got -1"),
        ([1], [math.nan], [1], "cost 0: .* got nan"),
        ([1], [1], [math.inf], "budget 0: .* got inf"),
        ([1] * 1000, [1] * 1000, range(13), r"13 verifiers with 13 different budgets .* equal budgets"),
    ],
)
def test_what_is_no_question(
    values: Sequence[float], costs: Sequence[float], budgets: Sequence[float], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        selection.select(values, costs, budgets)


@pytest.mark.parametrize(
    ("rho", "delta", "queries", "probability"),
    [
        (0.1, 1.0, 132, 1 - 0.9**132),
        (1.0, 1.0, 1, 1.0),
        (1.0, 1.0, 0, 0.0),
        (0.0, 1.0, 9, 0.0),
        (0.5, 0.5, 2, 1 - 0.75**2),
        (1e-9, 1.0, 1, 1e-9),
    ],
)
def test_detection(rho: float, delta: float, queries: int, probability: float) -> None:
    assert selection.detection(rho, delta, queries) == pytest.approx(probability, rel=1e-12)


@pytest.mark.parametrize(("rho", "queries"), [(0.1, 132), (0.01, 1375), (0.001, 13809), (1.0, 1)])
def test_queries_for_one_in_a_million(rho: float, queries: int) -> None:
    assert selection.queries_for(rho, 1e-6) == queries
    assert 1 - selection.detection(rho, 1, queries) <= 1e-6


@pytest.mark.parametrize(("rho", "delta", "queries"), [(-0.1, 1, 1), (1, 1.1, 1), (1, 1, -1)])
def test_detection_of_what_cannot_be(rho: float, delta: float, queries: int) -> None:
    with pytest.raises(DataError, match="detection: "):
        selection.detection(rho, delta, queries)


@pytest.mark.parametrize(("rho", "missed"), [(0, 0.5), (1.5, 0.5), (0.5, 0), (0.5, 1)])
def test_no_number_of_queries(rho: float, missed: float) -> None:
    with pytest.raises(DataError, match="queries: "):
        selection.queries_for(rho, missed)


@pytest.mark.parametrize(
    ("costs", "budget", "best"),
    [
        pytest.param([1e17, 1, 1], 0.0, 0, id="what a large layer would swallow"),
        pytest.param([1e308, 1e308, 1e308], 1e308, 1, id="sums beyond any float"),
        pytest.param([0.1, 0.2, 0.4], 0.3, 1, id="0.1 + 0.2 is more than 0.3"),
        pytest.param([1, 1, 1], 2, 2, id="what a budget just does for"),
    ],
)
def test_no_budget_is_exceeded_by_rounding(costs: list[float], budget: float, best: float) -> None:
    found = selection.select([1, 1, 1], costs, [budget])
    assert found.value == best


def test_so_small_a_fraction_that_no_number_of_places_finds_it() -> None:
    with pytest.raises(DataError, match="queries: no number of places finds a fraction of 5e-324"):
        selection.queries_for(5e-324, 1e-6)
