"""Claims in words: how many records, how often each, and what the script logged."""

from __future__ import annotations

from typing import Any

import pytest
import records_at_hand as at_hand
import workshop
from workshop import put

from palm_torch.appraisal import claims

GOOD = workshop.make_statement("run")
TRAIN = "claims.data.dataset1.uses.train"


def said(end: Any) -> dict[str, str]:
    return {claim.name: claim.value for claim in claims.claims_of(end, strength="hardware")}


def test_a_dataset_by_its_size_and_manifest() -> None:
    assert said(GOOD)["data dataset1"] == f"10 records of 16 bytes, {at_hand.MANIFEST.digest}"
    unnamed = put(GOOD, "claims.data.dataset1.manifest", None)
    assert said(unnamed)["data dataset1"] == "10 records of 16 bytes, no manifest"


@pytest.mark.parametrize(
    ("least", "greatest", "words"),
    [(1, 1, "each once"), (2, 2, "each 2 times"), (0, 1, "each 0 to 1 times"), (1, 3, "each 1 to 3 times")],
)
def test_how_often_each_record_was_delivered(least: int, greatest: int, words: str) -> None:
    end = put(put(GOOD, f"{TRAIN}.counts.least", least), f"{TRAIN}.counts.greatest", greatest)
    assert said(end)["data dataset1, train"] == f"20 delivered, 10 different ones of 10, {words}"


@pytest.mark.parametrize(("count", "words"), [(1, "0.5, one value"), (2, "first 2.5, last 0.5 of 2 values")])
def test_what_the_script_logged(count: int, words: str) -> None:
    assert said(put(GOOD, "run.reported.loss.count", count))["reported loss"] == words
