"""Claims in words: what the script logged."""

from __future__ import annotations

from typing import Any

import pytest
import workshop
from workshop import put

from palm_torch.appraisal import claims

GOOD = workshop.make_statement("run")


def said(end: Any) -> dict[str, str]:
    return {claim.name: claim.value for claim in claims.claims_of(end, strength="hardware")}


@pytest.mark.parametrize(("count", "words"), [(1, "0.5, one value"), (2, "first 2.5, last 0.5 of 2 values")])
def test_what_the_script_logged(count: int, words: str) -> None:
    assert said(put(GOOD, "run.reported.loss.count", count))["reported loss"] == words
