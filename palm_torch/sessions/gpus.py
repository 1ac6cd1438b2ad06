"""The GPUs of a session: their evidence under the quote that seals it, and what the run says of them.

The report data of a quote seals the evidence of all GPUs, and the nonce of each GPU derives from what that
quote seals besides. So evidence of one GPU cannot stand for another, nor for another phase, run or challenge.
None of this shows that a GPU sits in the machine that made the quote: see `NOT_CHECKED`.

What reads reports and manifests, `gpu_evidence`, is loaded when there are some, and not before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from palm_torch.errors import BindingError, EvidenceError, PlatformError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from palm_torch.cvm.gpu import VerifiedGpu  # noqa: TC004 (no codec reads these classes)
    from palm_torch.cvm.gpu_revocation import Statements  # noqa: TC004 (no codec reads these classes)
    from palm_torch.cvm.gpu_state import GpuState  # noqa: TC004 (no codec reads these classes)
    from palm_torch.cvm.platforms import Requirements
    from palm_torch.cvm.rim import VerifiedRim  # noqa: TC004 (no codec reads these classes)
    from palm_torch.evidence import GpuEndorsements, Phase
    from palm_torch.statement import Device

CPU: Final = "cpu"
CUDA: Final = "cuda"

NOT_CHECKED: Final = (
    "that the GPUs sit in this machine (co-location): a genuine GPU elsewhere can answer this run's nonces",
    "that confidential computing was on in the GPUs: the guest says it, and no GPU signs it",
)
"""What no evidence of a GPU shows."""

_KINDS: Final = ("rims", "ocsp", "crls")
_NO_GPUS: Final = "evidence of GPUs, of which the policy accepts none: no platform.gpu"


@dataclass(frozen=True, slots=True)
class AtHand:
    """What the makers of GPUs say, as far as it is at hand for one verification; `read` makes it.

    Attributes:
        rims: Reference manifests, verified.
        statuses: What there is about the status of certificates, parsed; verified where it is used. None for
            nothing.
        travelled: Kinds that came with the evidence, each part of which must be about some GPU.
    """

    rims: tuple[VerifiedRim, ...] = ()
    statuses: Statements | None = None
    travelled: frozenset[str] = frozenset()


NOTHING: Final = AtHand()


@dataclass(frozen=True, slots=True)
class Attested:
    """The GPUs at one end of a session; `verify` makes it.

    Attributes:
        gpus: Their verified reports.
        states: What the driver said of each, in the same order.
    """

    gpus: tuple[VerifiedGpu, ...]
    states: tuple[GpuState, ...]

    @property
    def simulated(self) -> bool:
        """Whether one of them, or of their reference manifests, is a simulator's."""
        return any(item.simulated for item in self.gpus)


def read(
    travelled: GpuEndorsements | None,
    given: GpuEndorsements | None,
    *,
    requirements: Requirements,
    now: datetime,
) -> AtHand:
    """Reads what is at hand about GPUs, once for all of them, and verifies the reference manifests.

    Args:
        travelled: What came with the evidence.
        given: The verifier's own files; a kind of which it has some takes the place of the one that came.
        requirements: What names the root of the manifests' signers.
        now: Time of verification, aware.

    Raises:
        EvidenceError: If something does not parse, or a manifest came twice.
        PlatformError: If something came, and the rules accept no GPU.
        RejectedError: Of the class that fits, if a manifest's signature does not hold.
    """
    if requirements.gpu is None:
        if travelled is not None:
            raise PlatformError(_NO_GPUS)
        return NOTHING
    came, own = _files(travelled), _files(given)
    travels = frozenset(kind for kind in _KINDS if came[kind] and not own[kind])
    chosen = {kind: own[kind] or came[kind] for kind in _KINDS}
    if not any(chosen.values()):
        return NOTHING
    from palm_torch.sessions import gpu_evidence  # noqa: PLC0415 (most evidence is of no GPU, and starts faster)

    return AtHand(
        rims=gpu_evidence.read_rims(
            chosen["rims"],
            by="evidence" if "rims" in travels else "verifier",
            anchor=requirements.rim_anchor,
            now=now,
        ),
        statuses=gpu_evidence.read_statuses(chosen["ocsp"], chosen["crls"]),
        travelled=travels,
    )


