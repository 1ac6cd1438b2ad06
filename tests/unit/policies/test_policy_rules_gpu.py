"""Every rule of a policy for GPUs, through the verifier: a value that accepts, and one that rejects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import composite_run
import pytest
import workshop
from policy_paths import rules_of
from workshop import put

from palm_torch.appraisal import policy_summary
from palm_torch.cvm import gpu_opaque, simulated_gpu
from palm_torch.errors import PlatformError, PolicyError, TrustAnchorError
from palm_torch.policies.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from composite_run import CompositeRun

    from palm_torch.evidence import Bundle

PART = "platform.gpu."

# Rule: (a value that accepts, a value that rejects); a function of the run where they depend on it.
RULES: dict[str, tuple[Any, Any]] = {
    "count": (1, 2),
    "architectures": (["BLACKWELL", "HOPPER"], ["BLACKWELL"]),
    "min_driver_version": (composite_run.DRIVER, "550.90.08"),
    "min_vbios_version": (composite_run.VBIOS, "96.00.9F.00.02"),
    "modes": (["ppcie", "spt"], ["ppcie", "mpt", "unstated"]),
    "chip_ids": (lambda run: run.chip_ids, ["NVIDIA:GH100:0000000000000000"]),
    "require_rims": (False, True),
    "require_fwid": (False, True),
    "require_cc": (False, True),
    "require_production": (False, True),
    "allow_devtools": (True, False),
    "require_revocation": (False, True),
    "max_revocation_age_days": (1, 0),
}


def without(kind: str) -> Callable[[CompositeRun], Bundle]:
    return lambda run: put(run.bundle, f"gpu_endorsements.{kind}", ())


def nameless(run: CompositeRun) -> Bundle:
    """Returns evidence whose reports do not name the firmware that holds the key."""
    opaque = {name: value for name, value in simulated_gpu.OPAQUE.items() if name != gpu_opaque.FWID}
    return run.attested_again(run.bundle, lambda _, ctx: run.collect(ctx, opaque=opaque))


def bare(run: CompositeRun) -> Bundle:
    """Returns evidence that no endorsements travel with."""
    return put(run.bundle, "gpu_endorsements", None)


# Rules that the good run alone cannot show, with evidence that can.
EVIDENCE: dict[str, Callable[[CompositeRun], Bundle]] = {
    "require_rims": bare,
    "require_fwid": nameless,
    "require_cc": lambda run: run.with_states(cc_mode="off"),
    "require_production": lambda run: run.with_states(environment="sim"),
    "allow_devtools": lambda run: run.with_states(devtools=True),
    "require_revocation": without("ocsp"),
}


def verify(run: CompositeRun, rule: str, value: Any) -> Any:
    rules = run.policy({PART + rule: value(run) if callable(value) else value})
    return run.verify(EVIDENCE.get(rule, lambda run: run.bundle)(run), policy=rules)


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_accepts(composite: CompositeRun, rule: str) -> None:
    assert verify(composite, rule, RULES[rule][0]).checks


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_rejects(composite: CompositeRun, rule: str) -> None:
    with pytest.raises(PlatformError) as caught:
        verify(composite, rule, RULES[rule][1])
    assert type(caught.value) is PlatformError


def test_every_rule_stands_in_the_table() -> None:
    assert {PART + rule for rule in RULES} == {path for path in rules_of(Policy) if path.startswith(PART)}


@pytest.mark.parametrize(
    "rule", ["require_rims", "require_fwid", "require_cc", "require_production", "require_revocation"]
)
def test_what_is_required_is_accepted_where_it_is_so(composite: CompositeRun, rule: str) -> None:
    assert composite.verify(policy=composite.policy({PART + rule: True})).checks


# Which GPUs at all ------------------------------------------------------------------------------------


def test_gpus_are_accepted_only_where_the_policy_speaks_of_them(composite: CompositeRun) -> None:
    nobody = {"platform.gpu": None, "platform.simulated_gpu_root": None, "platform.simulated_rim_root": None}
    with pytest.raises(PlatformError, match="of which the policy accepts none"):
        composite.verify(policy=composite.policy(nobody))


def test_a_machine_without_gpus_is_not_one_with(good: workshop.GoodRun, composite: CompositeRun) -> None:
    rules = {"platform.gpu": {"count": 1, "min_driver_version": "1.0", "min_vbios_version": "00.00.00.00.00"}}
    with pytest.raises(PlatformError, match="GPUs: expected 1, got 0"):
        good.verify(policy=good.policy(rules))
    assert good.verify(policy=good.policy({"platform.gpu": {"count": 0}})).checks
    with pytest.raises(PlatformError, match="GPUs: expected 0, got 1"):
        composite.verify(policy=composite.policy({"platform.gpu.count": 0}))


@pytest.mark.parametrize("name", ["simulated_gpu_root", "simulated_rim_root"])
def test_a_simulated_root_counts_alone(composite: CompositeRun, name: str) -> None:
    path = f"platform.{name}"
    for other in (None, workshop.pem(composite.machine.root_certificate())):
        with pytest.raises(TrustAnchorError):
            composite.verify(policy=composite.policy({path: other}))
    with pytest.raises(PolicyError, match=rf"^policy: platform\.{name}: expected one PEM certificate"):
        composite.policy({path: "x"})
    with pytest.raises(
        PolicyError, match=rf"^policy: platform\.{name}: a root for GPUs, and no rules for any"
    ):
        composite.policy(
            {
                "platform.gpu": None,
                "platform.simulated_gpu_root": None,
                "platform.simulated_rim_root": None,
                path: workshop.pem(composite.gpus.root_certificate()),
            }
        )


# Unset means reject, or is said -----------------------------------------------------------------------

EMPTY = ("architectures", "modes", "chip_ids")
MANDATORY = {"min_driver_version": PlatformError, "min_vbios_version": PlatformError, "count": PolicyError}
OPTIONAL = ("chip_ids", "require_revocation", "max_revocation_age_days")


@pytest.mark.parametrize("rule", EMPTY)
def test_an_empty_rule_rejects(composite: CompositeRun, rule: str) -> None:
    rules = composite.policy({PART + rule: []})
    with pytest.raises(PlatformError, match="expected none at all"):
        composite.verify(policy=rules)
    assert policy_summary.summarize(rules).accepts_nothing == (PART + rule,)


@pytest.mark.parametrize("rule", MANDATORY)
def test_leaving_out_a_mandatory_rule_rejects(composite: CompositeRun, rule: str) -> None:
    with pytest.raises(MANDATORY[rule]) as caught:
        composite.verify(policy=composite.policy({PART + rule: None}))
    assert type(caught.value) is MANDATORY[rule]


@pytest.mark.parametrize("rule", OPTIONAL)
def test_what_an_unset_rule_waves_through_is_said(composite: CompositeRun, rule: str) -> None:
    waved = policy_summary.summarize(composite.policy()).waves_through
    assert any(line.startswith(f"{PART}{rule}: ") for line in waved)
    value = RULES[rule][1]
    waved = policy_summary.summarize(composite.policy({PART + rule: value})).waves_through
    assert not any(line.startswith(f"{PART}{rule}: ") for line in waved) or value == 0
