"""Which tokens logits allow: greedy choice, and sampling as transformers do it."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from palm_torch.audit.operations import tokens
from palm_torch.errors import DataError

LOGITS = np.array([0.5, 3.0, -1.0, 2.5, 3.0, -np.inf], np.float32)


def test_greedy_choice_takes_the_largest_logit_or_one_of_them() -> None:
    for token in (1, 4):
        found = tokens.greedy(LOGITS, token)
        assert (found.consistent, found.rank, found.margin, found.why) == (True, 0, 0.0, "")
    found = tokens.greedy(LOGITS, 3)
    assert (found.consistent, found.rank) == (False, 2)
    assert found.why == "token 3 has the 3rd largest logit, not the largest"
    found = tokens.greedy(np.array([1.0, 4.0], ml_dtypes.bfloat16), 1)
    assert (found.margin, found.probability) == (3.0, pytest.approx(1 / (1 + math.exp(-3))))
    assert tokens.greedy(np.array([1.0], np.float32), 0).margin == math.inf


@pytest.mark.parametrize("rank", [1, 2, 3, 10, 11, 12, 100, 110])
def test_ranks_are_said_as_people_say_them(rank: int) -> None:
    ends = {1: "2nd", 2: "3rd", 3: "4th", 10: "11th", 11: "12th", 12: "13th", 100: "101st", 110: "111th"}
    found = tokens.greedy(-np.arange(200, dtype=np.float32), rank)
    assert f"the {ends[rank]} largest" in found.why


def remaining(logits: np.ndarray, settings: dict[str, Any]) -> set[int]:
    """The tokens that transformers would draw from."""
    chain = LogitsProcessorList()
    if "temperature" in settings:
        chain.append(TemperatureLogitsWarper(settings["temperature"]))
    if "top_k" in settings:
        chain.append(TopKLogitsWarper(settings["top_k"]))
    if "top_p" in settings:
        chain.append(TopPLogitsWarper(settings["top_p"]))
    if "min_p" in settings:
        chain.append(MinPLogitsWarper(settings["min_p"]))
    left = chain(None, torch.from_numpy(logits)[None].clone())[0]
    return set(torch.nonzero(left > -torch.inf)[:, 0].tolist())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"temperature": 0.3},
        {"top_k": 1},
        {"top_k": 7, "temperature": 1.7},
        {"top_p": 0.9},
        {"top_p": 0.2, "temperature": 2.0},
        {"top_k": 5, "top_p": 0.7},
        {"top_k": 500},
        {"min_p": 0.1},
        {"temperature": 0.8, "top_k": 20, "top_p": 0.95, "min_p": 0.05},
        {"top_p": 1.0, "min_p": 0.0},
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_only_tokens_that_transformers_would_not_draw_are_found(settings: dict[str, Any], seed: int) -> None:
    logits = (np.random.default_rng(seed).normal(size=60) * 2).astype(np.float32)
    logits[7] = logits[8]  # a tie
    allowed = remaining(logits, settings)
    found = {token for token in range(60) if tokens.sampled(logits, token, **settings).consistent}
    assert found == allowed


def test_what_made_a_token_impossible_is_said() -> None:
    assert tokens.sampled(LOGITS, 5).why == "token 5 has the logit −inf"
    found = tokens.sampled(LOGITS, 0, top_k=2)
    assert found.why == "token 0 has the 4th largest logit; top-k lets 2 through"
    assert found.margin == -2.5
    assert tokens.sampled(LOGITS, 3, top_p=0.5).why.startswith(
        "tokens likelier than 3 have the probability 0.738844;"
    )
    found = tokens.sampled(LOGITS, 2, min_p=0.5)
    assert found.why == "token 2 has 0.0183156 of the largest probability; min-p asks for 0.5"
    assert tokens.sampled(LOGITS, 5, top_k=3).why == "token 5 has the logit −inf"
    assert tokens.sampled(LOGITS[[0, 5, 5]], 0, top_k=2).margin == math.inf


def test_a_probability_at_the_very_limit_is_not_held_against_anybody() -> None:
    even = np.zeros(10, np.float32)
    even[:5] = 1e-6
    assert tokens.sampled(even, 9, top_p=0.5).consistent
    assert not tokens.sampled(even, 9, top_p=0.4999).consistent


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, "temperature: expected a finite number above 0, got 0.0"),
        ({"temperature": math.nan}, "temperature: expected"),
        ({"temperature": math.inf}, "temperature: expected"),
        ({"top_k": 0}, "top_k: expected 1 or more, got 0"),
        ({"top_p": 1.5}, "top_p: expected 0 to 1, got 1.5"),
        ({"min_p": -0.1}, "min_p: expected 0 to 1, got -0.1"),
    ],
)
def test_settings_out_of_range_are_an_error(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        tokens.sampled(LOGITS, 1, **settings)


@pytest.mark.parametrize("token", [-1, 6])
def test_a_token_outside_the_vocabulary_is_an_error(token: int) -> None:
    with pytest.raises(DataError, match=r"token: expected one of logits \(6,\), got"):
        tokens.greedy(LOGITS, token)


@pytest.mark.parametrize("bad", [[np.nan, 1.0], [np.inf, 1.0], [-np.inf, -np.inf]])
def test_logits_that_are_no_numbers_are_an_error(bad: list[float]) -> None:
    with pytest.raises(DataError, match="logits: expected finite numbers or −inf"):
        tokens.greedy(np.array(bad, np.float32), 0)
    with pytest.raises(DataError, match=r"expected one of logits \(1, 2\)"):
        tokens.greedy(np.zeros((1, 2), np.float32), 0)


def test_a_temperature_that_makes_logits_infinite() -> None:
    with pytest.raises(DataError, match="temperature: 5e-324 makes logits infinite"):
        tokens.sampled(np.array([1, 2, 3], np.float32), 0, temperature=5e-324, top_k=2)
