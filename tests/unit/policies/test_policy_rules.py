"""Every rule of a policy, through the verifier: a value that accepts good evidence, one that rejects it."""

from __future__ import annotations

import dataclasses
import typing
from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand
import workshop
from policy_paths import rules_of
from workshop import put

from palm_torch import statement
from palm_torch.cvm import simulated_quote
from palm_torch.digest import sha256_digest
from palm_torch.errors import ClaimError, CodeError, PlatformError, PolicyError, TrustAnchorError
from palm_torch.policies.policy import Policy
from palm_torch.roles import Artifact, Source

if TYPE_CHECKING:
    from workshop import GoodRun

OTHER = "sha256:" + "00" * 32
OTHER_REGISTER = "ab" * 48
ZERO_REGISTER = "00" * 48
PACKAGES = str(statement.value_digest([["torch", "2.13.0"]]))
CODE = str(workshop.make_code().digest)
ONE_THING = {"code": {"unreviewed": True}}

# Path of a rule: (a value that accepts, a value that rejects, the error). Values are those at the path; a
# function of the good run where they depend on it, a dict with a part's name where the whole part changes.
RULES: dict[str, tuple[Any, Any, type[Exception]]] = {
    "version": (1, 2, PolicyError),
    "platform.tdx.mr_td": (
        [OTHER_REGISTER, simulated_quote.MR_TD.hex()],
        [OTHER_REGISTER],
        PlatformError,
    ),
    "platform.tdx.rtmr0": ([simulated_quote.RTMR0.hex()], [simulated_quote.RTMR1.hex()], PlatformError),
    "platform.tdx.rtmr1": ([simulated_quote.RTMR1.hex()], [simulated_quote.RTMR2.hex()], PlatformError),
    "platform.tdx.rtmr2": ([simulated_quote.RTMR2.hex()], [simulated_quote.RTMR0.hex()], PlatformError),
    "platform.tdx.mr_config_id": ([ZERO_REGISTER], [OTHER_REGISTER], PlatformError),
    "platform.tdx.mr_owner": ([ZERO_REGISTER, OTHER_REGISTER], [OTHER_REGISTER], PlatformError),
    "platform.tdx.mr_owner_config": ([ZERO_REGISTER], [OTHER_REGISTER], PlatformError),
    "platform.tdx.mr_seam": ([simulated_quote.MR_SEAM.hex()], [OTHER_REGISTER], PlatformError),
    "platform.tdx.xfam": ([simulated_quote.XFAM.hex()], ["e700000000000000"], PlatformError),
    "platform.tdx.ppid": (lambda good: [ppid(good)], ["00" * 16], PlatformError),
    "platform.tdx.td_attributes": ([], [0], PolicyError),
    "platform.tdx.tcb_statuses": (["OutOfDate", "UpToDate"], ["OutOfDate"], PlatformError),
    "platform.tdx.min_tcb_evaluation_data_number": (1, 2, PlatformError),
    "platform.tdx.max_collateral_age_days": (1, 0, PlatformError),  # it is made an hour before
    "platform.simulated_root": (
        lambda good: workshop.pem(good.machine.root_certificate()),
        lambda good: workshop.pem(workshop.machine(good.folder / "other").root_certificate()),
        TrustAnchorError,
    ),
    "code.digests": ([OTHER, CODE], [OTHER], CodeError),
    "code.covered_by_image": (
        {"code": {"covered_by_image": True}},
        {"code": {"covered_by_image": False}},
        PolicyError,
    ),
    "code.unreviewed": ({"code": {"unreviewed": True}}, {"code": {"unreviewed": False}}, PolicyError),
    "code.packages": ([OTHER, PACKAGES], [OTHER], CodeError),
    "claims.property": ("train", "evaluate", ClaimError),
    "claims.data": ([OTHER, str(at_hand.MANIFEST.digest)], [OTHER], ClaimError),
    "claims.layout": (["jsonl", at_hand.MANIFEST.layout], ["float16[8]", "uint16[]"], ClaimError),
    "claims.initial": ([str(at_hand.INITIAL.digest)], [str(at_hand.MODEL.digest)], ClaimError),
    "claims.initial_taken": ("first_step", "first_delivery", ClaimError),
    "claims.tokenizer": (["none"], [OTHER], ClaimError),
    "claims.architecture": ([str(sha256_digest(b"architecture"))], [OTHER], ClaimError),
    "claims.records.least": (20, 21, ClaimError),
    "claims.records.greatest": (20, 19, ClaimError),
    "claims.epochs.least": (2, 3, ClaimError),
    "claims.epochs.greatest": (2, 1, ClaimError),
    "claims.multiplicity.least": (2, 3, ClaimError),
    "claims.multiplicity.greatest": (2, 1, ClaimError),
    "claims.exact": (True, "yes", PolicyError),  # the other rejections are in test_data_rules.py
    "claims.padded": (0, -1, PolicyError),
    "claims.unknown_padding": (True, "no", PolicyError),
    "claims.streams": (True, "no", PolicyError),
    "claims.ranks.least": (1, 2, ClaimError),
    "claims.ranks.greatest": (1, 0, ClaimError),
    "claims.interconnect": ("unprotected", "protected", PolicyError),
    "claims.steps.least": (4, 5, ClaimError),
    "claims.steps.greatest": (4, 3, ClaimError),
    "claims.arguments.lr.least": (0.0001, 0.00011, ClaimError),
    "claims.arguments.lr.greatest": (0.001, 0.0009, ClaimError),
    "claims.reported.loss.least": (0.5, 0.51, ClaimError),
    "claims.reported.loss.greatest": (0.5, 0.49, ClaimError),
    "claims.declared": (0, -1, PolicyError),
}


