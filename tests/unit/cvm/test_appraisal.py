"""The rules of a TDX policy: unset means reject, and every rule is looked at."""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from palm_torch.cvm import appraisal, simulated_authority, simulated_collateral, tdx
from palm_torch.errors import BindingError, PlatformError, PolicyError

REGISTERS = ("mr_td", "rtmr0", "rtmr1", "rtmr2")
OTHER = "ab" * 48


def test_the_right_trust_domain_is_accepted(vendor: Any, rules: appraisal.TdxRules) -> None:
    appraisal.appraise(vendor.verify(), rules)


def test_rules_that_name_nothing_accept_nothing(vendor: Any) -> None:
    with pytest.raises(PlatformError, match="mr_td: the policy names no accepted value"):
        appraisal.appraise(vendor.verify(), appraisal.TdxRules())


@pytest.mark.parametrize("name", REGISTERS)
def test_every_register_is_required(vendor: Any, rules: appraisal.TdxRules, name: str) -> None:
    with pytest.raises(PlatformError, match=f"{name}: the policy names no accepted value"):
        appraisal.appraise(vendor.verify(), dataclasses.replace(rules, **{name: ()}))
    with pytest.raises(PlatformError, match=f"{name}: expected {OTHER}"):
        appraisal.appraise(vendor.verify(), dataclasses.replace(rules, **{name: (OTHER,)}))
    accepted = (OTHER, *getattr(rules, name))
    appraisal.appraise(vendor.verify(), dataclasses.replace(rules, **{name: accepted}))


@pytest.mark.parametrize("name", ["mr_config_id", "mr_owner", "mr_owner_config"])
def test_what_the_host_configured_is_zero_unless_listed(
    vendor: Any, rules: appraisal.TdxRules, name: str
) -> None:
    verified = vendor.verify(vendor.quote(**{name: bytes.fromhex(OTHER)}))
    with pytest.raises(PlatformError, match=f"{name}: expected 0000"):
        appraisal.appraise(verified, rules)
    appraisal.appraise(verified, dataclasses.replace(rules, **{name: (OTHER,)}))


@pytest.mark.parametrize(("name", "size"), [("mr_seam", 48), ("xfam", 8), ("ppid", 16)])
def test_restrictions_that_may_be_left_out(
    vendor: Any, rules: appraisal.TdxRules, name: str, size: int
) -> None:
    verified = vendor.verify()
    report = verified.quote.td_report
    found = (verified.ppid if name == "ppid" else getattr(report, name)).hex()
    appraisal.appraise(verified, dataclasses.replace(rules, **{name: (found,)}))
    for accepted in (("ab" * size,), ()):
        with pytest.raises(PlatformError, match=name):
            appraisal.appraise(verified, dataclasses.replace(rules, **{name: accepted}))


def test_the_status_must_be_listed(vendor: Any, rules: appraisal.TdxRules) -> None:
    info = simulated_collateral.make_tcb_info(vendor.now)
    info["tcbLevels"][0] |= {"tcbStatus": "OutOfDate", "advisoryIDs": ["INTEL-SA-00001"]}
    verified = vendor.verify(endorsements=vendor.collateral(tcb_info=info))
    with pytest.raises(PlatformError, match=r"expected UpToDate, got OutOfDate .*INTEL-SA-00001"):
        appraisal.appraise(verified, rules)
    appraisal.appraise(verified, dataclasses.replace(rules, tcb_statuses=("UpToDate", "OutOfDate")))
    with pytest.raises(PlatformError, match="expected nothing, got"):
        appraisal.appraise(vendor.verify(), dataclasses.replace(rules, tcb_statuses=()))


def test_an_old_evaluation_is_refused(vendor: Any, rules: appraisal.TdxRules) -> None:
    with pytest.raises(PlatformError, match="at least 2, got 1"):
        appraisal.appraise(vendor.verify(), dataclasses.replace(rules, min_tcb_evaluation_data_number=2))


