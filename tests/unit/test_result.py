"""Results as JSON: what a verifier prints, accepted or not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from palm_torch.encoding import encode_json
from palm_torch.errors import CodeError
from palm_torch.result import Check, Tier, rejection

if TYPE_CHECKING:
    from workshop import GoodRun


def test_a_result_is_one_json_object(good: GoodRun) -> None:
    result = good.verify()
    found = json.loads(encode_json(result.to_json()))
    assert found["tier"] == "warning"
    assert found["simulated"] is True
    assert found["checks"][0]["name"] == "encoding"
    assert len(found["checks"]) == len(result.checks)
    assert {"name", "value", "strength"} == found["claims"][0].keys()
    assert found.keys() == {
        "tier",
        "simulated",
        "operation",
        "run_id",
        "freshness",
        "time",
        "co_location",
        "checks",
        "reservations",
        "session",
        "not_checked",
        "claims",
        "opinions",
    }


def test_a_rejection_says_which_error_and_what_had_passed() -> None:
    checks = (Check(name="encoding", detail="7 bytes"),)
    assert rejection(CodeError("another script"), checks) == {
        "tier": "contraindicated",
        "error": "CodeError",
        "message": "another script",
        "checks": [{"name": "encoding", "detail": "7 bytes"}],
    }


def test_the_tiers() -> None:
    assert list(Tier) == ["affirming", "warning", "contraindicated"]


# what of a result is read at a glance: the reasons why it is not affirming


def test_the_warnings_are_the_reasons_of_the_reservations(good: GoodRun) -> None:
    result = good.verify()
    assert result.warnings == tuple(item.reason for item in result.reservations)
    assert result.warnings == ("simulated TEE: no hardware vouches for any of this",)