def ppid(good: GoodRun) -> str:
    return next(
        check.detail.rpartition(" ")[2] for check in good.verify().checks if check.name == "one machine"
    )


def changes(good: GoodRun, path: str, value: Any) -> dict[str, Any]:
    """Returns the changes that make the good policy say this under a rule, and nothing else there."""
    if callable(value):
        value = value(good)
    if isinstance(value, dict):
        return value
    parent, _, end = path.rpartition(".")
    return {parent: {end: value}} if end in ("least", "greatest") else {path: value}


@pytest.mark.parametrize("path", RULES)
def test_a_rule_accepts(good: GoodRun, path: str) -> None:
    assert good.verify(policy=good.policy(changes(good, path, RULES[path][0]))).checks


@pytest.mark.parametrize("path", RULES)
def test_a_rule_rejects(good: GoodRun, path: str) -> None:
    _, value, error = RULES[path]
    with pytest.raises(error) as caught:
        good.verify(policy=good.policy(changes(good, path, value)))
    assert type(caught.value) is error


# The table is whole -------------------------------------------------------------------------------


def named_alike(path: str) -> str:
    return path.replace(".lr.", ".*.").replace(".loss.", ".*.")


def test_every_rule_of_a_policy_stands_in_the_table() -> None:
    assert {named_alike(path) for path in RULES} == {path for path in rules_of(Policy) if not elsewhere(path)}


def elsewhere(path: str) -> bool:
    """Those stand in the tables of test_policy_rules_snp.py and test_policy_rules_gpu.py."""
    return path.startswith(
        ("platform.snp.", "platform.gpu.", "platform.simulated_gpu", "platform.simulated_rim")
    )


def test_a_rule_that_were_missing_would_be_seen() -> None:
    wider = dataclasses.make_dataclass(
        "Wider", [(name, hint) for name, hint in typing.get_type_hints(Policy).items()] + [("extra", int)]
    )
    assert {named_alike(path) for path in RULES} != {path for path in rules_of(wider) if not elsewhere(path)}
    assert "platform.tdx.rtmr2" in set(rules_of(Policy))


# Rules that the good run alone cannot show --------------------------------------------------------


def test_an_attribute_bit_must_be_allowed(good: GoodRun) -> None:
    def with_bit_16(report: Any) -> Any:
        return dataclasses.replace(report, td_attributes=bytes.fromhex("0000011000000000"))

    strange = good.resealed(good.bundle, report=with_bit_16)
    with pytest.raises(PlatformError, match="bit 16 is set and not allowed"):
        good.verify(strange)
    assert good.verify(strange, policy=good.policy({"platform.tdx.td_attributes": [16]})).checks


def test_as_many_values_may_be_declared_as_the_policy_says(good: GoodRun) -> None:
    declared = Artifact(source=Source.DECLARED, kind="file", digest=sha256_digest(b"said"))
    evidence = good.sealed_end("claims.tokenizer", declared)
    rules = {"claims.tokenizer": [str(declared.digest)]}
    with pytest.raises(ClaimError, match="the policy allows 0"):
        good.verify(evidence, policy=good.policy(rules))
    assert good.verify(evidence, policy=good.policy(rules | {"claims.declared": 1})).checks


@pytest.mark.parametrize("path", ["claims.arguments.momentum", "claims.reported.accuracy"])
def test_a_demand_for_what_the_evidence_does_not_have_rejects(good: GoodRun, path: str) -> None:
    with pytest.raises(ClaimError, match=r"does not say|logged none"):
        good.verify(policy=good.policy({path: {"least": 0}}))