@pytest.mark.parametrize("age", [timedelta(0), timedelta(days=3), timedelta(days=3, seconds=1)])
def test_collateral_that_was_issued_long_ago_is_refused(
    vendor: Any, rules: appraisal.TdxRules, age: timedelta
) -> None:
    verified = vendor.verify()
    later = vendor.verify(now=verified.collateral_issued + age)
    assert (later.verified_at, later.collateral_issued) == (
        verified.collateral_issued + age,
        verified.collateral_issued,
    )
    for days in (None, 4, appraisal.MAX_AGE_DAYS):
        appraisal.appraise(later, dataclasses.replace(rules, max_collateral_age_days=days))
    three = dataclasses.replace(rules, max_collateral_age_days=3)
    if age <= timedelta(days=3):
        appraisal.appraise(later, three)
        return
    with pytest.raises(PlatformError, match=r"issued 3 days before .* at most, got .*collateral fetch"):
        appraisal.appraise(later, three)


def test_optional_attribute_bits(vendor: Any, rules: appraisal.TdxRules) -> None:
    perfmon = vendor.verify(vendor.quote(td_attributes=bytes.fromhex("0000001000000080")))
    appraisal.appraise(perfmon, rules)
    with pytest.raises(PlatformError, match="bit 63 is set and not allowed"):
        appraisal.appraise(perfmon, dataclasses.replace(rules, td_attributes=()))


def altered(verified: tdx.VerifiedQuote, **changes: bytes) -> tdx.VerifiedQuote:
    """A verified quote with fields that TCB appraisal would not have let through."""
    report = dataclasses.replace(verified.quote.td_report, **changes)
    fields = {field.name: getattr(verified, field.name) for field in dataclasses.fields(verified)}
    bent = object.__new__(type(verified))
    for name, value in (fields | {"quote": dataclasses.replace(verified.quote, td_report=report)}).items():
        object.__setattr__(bent, name, value)
    return bent


def test_the_rules_do_not_lean_on_the_appraisal_of_the_tcb(vendor: Any, rules: appraisal.TdxRules) -> None:
    verified = vendor.verify()
    with pytest.raises(PlatformError, match="SEPT_VE_DISABLE is off"):
        appraisal.appraise(altered(verified, td_attributes=bytes(8)), rules)
    with pytest.raises(PlatformError, match="debug mode is on"):
        appraisal.appraise(altered(verified, td_attributes=bytes.fromhex("0100001000000000")), rules)
    with pytest.raises(PlatformError, match="no service TD"):
        appraisal.appraise(altered(verified, mr_service_td=b"\x01" * 48), rules)
    appraisal.appraise(altered(verified, mr_service_td=bytes(48)), rules)


@pytest.mark.parametrize(
    "changes",
    [
        {"mr_td": ("AB" * 48,)},
        {"mr_td": ("ab",)},
        {"rtmr2": ("*",)},
        {"xfam": ("00",)},
        {"ppid": ("00",)},
        {"mr_seam": ("00",)},
        {"td_attributes": (0,)},
        {"td_attributes": (29,)},
        {"td_attributes": (64,)},
        {"tcb_statuses": ("Revoked",)},
        {"tcb_statuses": ("uptodate",)},
        {"min_tcb_evaluation_data_number": -1},
        {"max_collateral_age_days": -1},
        {"max_collateral_age_days": 36_501},
        {"max_collateral_age_days": 10**12},
    ],
)
def test_malformed_rules(changes: Any) -> None:
    with pytest.raises(PolicyError):
        appraisal.TdxRules(**changes)


def test_two_quotes_of_one_trust_domain(vendor: Any) -> None:
    begin = vendor.verify()
    end = vendor.verify(vendor.quote(report_data=bytes(64), rtmr3=b"\x01" * 48, mr_seam=b"\x02" * 48))
    appraisal.check_same_td(begin, end)


@pytest.mark.parametrize("name", ["mr_td", "rtmr0", "rtmr1", "rtmr2", "mr_config_id", "mr_owner"])
def test_two_quotes_of_two_trust_domains(vendor: Any, name: str) -> None:
    other = vendor.verify(vendor.quote(**{name: b"\x01" * 48}))
    with pytest.raises(BindingError, match=f"{name} differs"):
        appraisal.check_same_td(vendor.verify(), other)


def test_two_quotes_of_two_platforms(vendor: Any) -> None:
    other = type(vendor)(simulated_authority.make_authority(vendor.now))
    with pytest.raises(BindingError, match="expected one platform"):
        appraisal.check_same_td(vendor.verify(), other.verify())
