"""What a policy says, in words: what it demands, what it waves through, where it accepts nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand

from palm_torch.appraisal import policy_summary

if TYPE_CHECKING:
    from composite_run import CompositeRun
    from snp_run import SnpRun
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


# SEV-SNP ------------------------------------------------------------------------------------------


def of_guest(guest: SnpRun, changes: dict[str, Any]) -> Summary:
    return policy_summary.summarize(guest.policy(changes))


def test_a_kind_of_machine_without_rules_is_said(good: GoodRun, guest: SnpRun) -> None:
    assert dict(summary(good, {}).demands)["platform.snp"] == "no AMD SEV-SNP machine"
    assert "platform.tdx" not in dict(summary(good, {}).demands)
    found = of_guest(guest, {})
    assert dict(found.demands)["platform.tdx"] == "no Intel TDX machine"
    assert not any(line.startswith("platform.tdx") for line in found.waves_through)
    assert found.accepts_nothing == ()
    both = of_guest(guest, {"platform.tdx": {"mr_td": ["ab" * 48]}})
    assert not {"platform.tdx", "platform.snp"} & dict(both.demands).keys()
    assert both.accepts_nothing == ("platform.tdx.rtmr0", "platform.tdx.rtmr1", "platform.tdx.rtmr2")


def test_what_is_demanded_of_a_guest(guest: SnpRun) -> None:
    demands = dict(of_guest(guest, {}).demands)
    tcb = "at least boot loader 3, TEE 0, SNP 8, microcode 115"
    assert demands["platform.snp.min_tcb"] == tcb
    assert demands["platform.snp.vmpl"] == "0"
    assert demands["platform.snp.signing_keys"] == "vcek or vlek"
    assert demands["platform.snp.allow_cxl"] == "no memory and no devices on CXL"
    assert "platform.snp.allow_smt" not in demands
    strict = of_guest(guest, {"platform.snp.allow_smt": False, "platform.snp.require_alias_check": True})
    assert (
        dict(strict.demands)["platform.snp.allow_smt"] == "the guest's processor cores run no other threads"
    )
    assert dict(strict.demands)["platform.snp.require_alias_check"] == "True"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"allow_cxl": True}, "allow_cxl: guests with memory and devices on CXL"),
        (
            {"min_tcb": dict.fromkeys(("boot_loader", "tee", "snp", "microcode"), 0)},
            "min_tcb: firmware of any age",
        ),
        ({"vmpl": [0, 2]}, "vmpl: reports that a lesser part of the guest asked for"),
    ],
)
def test_what_is_waved_through_of_a_guest(guest: SnpRun, changes: dict[str, Any], line: str) -> None:
    line = f"platform.snp.{line}"
    assert line not in of_guest(guest, {}).waves_through
    found = of_guest(guest, {f"platform.snp.{name}": value for name, value in changes.items()})
    assert line in found.waves_through


def test_without_a_least_tcb_or_a_value_nothing_is_accepted(guest: SnpRun) -> None:
    found = of_guest(guest, {"platform.snp": {}})
    assert found.accepts_nothing == ("platform.snp.min_tcb", "platform.snp.measurement")
    for rule in ("host_data", "id_key_digest", "chip_id", "csp_id", "vmpl", "versions", "signing_keys"):
        found = of_guest(guest, {f"platform.snp.{rule}": []})
        assert found.accepts_nothing == (f"platform.snp.{rule}",)
        assert not any(line.startswith(f"platform.snp.{rule}:") for line in found.waves_through)


def of_gpus(composite: CompositeRun, changes: dict[str, Any]) -> Summary:
    return policy_summary.summarize(composite.policy(changes))


def test_rules_for_gpus(good: GoodRun, composite: CompositeRun) -> None:
    assert dict(summary(good, {}).demands)["platform.gpu"] == "no GPUs"
    found = of_gpus(composite, {})
    demands = dict(found.demands)
    assert "platform.gpu" not in demands
    assert demands["platform.gpu.count"] == "exactly 1"
    assert demands["platform.gpu.min_driver_version"] == "550.90.07"
    assert demands["platform.gpu.allow_devtools"] == "no debuggers may look into the GPUs"
    assert demands["platform.gpu.require_rims"] == "True"
    waved = found.waves_through
    assert "platform.gpu: GPUs that sit in another machine: no rule can tell" in waved
    assert "platform.gpu.chip_ids: any chip of these generations" in waved
    simulated = "platform.simulated_gpu_root: simulated GPUs in place of NVIDIA's; no result is affirming"
    assert simulated in waved
    assert dict(of_gpus(composite, {"platform.gpu.count": 0}).demands)["platform.gpu.count"] == "exactly 0"


def test_an_age_of_statuses_asks_for_every_status(composite: CompositeRun) -> None:
    age, status = "platform.gpu.max_revocation_age_days", "platform.gpu.require_revocation"
    for rules in ({age: 7}, {age: 0}, {age: 7, status: True}):
        found = of_gpus(composite, rules)
        assert dict(found.demands)[age] == f"the status of every certificate, at most {rules[age]} days old"
        assert status not in dict(found.demands)
        assert not any(line.startswith((age, status)) for line in found.waves_through)
    found = of_gpus(composite, {status: True})
    assert dict(found.demands)[status] == "True"
    assert [line for line in found.waves_through if line.startswith((age, status))] == [
        f"{age}: statuses of any age that have not expired, if any are at hand"
    ]
    assert {f"{status}: GPUs for whose certificates no status was at hand"} <= set(
        of_gpus(composite, {}).waves_through
    )


@pytest.mark.parametrize("days", [0, 30])
def test_an_age_of_tcb_data_is_demanded_even_if_it_is_0(good: GoodRun, days: int) -> None:
    rule = "platform.tdx.max_collateral_age_days"
    assert any(line.startswith(rule) for line in summary(good, {}).waves_through)
    found = summary(good, {rule: days})
    assert dict(found.demands)[rule] == f"at most {days} days old"
    assert not any(line.startswith(rule) for line in found.waves_through)


@pytest.mark.parametrize(
    ("rule", "value", "line"),
    [
        ("require_rims", False, "require_rims: GPUs for whose driver and firmware nobody vouches"),
        ("require_cc", False, "require_cc: GPUs in which confidential computing is off"),
        ("allow_devtools", True, "allow_devtools: GPUs into which debuggers may look"),
        ("modes", ["ppcie"], "modes: GPUs whose links to each other are in the clear"),
        ("modes", ["unstated"], "modes: reports of drivers that do not say how the GPUs work together"),
    ],
)
def test_what_rules_for_gpus_wave_through(
    composite: CompositeRun, rule: str, value: object, line: str
) -> None:
    line = f"platform.gpu.{line}"
    assert line not in of_gpus(composite, {}).waves_through
    assert line in of_gpus(composite, {f"platform.gpu.{rule}": value}).waves_through


@pytest.mark.parametrize("rule", ["min_driver_version", "min_vbios_version"])
def test_rules_for_gpus_without_a_least_version_accept_nothing(composite: CompositeRun, rule: str) -> None:
    assert of_gpus(composite, {f"platform.gpu.{rule}": None}).accepts_nothing == (f"platform.gpu.{rule}",)


@pytest.mark.parametrize(
    ("rule", "value", "demands", "waved"),
    [
        ("multiplicity", {"least": 1, "greatest": 2}, ">= 1 and <= 2", "any number of times"),
        ("layout", ["uint16[8]", "jsonl"], "uint16[8] or jsonl", "records of any kind"),
        ("exact", True, "True", "counts of what was read"),
        ("ranks", {"greatest": 1}, "<= 1", "any number of ranks"),
    ],
)
def test_rules_about_data_demand_or_wave_through(
    good: GoodRun, rule: str, value: Any, demands: str, waved: str
) -> None:
    path = f"claims.{rule}"
    said = summary(good, {path: value})
    assert dict(said.demands)[path] == demands
    assert not any(line.startswith(path) for line in said.waves_through)
    unset = summary(good, {})
    assert path not in dict(unset.demands)
    assert any(line.startswith(f"{path}: ") and waved in line for line in unset.waves_through)


def test_streams_and_padding_are_refused_unless_they_are_waved_through(good: GoodRun) -> None:
    unset = summary(good, {})
    assert dict(unset.demands)["claims.streams"] == "no streams: all data has an index"
    assert dict(unset.demands)["claims.padded"] == "at most 0 records"
    allowed = summary(good, {"claims.streams": True, "claims.padded": 3})
    assert dict(allowed.demands)["claims.padded"] == "at most 3 records"
    assert "claims.streams" not in dict(allowed.demands)
    assert (
        "claims.streams: streams, of which nobody can tell which records they gave" in allowed.waves_through
    )
    assert "claims.padded: 3 records that a sampler repeated to make ranks equal" in allowed.waves_through
