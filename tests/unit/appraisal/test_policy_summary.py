"""What a policy says, in words: what it demands, what it waves through, where it accepts nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand

from palm_torch.appraisal import policy_summary

if TYPE_CHECKING:
    from workshop import GoodRun

    from palm_torch.appraisal.policy_summary import Summary


def summary(good: GoodRun, changes: dict[str, Any], *, hardware: bool = False) -> Summary:
    return policy_summary.summarize(good.policy(changes, hardware=hardware))


def test_what_it_demands_is_listed_by_rule(good: GoodRun) -> None:
    demands = dict(summary(good, {}).demands)
    assert demands["claims.data"] == str(at_hand.MANIFEST.digest)
    assert demands["claims.steps"] == ">= 1 and <= 4"
    assert demands["claims.arguments"] == "lr >= 0.0001 and <= 0.001"
    assert demands["claims.reported"] == "loss <= 1"
    assert demands["claims.tokenizer"] == "none"
    assert demands["claims.property"] == "train"
    assert demands["platform.tdx.tcb_statuses"] == "UpToDate"
    assert demands["platform.tdx.td_attributes"] == "30 or 31 or 63"
    assert "platform.simulated_root" not in demands
    assert "code.unreviewed" not in demands
    assert demands["claims.declared"] == "at most 0 values"
    two = {"claims.data": [str(at_hand.MANIFEST.digest), str(at_hand.MODEL.digest)]}
    assert dict(summary(good, two).demands)["claims.data"] == (
        f"{at_hand.MANIFEST.digest} or {at_hand.MODEL.digest}"
    )
    image = summary(good, {"code": {"covered_by_image": True}})
    assert dict(image.demands)["code.covered_by_image"] == "True"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"code": {"unreviewed": True}}, "code.unreviewed: any code; no result is affirming"),
        ({"claims.initial": ["any"]}, "claims.initial: the policy accepts any"),
        ({"claims.declared": 2}, "claims.declared: 2 values that nobody measured"),
        (
            {"platform.tdx.tcb_statuses": ["UpToDate", "OutOfDate", "SWHardeningNeeded"]},
            "platform.tdx.tcb_statuses: platforms that Intel calls OutOfDate, SWHardeningNeeded",
        ),
    ],
)
def test_what_it_waves_through_is_listed_too(good: GoodRun, changes: Any, line: str) -> None:
    assert line not in summary(good, {}).waves_through
    found = summary(good, changes)
    assert line in found.waves_through
    assert line.partition(":")[0] not in dict(found.demands) or "tcb" in line or "declared" in line


def test_a_rule_that_is_set_waves_nothing_through(good: GoodRun) -> None:
    unset = "platform.tdx.ppid: any physical platform"
    assert unset in summary(good, {}).waves_through
    found = summary(good, {"platform.tdx.ppid": ["00" * 16]})
    assert unset not in found.waves_through
    assert dict(found.demands)["platform.tdx.ppid"] == "00" * 16


def test_a_simulated_root_is_never_silent(good: GoodRun) -> None:
    line = "platform.simulated_root: a simulated TEE in place of hardware; no result is affirming"
    assert line in summary(good, {}).waves_through
    assert line not in summary(good, {}, hardware=True).waves_through


@pytest.mark.parametrize("rule", ["mr_td", "rtmr2", "mr_owner", "mr_seam", "xfam", "ppid", "tcb_statuses"])
def test_an_empty_list_accepts_nothing_and_that_is_said(good: GoodRun, rule: str) -> None:
    assert summary(good, {}).accepts_nothing == ()
    found = summary(good, {f"platform.tdx.{rule}": []})
    assert found.accepts_nothing == (f"platform.tdx.{rule}",)
    assert not any(line.startswith(f"platform.tdx.{rule}:") for line in found.waves_through)


def test_no_attributes_beside_the_one_that_must_be_is_a_demand(good: GoodRun) -> None:
    assert summary(good, {"platform.tdx.td_attributes": []}).accepts_nothing == ()
