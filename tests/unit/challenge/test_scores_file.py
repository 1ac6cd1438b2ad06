"""Scores as a file, and how often a part is drawn: none never."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palm_torch.challenge import request, scores_file
from palm_torch.challenge.scores_file import PartScore, Scores, Verifier
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


def scores(*values: float, verifiers: tuple[tuple[int, int], ...] = ()) -> Scores:
    return Scores(
        media_type=scores_file.MEDIA_TYPE,
        measure="alpha",
        parts=tuple(
            PartScore(name=f"layers.{number}", score=value, cost=10) for number, value in enumerate(values)
        ),
        verifiers=tuple(Verifier(budget=20.0, first=first, end=end) for first, end in verifiers),
    )


def test_half_goes_to_all_and_half_by_score() -> None:
    found = scores_file.weights_of(scores(1, 0.5, 0.5, 0), uniform=0.5)
    whole = scores_file.WHOLE
    assert found == (whole * 3 // 8, whole // 4, whole // 4, whole // 8)
    assert scores_file.least_share(found) == 1 / 8


def test_a_verifier_s_own_parts_get_what_is_not_shared() -> None:
    shared = scores(1, 0.5, 0.5, 1, verifiers=((0, 1), (1, 3), (3, 3)))
    whole = scores_file.WHOLE
    assert scores_file.weights_of(shared, uniform=0.2, verifier=1) == (
        round(whole * 0.05),
        round(whole * 0.45),
        round(whole * 0.45),
        round(whole * 0.05),
    )
    assert set(scores_file.weights_of(shared, verifier=2)) == {whole // 4}  # it has no parts


def test_scores_of_nothing_are_the_same_for_all() -> None:
    assert set(scores_file.weights_of(scores(0, 0, 0, 0), uniform=0.1)) == {scores_file.WHOLE // 4}


@given(
    values=st.lists(st.floats(0, 1), min_size=1, max_size=40),
    uniform=st.floats(1e-12, 1, exclude_min=True),
)
def test_no_part_is_never_drawn(values: list[float], uniform: float) -> None:
    found = scores_file.weights_of(scores(*values), uniform=uniform)
    assert len(found) == len(values)
    assert min(found) >= 1
    assert max(found) <= scores_file.WHOLE <= request.MAX_WEIGHT
    shares = [weight / sum(found) for weight in found]
    assert min(shares) >= min(uniform / len(values), 0.5) * 0.9 - len(values) / scores_file.WHOLE


@pytest.mark.parametrize("uniform", [0, -0.1, 1.1, math.nan])
def test_a_draw_by_scores_alone_is_refused(uniform: float) -> None:
    with pytest.raises(DataError, match=r"uniform: expected a share in \(0, 1\]"):
        scores_file.weights_of(scores(1), uniform=uniform)


@pytest.mark.parametrize("verifier", [-1, 1])
def test_verifiers_that_there_are_not(verifier: int) -> None:
    with pytest.raises(DataError, match="verifier: expected one of the 1"):
        scores_file.weights_of(scores(1, verifiers=((0, 1),)), verifier=verifier)


def test_one_spelling(tmp_path: Path) -> None:
    shared = scores(1, 0.25, verifiers=((0, 1), (1, 2)))
    shared.save(tmp_path / "s.json")
    assert scores_file.read(tmp_path / "s.json") == shared == scores_file.decode(shared.encode())
    with pytest.raises(DataError, match="cannot read the scores"):
        scores_file.read(tmp_path / "none")
    with pytest.raises(DataError, match="s: not a JSON document"):
        scores_file.decode(b"{", what="s")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"media_type": "x"}, "media_type: expected"),
        ({"parts": ()}, "parts: expected 1 to 8192, got 0"),
        ({"verifiers": (Verifier(budget=1, first=0, end=0),) * 1025}, "verifiers: expected at most 1024"),
        (
            {"verifiers": (Verifier(budget=1, first=1, end=3),)},
            r"verifiers\[0\]: expected parts below 2, got 3",
        ),
        (
            {"verifiers": (Verifier(budget=1, first=0, end=2), Verifier(budget=1, first=1, end=2))},
            r"verifiers\[1\]: has a part that another one has",
        ),
    ],
)
def test_scores_that_are_none(change: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        dataclasses.replace(scores(1, 1), **change)


@pytest.mark.parametrize("score", [-0.1, 1.1, math.nan])
def test_a_score_is_a_share(score: float) -> None:
    with pytest.raises(DataError, match=r"score: 'a': expected a number in \[0, 1\]"):
        PartScore(name="a", score=score, cost=1)


@pytest.mark.parametrize("cost", [-1, 1 << 53])
def test_a_cost_is_a_number_of_parameters(cost: int) -> None:
    with pytest.raises(DataError, match="cost: 'a': expected a number from 0"):
        PartScore(name="a", score=1, cost=cost)


@pytest.mark.parametrize(
    ("budget", "first", "end", "says"),
    [(-1, 0, 1, "budget"), (math.inf, 0, 1, "budget"), (1, 2, 1, "first"), (1, -1, 1, "first")],
)
def test_a_verifier_has_a_budget_and_an_interval(budget: float, first: int, end: int, says: str) -> None:
    with pytest.raises(DataError, match=f"{says}: expected"):
        Verifier(budget=budget, first=first, end=end)