@pytest.mark.parametrize("data", [[OTHER], [str(at_hand.MANIFEST.digest)], [OTHER, OTHER]])
def test_a_policy_that_lists_data_rejects_a_script_that_read_its_data_itself(
    good: GoodRun, data: Any
) -> None:
    """What such a script opened is listed as an input; an input is no data that was counted."""
    opened = Artifact(source=Source.REPORTED, kind="opened", digest=at_hand.MANIFEST.digest)
    end = put(put(good.end, "claims.data", {}), "run.inputs.opened:corpus/a", opened)
    unread = good.resealed(good.with_end(end.encode()))
    free = {"claims.records": None, "claims.epochs": None}
    anybody = {"challenge": workshop.NEVER, "freshness_rule": "not_checked"}  # the request asks for data
    with pytest.raises(ClaimError, match=r"data: the policy demands .* the evidence says none"):
        good.verify(unread, policy=good.policy({"claims.data": data} | free), **anybody)
    for word in ("none", "any"):
        result = good.verify(unread, policy=good.policy({"claims.data": [word]} | free), **anybody)
        assert any("no training data was counted" in warning for warning in result.warnings)
    with pytest.raises(ClaimError, match="records"):
        good.verify(
            unread,
            policy=good.policy(
                {"claims.data": ["any"], "claims.records": {"least": 1}, "claims.epochs": None}
            ),
            **anybody,
        )


# Unset means reject -------------------------------------------------------------------------------

MANDATORY = {
    "version": PolicyError,
    "platform": PolicyError,
    "platform.tdx": PolicyError,
    "platform.tdx.mr_td": PlatformError,
    "platform.tdx.rtmr0": PlatformError,
    "platform.tdx.rtmr1": PlatformError,
    "platform.tdx.rtmr2": PlatformError,
    "platform.simulated_root": TrustAnchorError,
    "code": PolicyError,
    "code.digests": PolicyError,
    "claims": PolicyError,
    "claims.property": PolicyError,
    "claims.data": PolicyError,
    "claims.initial": PolicyError,
    "claims.tokenizer": PolicyError,
}
OPTIONAL = {
    "code.packages": "code.packages",
    "claims.architecture": "claims.architecture: the policy accepts any",
    "claims.records": "claims.records: any number",
    "claims.epochs": "claims.epochs",
    "claims.steps": "claims.steps: any number",
    "claims.arguments": "claims.arguments: any",
    "claims.reported": "claims.reported: whatever",
}
"""Left out, these demand nothing; `policy check` says so in these words."""


@pytest.mark.parametrize("path", MANDATORY)
def test_leaving_out_a_mandatory_rule_rejects(good: GoodRun, path: str) -> None:
    with pytest.raises(MANDATORY[path]):
        good.verify(policy=good.policy({path: None}))


_NO_VALUES = ("mr_td", "rtmr0", "rtmr1", "rtmr2", "mr_config_id", "mr_owner", "mr_owner_config")
EMPTY: dict[str, tuple[Any, type[Exception]]] = {
    **dict.fromkeys(("platform", "code", "claims"), ({}, PolicyError)),
    "platform.tdx": ({}, PlatformError),
    **{f"platform.tdx.{name}": ([], PlatformError) for name in _NO_VALUES},
    **{f"platform.tdx.{name}": ([], PlatformError) for name in ("mr_seam", "xfam", "ppid", "tcb_statuses")},
    "code.digests": ([], PolicyError),
    **{
        f"claims.{name}": ([], PolicyError)
        for name in ("data", "initial", "tokenizer", "architecture", "layout")
    },
    **{
        f"claims.{name}": ({}, PolicyError)
        for name in ("records", "epochs", "multiplicity", "ranks", "steps")
    },
}


@pytest.mark.parametrize("path", EMPTY)
def test_an_empty_rule_rejects(good: GoodRun, path: str) -> None:
    empty, error = EMPTY[path]
    with pytest.raises(error) as caught:
        good.verify(policy=good.policy({path: empty}))
    assert type(caught.value) is error


def test_what_is_mandatory_or_optional_is_said_of_every_rule_of_the_good_policy(good: GoodRun) -> None:
    document = workshop.make_policy(workshop.pem(good.machine.root_certificate()))
    paths = {
        "version",
        *document,
        *(f"{part}.{rule}" for part in ("platform", "code", "claims") for rule in document[part]),
        *(f"platform.tdx.{rule}" for rule in document["platform"]["tdx"]),
    }
    assert paths == {*MANDATORY, *OPTIONAL}


@pytest.mark.parametrize("path", OPTIONAL)
def test_leaving_out_an_optional_rule_is_said(good: GoodRun, path: str) -> None:
    from palm_torch.appraisal import policy_summary

    parsed = good.policy({path: None})
    assert good.verify(policy=parsed).checks
    assert any(line.startswith(OPTIONAL[path]) for line in policy_summary.summarize(parsed).waves_through)
    assert not any(
        line.startswith(OPTIONAL[path]) for line in policy_summary.summarize(good.policy()).waves_through
    )
