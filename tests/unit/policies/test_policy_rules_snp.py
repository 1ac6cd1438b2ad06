"""Every rule of a policy for SEV-SNP, through the verifier: a value that accepts, and one that rejects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import snp_run
import snp_world
import workshop
from policy_paths import rules_of

from palm_torch.appraisal import policy_summary
from palm_torch.cvm import snp_rules
from palm_torch.errors import EvidenceError, PlatformError, PolicyError, TrustAnchorError
from palm_torch.policies.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from snp_run import SnpRun
    from workshop import GoodRun

    from palm_torch.evidence import Bundle

PART = "platform.snp."
TCB = snp_run.TCB
OTHER = "ab" * 48

# Rule: (a value that accepts, a value that rejects); a function of the run where they depend on it.
RULES: dict[str, tuple[Any, Any]] = {
    "measurement": ([OTHER, snp_run.MEASUREMENT], [OTHER]),
    **{f"min_tcb.{name}": (value, value + 1) for name, value in TCB.items()},
    "host_data": (["00" * 32], ["ab" * 32]),
    "id_key_digest": ([OTHER, "00" * 48], [OTHER]),
    "author_key_digest": (["00" * 48], [OTHER]),
    "family_id": (["00" * 16], ["ab" * 16]),
    "image_id": (["00" * 16], ["ab" * 16]),
    "chip_id": (lambda guest: [guest.report.chip_id.hex()], ["00" * 64]),
    "csp_id": (["other", snp_world.CSP_ID], ["other"]),
    "vmpl": ([1, 0], [1]),
    "versions": ([3], [2, 5]),
    "signing_keys": (["vcek"], ["vlek"]),
    "allow_smt": (True, False),
    "allow_cxl": (True, False),
    "require_single_socket": (False, True),
    "require_alias_check": (False, True),
    "require_revocation_list": (False, True),
}
USUAL = 1 << snp_rules.SMT_BIT | 1 << snp_rules.RESERVED_ONE_BIT

# Rules that the good run alone cannot show, with evidence that can.
EVIDENCE: dict[str, Callable[[SnpRun], Bundle]] = {
    "csp_id": lambda guest: guest.by_provider(),
    "allow_cxl": lambda guest: guest.bent(policy=USUAL | 1 << snp_rules.CXL_BIT),
    "require_alias_check": lambda guest: guest.bent(platform_info=0),
    "require_revocation_list": lambda guest: guest.endorsed(guest.bundle, snp_world.endorsements()),
}


def verify(guest: SnpRun, rule: str, value: Any) -> Any:
    rules = guest.policy({PART + rule: value(guest) if callable(value) else value})
    return guest.verify(EVIDENCE.get(rule, lambda guest: guest.bundle)(guest), policy=rules)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_accepts(guest: SnpRun, rule: str) -> None:
    assert verify(guest, rule, RULES[rule][0]).checks


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_rejects(guest: SnpRun, rule: str) -> None:
    with pytest.raises(PlatformError) as caught:
        verify(guest, rule, RULES[rule][1])
    assert type(caught.value) is PlatformError


def test_every_rule_stands_in_the_table() -> None:
    assert {PART + rule for rule in RULES} == {path for path in rules_of(Policy) if path.startswith(PART)}


@pytest.mark.parametrize(
    ("rule", "bundle"),
    [
        ("require_single_socket", lambda guest: guest.bent(policy=USUAL | 1 << snp_rules.SINGLE_SOCKET_BIT)),
        ("require_alias_check", lambda guest: guest.bundle),
        ("require_revocation_list", lambda guest: guest.bundle),
    ],
)
def test_what_is_required_is_accepted_where_it_is_so(guest: SnpRun, rule: str, bundle: Any) -> None:
    assert guest.verify(bundle(guest), policy=guest.policy({PART + rule: True})).checks


# Unset means reject, or is said -------------------------------------------------------------------

EMPTY: dict[str, tuple[Any, type[Exception]]] = {
    "platform.snp": ({}, PlatformError),
    "platform.snp.min_tcb": ({}, PolicyError),
    **{
        f"platform.snp.{name}": ([], PlatformError)
        for name in ("measurement", "host_data", "vmpl", "versions", "signing_keys")
    },
    **{
        f"platform.snp.{name}": ([], PlatformError)
        for name in ("id_key_digest", "author_key_digest", "family_id", "image_id", "chip_id")
    },
}
MISSING: dict[str, type[Exception]] = {
    "platform.snp.measurement": PlatformError,
    "platform.snp.min_tcb": PlatformError,
    **{f"platform.snp.min_tcb.{name}": PolicyError for name in TCB},
    "platform.simulated_root": TrustAnchorError,
}


@pytest.mark.parametrize("path", EMPTY)
def test_an_empty_rule_rejects(guest: SnpRun, path: str) -> None:
    value, error = EMPTY[path]
    with pytest.raises(error) as caught:
        guest.verify(policy=guest.policy({path: value}))
    assert type(caught.value) is error


def test_an_empty_list_of_providers_rejects_their_keys(guest: SnpRun) -> None:
    with pytest.raises(PlatformError, match="csp_id: the policy names no accepted value"):
        verify(guest, "csp_id", [])


@pytest.mark.parametrize("path", MISSING)
def test_leaving_out_a_mandatory_rule_rejects(guest: SnpRun, path: str) -> None:
    with pytest.raises(MISSING[path]):
        guest.verify(policy=guest.policy({path: None}))


def test_the_rules_of_the_good_policy_are_all_mandatory(guest: SnpRun) -> None:
    rules = guest.policy().platform.snp
    assert rules == snp_rules.SnpRules(measurement=rules.measurement, min_tcb=rules.min_tcb)


# Kinds of machines --------------------------------------------------------------------------------


def test_a_policy_for_one_kind_accepts_no_other(guest: SnpRun, good: GoodRun) -> None:
    root = workshop.pem(guest.machine.root_certificate())
    with pytest.raises(PlatformError, match=r"no platform\.snp"):
        guest.verify(policy=good.policy({"platform.simulated_root": root}))
    root = workshop.pem(good.machine.root_certificate())
    with pytest.raises(PlatformError, match=r"no platform\.tdx"):
        good.verify(policy=guest.policy({"platform.simulated_root": root}))


def test_a_policy_for_both_kinds_accepts_each(guest: SnpRun, good: GoodRun) -> None:
    tdx = workshop.make_policy(None)["platform"]["tdx"]
    for run in (guest, good):
        root = workshop.pem(run.machine.root_certificate())
        both = guest.policy({"platform.tdx": tdx, "platform.simulated_root": root})
        assert run.verify(policy=both).checks


def test_evidence_that_says_it_is_of_another_kind_is_refused(guest: SnpRun, good: GoodRun) -> None:
    """The word decides nothing: a report is no quote, nor a quote a report."""
    for run, kind in ((guest, "tdx"), (good, "snp")):
        with pytest.raises(EvidenceError):
            run.verify(workshop.put(run.bundle, "attester", kind))


# What is left open is said ------------------------------------------------------------------------

OPEN: dict[str, Any] = {
    "id_key_digest": ["00" * 48],
    "author_key_digest": ["00" * 48],
    "family_id": ["00" * 16],
    "image_id": ["00" * 16],
    "chip_id": ["00" * 64],
    "csp_id": ["provider"],
    "require_single_socket": True,
    "require_alias_check": True,
    "require_revocation_list": True,
    "allow_smt": False,
    "signing_keys": ["vcek"],
}
"""Rules that the good policy leaves open, with a value that closes them."""


@pytest.mark.parametrize("rule", OPEN)
def test_a_rule_left_open_is_said_until_it_is_closed(guest: SnpRun, rule: str) -> None:
    def said(changes: dict[str, Any]) -> bool:
        lines = policy_summary.summarize(guest.policy(changes)).waves_through
        return any(line.startswith(f"{PART}{rule}: ") for line in lines)

    assert said({})
    assert not said({PART + rule: OPEN[rule]})


def test_every_rule_is_open_or_demanded(guest: SnpRun) -> None:
    demands = {path for path, _ in policy_summary.summarize(guest.policy()).demands}
    rules = {path for path in rules_of(Policy) if path.startswith(PART) and "min_tcb" not in path}
    assert {path for path in demands if path.startswith(PART)} == {
        PART + "min_tcb",
        PART + "signing_keys",  # both: which keys, and that one kind stands for many chips
        *(rules - {PART + rule for rule in OPEN}),
    }
