"""A machine with GPUs: both ends of a session verified together, and what a result says of it.

One simulated part, be it the machine, a GPU or who signed a reference manifest, makes the whole simulated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from palm_torch.appraisal import reservations
from palm_torch.errors import PlatformError, prefixed
from palm_torch.result import Check
from palm_torch.sessions import gpus, seals

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from palm_torch.cvm.gpu import VerifiedGpu
    from palm_torch.cvm.gpu_measurements import Rims
    from palm_torch.cvm.gpu_state import GpuState
    from palm_torch.cvm.platforms import Requirements
    from palm_torch.evidence import Bundle
    from palm_torch.result import Reservation
    from palm_torch.sessions.gpus import AtHand, Attested
    from palm_torch.sessions.segments import CheckedSegment
    from palm_torch.statement import Begin, Statement

EARLIER_AT_BEGIN: Final = (
    "the GPUs of earlier sessions when those ended: they attested at begin; at a checkpoint the driver alone "
    "was asked for their state"
)
"""What a resumed run leaves open about GPUs."""


def verify(
    bundle: Bundle,
    begin: Begin,
    end: Statement,
    *,
    requirements: Requirements,
    at_hand: AtHand,
    now: datetime,
) -> tuple[Attested, Attested]:
    """Verifies the GPUs at both ends of a session, and that they are the same.

    Args:
        bundle: The evidence; that its quotes seal the GPUs' evidence is the caller's business.
        begin: Its begin statement.
        end: Its end statement.
        requirements: The rules, and the roots.
        at_hand: What the makers of GPUs say.
        now: Time of verification, aware.

    Returns:
        Those at begin and those at end.

    Raises:
        InputError: If a part does not parse; the message names the GPU, counted from 0.
        RejectedError: Of the class that fits, if a step of `gpus.verify` fails.
        BindingError: If the GPUs at end are not those at begin, or in another state.
    """
    first, last = (
        gpus.verify(phase, said, ctx, requirements=requirements, at_hand=at_hand, now=now)
        for phase, said, ctx in (
            (bundle.begin, begin.gpu, seals.begin_context(bundle.opening)),
            (bundle.end, end.run.gpu, seals.end_context(bundle)),
        )
    )
    gpus.check_same(first, last)
    return first, last


def checks(attested: Attested, *, when: str) -> list[Check]:
    """Returns what was established of the GPUs of a session; nothing without any.

    Args:
        attested: The GPUs.
        when: At which ends of which session, in words.
    """
    if not attested.gpus:
        return []
    named = "; ".join(f"{gpu.chip_id}, {gpu.state}" for gpu in attested.gpus)
    found = [
        Check(
            name="GPUs",
            detail=f"{len(attested.gpus)} attested, each {when} over a nonce of its own, under the root "
            f"{attested.gpus[0].anchor.name}: {named}",
        )
    ]
    compared = [rims for gpu in attested.gpus if (rims := gpu.rims) is not None]
    if compared:
        pairs = sorted({_described(rims) for rims in compared})
        found.append(
            Check(
                name="reference manifests",
                detail=f"the GPUs run what the manifests of {'; '.join(pairs)} describe, "
                f"under the root {compared[0].driver.anchor.name}",
            )
        )
    return found


def _described(rims: Rims) -> str:
    name = rims.vbios.name
    board = "" if name is None or name.by != "verifier" else f" ({name.id})"
    return f"driver {rims.driver.version}, VBIOS {rims.vbios.version}{board}"


def left_open(attested: Iterable[Attested], *, earlier: bool = False) -> list[str]:
    """Returns what no evidence of GPUs shows, and what that of these leaves open; nothing without any.

    Args:
        attested: The GPUs of every phase and session.
        earlier: Whether some are those of earlier sessions of the run.
    """
    every = all_of(attested)
    if not every:
        return []
    before = [EARLIER_AT_BEGIN] if earlier else []
    return list(dict.fromkeys([*(line for gpu in every for line in gpu.caveats), *gpus.NOT_CHECKED, *before]))


def all_of(attested: Iterable[Attested]) -> list[VerifiedGpu]:
    """Returns the reports of all GPUs of several phases and sessions."""
    return [gpu for item in attested for gpu in item.gpus]


def places(attested: Sequence[Attested]) -> list[tuple[str, VerifiedGpu]]:
    """Returns the GPUs of a run, each with its place in the evidence, in words.

    Args:
        attested: Those at begin, those at end, and those at the begin of each segment, oldest first.
    """
    names = ("begin", "end", *(f"begin of segment {number}" for number in range(1, len(attested))))
    return [
        (f"GPU {number} at {name}", gpu)
        for name, item in zip(names, attested, strict=False)  # there are more names than it takes
        for number, gpu in enumerate(item.gpus)
    ]


def devices(end: Statement, attested: Attested, earlier: Sequence[CheckedSegment]) -> Check:
    """Checks that whatever ran on other than the CPU has evidence of its own.

    A statement names the devices of the whole run, up to its moment.

    Args:
        end: The end statement.
        attested: The GPUs of the sealed session.
        earlier: The segments before it, oldest first.

    Raises:
        PlatformError: If something ran elsewhere, or it is not said where.
    """
    known: set[GpuState] = set()
    for segment in earlier:
        known |= set(segment.session.gpus.states)
        with prefixed(f"segment {segment.number}"):
            gpus.check_devices(segment.content.devices, known)
    if not end.run.devices:
        raise PlatformError("the statement names no device on which the measured tensors lived")
    gpus.check_devices(end.run.devices, {*known, *attested.states})
    others = [str(device.uuid) for device in end.run.devices if device.type != gpus.CPU]
    if not others:
        said = "the model lived on the CPU alone; no GPU evidence needed"
    else:
        said = f"the model lived on nothing but the CPU and attested GPUs: {', '.join(others)}"
    return Check(name="devices", detail=said)


def simulation(*, machine: bool, attested: Iterable[Attested]) -> list[Reservation]:
    """Returns the reservation that a simulated part calls for; none if there is none.

    Args:
        machine: Whether the machine that made the quotes is a simulator.
        attested: The GPUs.
    """
    if machine:
        return [reservations.SIMULATED]
    return [reservations.SIMULATED_GPUS] if any(item.simulated for item in attested) else []
