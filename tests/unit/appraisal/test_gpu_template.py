"""The policy to start from, made of evidence with GPUs: it accepts them, and says what to check."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import workshop
from workshop import put

from palm_torch.appraisal import policy_template
from palm_torch.cvm import gpu_opaque, gpu_rules, simulated_gpu, simulated_gpu_authority, spdm
from palm_torch.errors import EvidenceError, PlatformError, PolicyError
from palm_torch.policies import policy

if TYPE_CHECKING:
    from composite_run import CompositeRun

    from palm_torch.evidence import Bundle, GpuEvidence
    from palm_torch.policies.policy import Policy

ANYBODY: dict[str, Any] = {"challenge": workshop.NEVER, "freshness_rule": "not_checked"}


def template(run: CompositeRun, bundle: Bundle | None = None, **options: Any) -> str:
    roots = {
        "simulated_root": run.machine.root_certificate(),
        "simulated_gpu_root": run.gpus.root_certificate(),
        "simulated_rim_root": run.gpus.rim_root_certificate(),
    }
    return policy_template.starting_policy((bundle or run.bundle).encode(), **{**roots, **options})


def accepted(run: CompositeRun, bundle: Bundle | None = None) -> Policy:
    parsed = policy.parse(template(run, bundle).encode("ascii"))
    assert run.verify(bundle, policy=parsed, **ANYBODY).checks
    return parsed


def plain(text: str) -> str:
    """Returns the comments and values of a template as running text."""
    return re.sub(r"\s*\n\s*#?\s*", " ", text)


def bent(run: CompositeRun, **fields: bytes | None) -> Bundle:
    """Returns evidence whose reports say something else, by the name of the opaque field."""
    opaque = dict(simulated_gpu.OPAQUE)
    for name, value in fields.items():
        number = getattr(gpu_opaque, name)
        if value is None:
            del opaque[number]
        else:
            opaque[number] = value
    return run.attested_again(run.bundle, lambda _, ctx: run.collect(ctx, opaque=opaque))


def test_it_accepts_the_very_gpus(pair: CompositeRun) -> None:
    parsed = accepted(pair)
    assert parsed.platform.gpu == gpu_rules.GpuRules(
        count=2, min_driver_version="550.90.07", min_vbios_version="96.00.9F.00.01"
    )
    text = template(pair)
    commented = ("chip_ids", "require_revocation", "max_revocation_age_days")
    for rule in commented:
        text, count = re.subn(rf"^    # ({rule}: )", r"    \1", text, flags=re.MULTILINE)
        assert count == 1
    pinned = policy.parse(text.encode())
    assert pinned.platform.gpu is not None
    assert pinned.platform.gpu.chip_ids == tuple(pair.chip_ids)
    assert pair.verify(policy=pinned, **ANYBODY).checks


def test_without_gpus_it_has_no_rules_for_any(good: workshop.GoodRun, composite: CompositeRun) -> None:
    root = good.machine.root_certificate()
    text = policy_template.starting_policy(good.data, simulated_root=root)
    assert "gpu" not in text
    with pytest.raises(PolicyError, match="simulated_gpu_root: a root for GPUs, and no rules for any"):
        policy_template.starting_policy(
            good.data, simulated_root=root, simulated_gpu_root=composite.gpus.root_certificate()
        )


def test_simulated_roots_are_never_silent(composite: CompositeRun) -> None:
    said = plain(template(composite))
    assert "CHECK: this admits simulated GPUs IN PLACE OF NVIDIA's root" in said
    assert "CHECK: this admits simulated reference manifests of GPUs IN PLACE OF NVIDIA's root" in said
    hardware = template(composite, simulated_gpu_root=None, simulated_rim_root=None)
    assert "NVIDIA's root" not in hardware
    parsed = policy.parse(hardware.encode())
    assert (parsed.platform.simulated_gpu_root, parsed.platform.simulated_rim_root) == (None, None)


def test_manifests_that_did_not_travel(composite: CompositeRun) -> None:
    assert "No reference manifests" not in plain(template(composite))
    for part, new in (("gpu_endorsements", None), ("gpu_endorsements.rims", ())):
        bundle = put(composite.bundle, part, new)
        assert "No reference manifests came with this evidence" in plain(template(composite, bundle))
        with pytest.raises(PlatformError, match="--rim FILE"):
            composite.verify(bundle, policy=policy.parse(template(composite, bundle).encode()), **ANYBODY)


@pytest.mark.parametrize(
    ("fields", "says", "rule"),
    [
        ({"FWID": None}, "does not name the firmware that holds its key", ("require_fwid", False)),
        (
            {"FEATURE_FLAG": b"\x02\x00", "PROTECTED_PCIE_STATUS": bytes((gpu_opaque.ON,))},
            "CHECK: spt is each for itself",
            ("modes", ("ppcie",)),
        ),
    ],
)
def test_what_is_unusual_is_accepted_and_said(
    composite: CompositeRun, fields: Any, says: str, rule: tuple[str, object]
) -> None:
    bundle = bent(composite, **fields)
    name, value = rule
    said = template(composite, bundle)
    assert says in plain(said)
    assert getattr(policy.parse(said.encode()).platform.gpu, name) == value


@pytest.mark.parametrize(
    ("state", "says", "rule"),
    [
        ({"cc_mode": "off"}, "confidential computing is off", ("require_cc", False)),
        ({"environment": "sim"}, "not the production environment", ("require_production", False)),
        ({"devtools": True}, "they keep no secrets", ("allow_devtools", True)),
    ],
)
def test_what_the_driver_admits_is_accepted_and_said(
    composite: CompositeRun, state: Any, says: str, rule: tuple[str, object]
) -> None:
    bundle = composite.with_states(**state)
    assert says in plain(template(composite, bundle))
    name, value = rule
    assert getattr(accepted(composite, bundle).platform.gpu, name) == value


def test_the_least_of_several_versions_is_a_number_not_a_word(pair: CompositeRun) -> None:
    def collect(_: object, ctx: bytes) -> tuple[GpuEvidence, ...]:
        opaque = dict(simulated_gpu.OPAQUE)
        older = {**opaque, gpu_opaque.DRIVER_VERSION: b"99.1\x00"}
        return pair.collect(ctx, opaque=opaque)[0], pair.collect(ctx, opaque=older)[1]

    parsed = policy.parse(template(pair, pair.attested_again(pair.bundle, collect)).encode())
    assert parsed.platform.gpu is not None
    assert parsed.platform.gpu.min_driver_version == "99.1"


def test_what_no_policy_can_accept_is_said(composite: CompositeRun) -> None:
    bundle = bent(composite, FEATURE_FLAG=b"\x02\x00")  # and its bus says that it is not protected
    text = template(composite, bundle)
    assert "CHECK: GPU 0 is none that a policy can accept: " in plain(text)
    parsed = policy.parse(text.encode())
    assert parsed.platform.gpu == gpu_rules.GpuRules(count=1)
    with pytest.raises(PlatformError):
        composite.verify(bundle, policy=parsed, **ANYBODY)


@pytest.mark.parametrize("part", ["evidence", "chain"])
def test_what_does_not_parse_makes_no_policy(composite: CompositeRun, part: str) -> None:
    bundle = put(composite.bundle, f"end.gpus.0.{part}", b"x")
    with pytest.raises(EvidenceError if part == "evidence" else Exception, match="GPU"):
        template(composite, bundle)
    key = simulated_gpu_authority.new_key()
    report = simulated_gpu.sign_report(key, simulated_gpu.make_report(bytes(spdm.NONCE_BYTES)))
    assert template(composite, put(composite.bundle, "end.gpus.0.evidence", report))  # nothing is verified
