"""What a result says of a machine with GPUs: checks, what is left open, and what simulation does to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import relay
from composite_run import genuine
from workshop import NOW, put

from palm_torch.appraisal import composite as composites
from palm_torch.appraisal import receipts, reservations
from palm_torch.errors import PlatformError
from palm_torch.result import Tier
from palm_torch.sessions import gpus
from palm_torch.statement import Device

if TYPE_CHECKING:
    from composite_run import CompositeRun
    from relay import ResumedRun

    from palm_torch.result import AttestationResult


@pytest.fixture(scope="module")
def on_gpus(composite: CompositeRun) -> ResumedRun:
    """A resumed run, each session of which has the GPU of `composite`."""
    return relay.make(composite.machine, composite.request, gpus=composite.gpus)


def policy_changes(run: CompositeRun) -> dict[str, Any]:
    platform = run.policy().platform
    assert platform.gpu is not None
    return {
        "platform.gpu": {
            "count": platform.gpu.count,
            "min_driver_version": platform.gpu.min_driver_version,
            "min_vbios_version": platform.gpu.min_vbios_version,
        },
        "platform.simulated_gpu_root": platform.simulated_gpu_root,
        "platform.simulated_rim_root": platform.simulated_rim_root,
    }


def test_checks_of_gpus_are_in_the_result(pair: CompositeRun) -> None:
    checks = {check.name: check.detail for check in pair.verify().checks}
    each = "; ".join(f"{chip}, GH100, driver 550.90.07, VBIOS 96.00.9F.00.01, spt" for chip in pair.chip_ids)
    assert checks["GPUs"] == (
        f"2 attested, each at begin and end over a nonce of its own, under the root simulated GPUs: {each}"
    )
    assert checks["reference manifests"] == (
        "the GPUs run what the manifests of driver 550.90.07, VBIOS 96.00.9F.00.01 describe, under the root "
        "simulated reference manifests"
    )
    names = [check.name for check in pair.verify().checks]
    assert names.index("event log") < names.index("GPUs") < names.index("continuation")


def test_co_location_is_never_shown(composite: CompositeRun) -> None:
    result = composite.verify()
    assert result.co_location == "unproven"
    for line in (
        *gpus.NOT_CHECKED,
        "for which board the VBIOS's reference measurements are: the evidence alone says it",
    ):
        assert result.not_checked.count(line) == 1


def test_who_names_the_board_of_a_manifest_is_said(composite: CompositeRun) -> None:
    own = composite.bundle.gpu_endorsements
    assert own is not None
    board = "NV_GPU_VBIOS_SIM0_0200_882_96009F0001"
    nameless = put(own, "rims", tuple(put(item, "id", None) for item in own.rims))
    for files, said, left_open in (
        (None, False, "for which board the VBIOS's reference measurements are: the evidence alone says it"),
        (nameless, False, "the VBIOS's reference measurements do not say for which board they are"),
        (own, True, None),
    ):
        result = composite.verify(gpu_files=files)
        (detail,) = [check.detail for check in result.checks if check.name == "reference manifests"]
        assert (f"VBIOS 96.00.9F.00.01 ({board}) describe" in detail) is said
        assert [line for line in result.not_checked if "board" in line] == ([left_open] if left_open else [])


def test_without_manifests_nothing_is_said_of_them(composite: CompositeRun) -> None:
    rules = policy_changes(composite)["platform.gpu"] | {"require_rims": False}
    bare = put(composite.bundle, "gpu_endorsements", None)
    result = composite.verify(bare, policy=composite.policy({"platform.gpu": rules}))
    assert "reference manifests" not in {check.name for check in result.checks}
    assert any("nobody vouches for what the GPU runs" in line for line in result.not_checked)


@pytest.mark.parametrize(
    ("parts", "reservation"),
    [
        ((), reservations.SIMULATED),
        (("gpu", "rim"), reservations.SIMULATED),
        (("machine",), reservations.SIMULATED_GPUS),
        (("machine", "gpu"), reservations.SIMULATED_GPUS),
        (("machine", "rim"), reservations.SIMULATED_GPUS),
        (("machine", "gpu", "rim"), None),
    ],
)
def test_one_simulated_part_makes_all_simulated(
    composite: CompositeRun, monkeypatch: pytest.MonkeyPatch, parts: tuple[str, ...], reservation: Any
) -> None:
    genuine(monkeypatch, *parts)
    result = composite.verify()
    assert result.simulated is (reservation is not None)
    assert result.tier is (Tier.AFFIRMING if reservation is None else Tier.WARNING)
    assert result.reservations == (() if reservation is None else (reservation,))
    strengths = {claim.strength for claim in result.claims if claim.name == "model"}
    assert strengths == {"hardware" if reservation is None else "simulated"}


# Receipts -----------------------------------------------------------------------------------------


def check(run: ResumedRun, found: Any, composite: CompositeRun, **options: Any) -> AttestationResult:
    policy = run.policy(policy_changes(composite))
    return receipts.verify(found, **{"policy": policy, "at": NOW, "challenge": run.request, **options})


def test_a_receipt_needs_manifests_of_the_verifiers_own_or_its_evidence(
    composite: CompositeRun, on_gpus: ResumedRun
) -> None:
    file = on_gpus.sessions[0].file
    with pytest.raises(PlatformError, match="--rim FILE"):
        check(on_gpus, file, composite)
    alone = check(on_gpus, file, composite, gpu_files=composite.gpus.endorsements())
    assert alone.session == "unclosed"
    assert alone.simulated
    assert {item.name for item in alone.checks} >= {"session", "signature", "GPUs", "reference manifests"}
    assert set(gpus.NOT_CHECKED) <= set(alone.not_checked)
    closed = check(on_gpus, file, composite, closing=on_gpus.data)
    assert closed.session == "closed"
    assert [item.name for item in closed.checks].count("GPUs") == len(on_gpus.sessions)
    bare = put(on_gpus.bundle, "gpu_endorsements", None).encode()
    with pytest.raises(PlatformError, match="--rim FILE"):
        check(on_gpus, file, composite, closing=bare)


def test_a_simulated_gpu_makes_a_receipt_simulated(
    composite: CompositeRun, on_gpus: ResumedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine(monkeypatch, "machine")
    result = check(on_gpus, on_gpus.sessions[0].file, composite, gpu_files=composite.gpus.endorsements())
    assert result.simulated
    assert result.reservations[0] == reservations.SIMULATED_GPUS


def test_a_checkpoint_alone_names_devices_that_were_attested(
    composite: CompositeRun, on_gpus: ResumedRun, resumed: ResumedRun
) -> None:
    (state,) = composite.gpus.state()
    cuda = Device("cuda", state.name, state.uuid)

    def bend(what: str, number: int, value: Any) -> Any:
        return put(value, "devices", (cuda,)) if (what, number) == ("receipt", 1) else value

    on_gpu = relay.make(composite.machine, composite.request, gpus=composite.gpus, bend=bend)
    files = composite.gpus.endorsements()
    segment = on_gpu.sessions[0].segment
    assert check(on_gpus, segment, composite, gpu_files=files).checks
    without = relay.make(resumed.machine, resumed.request, bend=bend).sessions[0].segment
    assert without is not None
    with pytest.raises(PlatformError, match=r"no GPU evidence vouches for it$"):
        receipts.verify(without, policy=resumed.policy(), at=NOW, challenge=resumed.request)


def test_a_later_checkpoint_names_devices_of_earlier_sessions(
    composite: CompositeRun, resumed: ResumedRun
) -> None:
    (state,) = composite.gpus.state()
    cuda = Device("cuda", state.name, state.uuid)

    def bend(what: str, number: int, value: Any) -> Any:
        return put(value, "devices", (cuda,)) if (what, number) == ("receipt", 2) else value

    later = relay.make(resumed.machine, resumed.request, bend=bend).sessions[1].segment
    assert later is not None
    with pytest.raises(
        PlatformError, match=r"devices of the whole run, which went on from receipt sha256:.* with --closing$"
    ):
        receipts.verify(later, policy=resumed.policy(), at=NOW, challenge=resumed.request)


def test_nothing_is_said_of_gpus_where_there_are_none() -> None:
    none = gpus.Attested((), ())
    assert composites.checks(none, when="at begin") == []
    assert composites.left_open([none]) == []
    assert composites.simulation(machine=False, attested=[none]) == []
