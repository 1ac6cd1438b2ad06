"""The GPUs of a session: their evidence under the quote that seals it, and what the run says of them.

The report data of a quote seals the evidence of all GPUs, and the nonce of each GPU derives from what that
quote seals besides. So evidence of one GPU cannot stand for another, nor for another phase, run or challenge.
None of this shows that a GPU sits in the machine that made the quote: see `NOT_CHECKED`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from palm_torch.cvm import (
    binding,
    gpu,
    gpu_certificate,
    gpu_opaque,
    gpu_revocation,
    gpu_rules,
    gpu_state,
    rim,
)
from palm_torch.errors import BindingError, EvidenceError, PlatformError, prefixed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from palm_torch.cvm.gpu_rules import GpuRules
    from palm_torch.cvm.platforms import Requirements
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
_ANY_DRIVER: Final = "0.0"
_ANY_VBIOS: Final = "00.00.00.00.00"


@dataclass(frozen=True, slots=True)
class AtHand:
    """What the makers of GPUs say, as far as it is at hand for one verification; `read` makes it.

    Attributes:
        rims: Reference manifests, verified.
        revocation: What there is about the status of certificates, parsed; verified where it is used.
        travelled: Kinds that came with the evidence, each part of which must be about some GPU.
    """

    rims: tuple[rim.VerifiedRim, ...] = ()
    revocation: gpu_revocation.Statements = gpu_revocation.NOTHING
    travelled: frozenset[str] = frozenset()


NOTHING: Final = AtHand()


@dataclass(frozen=True, slots=True)
class Attested:
    """The GPUs at one end of a session; `verify` makes it.

    Attributes:
        gpus: Their verified reports.
        states: What the driver said of each, in the same order.
    """

    gpus: tuple[gpu.VerifiedGpu, ...]
    states: tuple[gpu_state.GpuState, ...]

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
    chosen = {kind: own[kind] or came[kind] for kind in _KINDS}
    rims = tuple(
        rim.verify_rim(xml, anchors=(requirements.rim_anchor,), now=now, what=f"RIM {number}")
        for number, xml in enumerate(chosen["rims"])
    )
    travels = frozenset(kind for kind in _KINDS if came[kind] and not own[kind])
    if "rims" in travels and len({item.sha256 for item in rims}) != len(rims):
        raise EvidenceError("GPU endorsements: a reference manifest came twice")
    files = gpu_revocation.RevocationFiles(ocsp=chosen["ocsp"], crls=chosen["crls"])
    return AtHand(rims=rims, revocation=gpu_revocation.read(files), travelled=travels)


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
    found = []
    for number, item in enumerate(phase.gpus):  # 2
        with prefixed(f"GPU {number}"):
            verified = gpu.verify_gpu(
                item.evidence,
                item.chain,
                nonce=binding.gpu_nonce(ctx, number),
                anchors=(requirements.gpu_anchor,),
                now=now,
                rims=at_hand.rims or None,
                revocation=at_hand.revocation,
            )
            _check_rims_at_hand(verified, rules)
        found.append(verified)
    gpu_rules.appraise(found, rules, now=now)  # 3
    states = tuple(
        gpu_state.from_json(fields, what=f"GPU {number}: state") for number, fields in enumerate(said)
    )
    gpu_rules.appraise_states(states, found, rules)  # 4
    if len({state.uuid for state in states}) != len(states):
        raise PlatformError("GPU states: two GPUs have one UUID")
    return Attested(tuple(found), states)


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


def check_devices(devices: Iterable[Device], states: Collection[gpu_state.GpuState]) -> None:
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


def check_all_used(at_hand: AtHand, gpus: Collection[gpu.VerifiedGpu]) -> None:
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
    counts = {
        "rims": len(at_hand.rims),
        "ocsp": len(at_hand.revocation.ocsp),
        "crls": len(at_hand.revocation.crls),
    }
    for kind in sorted(at_hand.travelled):
        idle = sorted(set(range(counts[kind])) - used[kind])
        if idle:
            raise EvidenceError(f"GPU endorsements: {kind}[{idle[0]}] is about no GPU of this evidence")


def rules_for_own(count: int) -> GpuRules:
    """Returns rules that the GPUs of earlier sessions must meet for a machine to go on from them.

    They have to be genuine and confidential; which of them, and in which versions, is for a verifier to say.

    Args:
        count: How many GPUs the machine itself has.
    """
    return gpu_rules.GpuRules(
        count=count,
        architectures=gpu_certificate.ARCHITECTURES,
        min_driver_version=_ANY_DRIVER,
        min_vbios_version=_ANY_VBIOS,
        modes=gpu_opaque.MODES,
        require_rims=False,
        require_fwid=False,
    )


def _files(endorsements: GpuEndorsements | None) -> dict[str, tuple[bytes, ...]]:
    return {kind: () if endorsements is None else getattr(endorsements, kind) for kind in _KINDS}


def _check_rims_at_hand(verified: gpu.VerifiedGpu, rules: GpuRules) -> None:
    """Says by name which manifests are missing, where the rules require them."""
    if rules.require_rims and verified.rims is None:
        driver = f"NV_GPU_DRIVER_{verified.device.chip}_{verified.driver_version}"
        raise PlatformError(
            f"the policy requires reference measurements, and none came with the evidence: fetch NVIDIA's "
            f"manifests {driver} and {verified.claims.vbios_rim_id}, and give each with --rim FILE"
        )