def verify(
    phase: Phase,
    said: Sequence[dict[str, Any]],
    ctx: bytes,
    *,
    requirements: Requirements,
    at_hand: AtHand,
    now: datetime,
) -> Attested:
    """Verifies the GPUs at one end of a session.

    1. GPUs are spoken of only where the rules accept some, and there are as many as they ask for.
    2. Each GPU answered the nonce of its place in this phase of this run, and is genuine; see
       `gpu.verify_gpu`.
    3. Together they are those that the rules ask for; see `gpu_rules.appraise`. Without any, where some are
       asked for, they are not.
    4. The statement says in which state each of them is, as often as there are GPUs, each under another name,
       and in a state that the rules accept; see `gpu_rules.appraise_states`.

    Args:
        phase: What the quote seals; that it does is the caller's business.
        said: What the phase's statement says of the state of each GPU.
        ctx: What the nonces derive from, of `seals.begin_context` or `seals.end_context`.
        requirements: The rules, and the roots.
        at_hand: What the makers say, from `read`.
        now: Time of verification, aware.

    Raises:
        InputError: If a part does not parse; the message names the GPU, counted from 0.
        RejectedError: Of the class that fits, if a step fails.
    """
    rules = requirements.gpu
    if rules is None:  # 1
        if phase.gpus or said:
            raise PlatformError(_NO_GPUS)
        return Attested((), ())
    if len(phase.gpus) != rules.count:  # before any signature is looked at
        raise PlatformError(f"GPUs: expected {rules.count}, got {len(phase.gpus)}")
    from palm_torch.sessions import gpu_evidence  # noqa: PLC0415 (most evidence is of no GPU, and starts faster)

    found, states = gpu_evidence.verify(
        phase,
        said,
        ctx,
        rules=rules,
        anchor=requirements.gpu_anchor,
        rims=at_hand.rims,
        statuses=at_hand.statuses,
        now=now,
    )
    return Attested(found, states)


def check_same(begin: Attested, end: Attested) -> None:
    """Checks that the GPUs at the end of a session are those at its beginning, in the same state.

    Raises:
        BindingError: If they are others, come in another order, or are in another state.
    """
    first, last = ([item.chip_id for item in attested.gpus] for attested in (begin, end))
    if first != last:
        raise BindingError(
            f"GPUs at end: expected those at begin, {', '.join(first)}, in this order; got {', '.join(last)}"
        )
    for number, (before, after) in enumerate(zip(begin.states, end.states, strict=True)):
        if before != after:
            raise BindingError(f"GPU {number}: its state at begin was {before}, at end it is {after}")


def check_devices(devices: Iterable[Device], states: Collection[GpuState]) -> None:
    """Checks that measured tensors lived on the CPU and on attested GPUs, and nowhere else.

    Args:
        devices: Every device that a statement names.
        states: The states of all GPUs whose evidence was verified.

    Raises:
        PlatformError: If nothing vouches for one of them.
    """
    attested = {state.uuid for state in states}
    for device in devices:
        if device.type == CPU:
            continue
        if device.type != CUDA or device.uuid not in attested:
            raise PlatformError(
                f"tensors lived on {device.type!r:.80} ({device.uuid or 'without a UUID'!r:.80}), and no GPU "
                f"evidence vouches for it"
            )


def check_all_used(at_hand: AtHand, gpus: Collection[VerifiedGpu]) -> None:
    """Checks that every endorsement that came with evidence is about one of its GPUs.

    What nobody looks at could say anything, and a bundle would have many spellings.

    Args:
        at_hand: From `read`.
        gpus: All GPUs that were verified with it, of every phase and session.

    Raises:
        EvidenceError: If one is about none of them.
    """
    pairs = [item.rims for item in gpus if item.rims is not None]
    digests = {part.sha256 for pair in pairs for part in (pair.driver, pair.vbios)}
    used = {
        "rims": {number for number, item in enumerate(at_hand.rims) if item.sha256 in digests},
        "ocsp": {number for item in gpus for number in item.revocation.answers},
        "crls": {number for item in gpus for number in item.revocation.lists},
    }
    statuses = at_hand.statuses
    counts = {
        "rims": len(at_hand.rims),
        "ocsp": 0 if statuses is None else len(statuses.ocsp),
        "crls": 0 if statuses is None else len(statuses.crls),
    }
    for kind in sorted(at_hand.travelled):
        idle = sorted(set(range(counts[kind])) - used[kind])
        if idle:
            raise EvidenceError(f"GPU endorsements: {kind}[{idle[0]}] is about no GPU of this evidence")


def _files(endorsements: GpuEndorsements | None) -> dict[str, tuple[Any, ...]]:
    return {kind: () if endorsements is None else getattr(endorsements, kind) for kind in _KINDS}
