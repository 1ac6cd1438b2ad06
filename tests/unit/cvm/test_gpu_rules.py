"""Rules for GPUs: what they accept, what they refuse, and what is no rule."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import gpu_world
import pytest

from palm_torch.cvm import gpu_opaque, gpu_revocation, gpu_rules
from palm_torch.cvm.gpu_rules import GpuRules
from palm_torch.errors import PlatformError, PolicyError


def refused(message: str, *, now: Any = gpu_world.NOW, options: Any = None, **changes: Any) -> None:
    found = gpu_world.verify(**{"rims": gpu_world.manifests(), **(options or {})})
    gpu_rules.appraise([found], gpu_world.rules(), now=gpu_world.NOW)
    with pytest.raises(PlatformError, match=message):
        gpu_rules.appraise([found], gpu_world.rules(**changes), now=now)


def test_two_gpus() -> None:
    gpus = [
        gpu_world.verify(gpu_world.evidence(chip=chip), chip.chain, rims=gpu_world.manifests())
        for chip in gpu_world.authority().chips
    ]
    gpu_rules.appraise(gpus, gpu_world.rules(count=2), now=gpu_world.NOW)
    gpu_rules.appraise_states([gpu_world.state()] * 2, gpus, gpu_world.rules(count=2))


def test_no_gpus_where_none_are_asked_for() -> None:
    gpu_rules.appraise([], GpuRules(count=0), now=gpu_world.NOW)
    gpu_rules.appraise_states([], [], GpuRules(count=0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 2}, "GPUs: expected 2, got 1"),
        ({"architectures": ("BLACKWELL",)}, "GPU 0: architecture: expected BLACKWELL, got HOPPER"),
        ({"architectures": ()}, "GPU 0: architecture: expected none at all, got HOPPER"),
        ({"chip_ids": ("NVIDIA:GH100:0000000000000000",)}, "GPU 0: chip_id: expected NVIDIA:GH100:00"),
        ({"min_driver_version": None}, "driver version: the policy names no minimum, .* it is 550.90.07"),
        ({"min_vbios_version": None}, "VBIOS version: the policy names no minimum"),
        ({"min_driver_version": "550.90.8"}, "driver version: expected at least 550.90.8, got 550.90.07"),
        ({"min_driver_version": "1000.1"}, "driver version: expected at least 1000.1"),
        ({"min_vbios_version": "96.00.A0.00.00"}, "VBIOS version: expected at least 96.00.A0.00.00"),
        ({"modes": ("ppcie", "mpt")}, "mode: expected ppcie or mpt, got spt"),
        ({"require_revocation": True}, "requires the status of its certificates"),
    ],
)
def test_what_is_refused(changes: dict[str, Any], message: str) -> None:
    refused(message, **changes)


def test_an_old_status() -> None:
    crls = (*gpu_world.crls()[1:], *gpu_world.crls(timedelta(days=9))[:1])
    options = {"revocation": gpu_revocation.RevocationFiles(crls=crls)}
    refused("at most 8 days old, got one of", options=options, max_revocation_age_days=8)
    found = gpu_world.verify(rims=gpu_world.manifests(), **options)
    rules = gpu_world.rules(require_revocation=True, max_revocation_age_days=10)
    gpu_rules.appraise([found], rules, now=gpu_world.NOW)


def test_no_reference_measurements() -> None:
    with pytest.raises(PlatformError, match="GPU 0: the policy requires reference measurements"):
        gpu_rules.appraise([gpu_world.verify()], gpu_world.rules(), now=gpu_world.NOW)


def test_no_status_where_none_is_required() -> None:
    found = gpu_world.verify(rims=gpu_world.manifests())
    gpu_rules.appraise([found], gpu_world.rules(), now=gpu_world.NOW)


def test_an_age_asks_for_every_status() -> None:
    message = "GPU 0: the policy requires the status of its certificates, and it was not at hand for all"
    refused(message, max_revocation_age_days=gpu_rules.MAX_AGE_DAYS)
    some = gpu_revocation.RevocationFiles(crls=gpu_world.crls()[1:])
    assert gpu_world.verify(revocation=some).revocation.issued is not None
    refused(message, options={"revocation": some}, max_revocation_age_days=gpu_rules.MAX_AGE_DAYS)


def test_fewer_states_than_gpus() -> None:
    with pytest.raises(PlatformError, match="GPU states: expected 1, one for each GPU, got 0"):
        gpu_rules.appraise_states([], [gpu_world.verify()], gpu_world.rules())


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ({"require_cc": False}, {"cc_mode": "off"}),
        ({"require_production": False}, {"environment": "sim"}),
        ({"allow_devtools": True}, {"devtools": True}),
    ],
)
def test_states_that_a_policy_puts_up_with(rule: dict[str, Any], change: dict[str, Any]) -> None:
    gpus = [gpu_world.verify()]
    gpu_rules.appraise_states([gpu_world.state(**change)], gpus, gpu_world.rules(**rule))
    with pytest.raises(PlatformError):
        gpu_rules.appraise_states([gpu_world.state(**change)], gpus, gpu_world.rules())


def test_on_a_protected_bus_the_drivers_switch_is_off() -> None:
    opaque = {gpu_opaque.FEATURE_FLAG: b"\2\0", gpu_opaque.PROTECTED_PCIE_STATUS: bytes((gpu_opaque.ON,))}
    gpus = [gpu_world.verify(gpu_world.evidence(opaque))]
    state = gpu_world.state(cc_mode="off", multi_gpu_mode="ppcie")
    gpu_rules.appraise_states([state], gpus, gpu_world.rules(modes=("ppcie",)))
    with pytest.raises(PlatformError, match="multi-GPU mode: expected ppcie, got none"):
        gpu_rules.appraise_states([gpu_world.state(cc_mode="off")], gpus, gpu_world.rules())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": -1}, "count: expected a number from 0 to 64, got -1"),
        ({"count": 65}, "count: expected a number from 0 to 64, got 65"),
        ({"architectures": ("AMPERE",)}, "architectures: expected some of HOPPER, BLACKWELL, got 'AMPERE'"),
        ({"modes": ("on",)}, "modes: expected some of spt, mpt, ppcie, unstated, got 'on'"),
        ({"min_driver_version": "550"}, "min_driver_version: expected text such as 550.90.07, got '550'"),
        ({"min_vbios_version": "96.00.9f.00.01"}, "min_vbios_version: expected text such as"),
        ({"chip_ids": ("GH100",)}, "chip_ids: expected text such as NVIDIA:GH100"),
        (
            {"max_revocation_age_days": -1},
            "max_revocation_age_days: expected a number from 0 to 36500, got -1",
        ),
        ({"max_revocation_age_days": 36_501}, "expected a number from 0 to 36500, got 36501"),
        ({"max_revocation_age_days": 10**12}, "expected a number from 0 to 36500, got 1000000000000"),
    ],
)
def test_what_is_no_rule(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        GpuRules(**{"count": 1, **changes})
