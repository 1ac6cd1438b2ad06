"""The evidence of GPUs, where a session has some: manifests, reports, rules, states.

`palm_torch.sessions.gpus` is the way here: it knows what there is to do without any GPU, and loads this file,
and all that reads reports and manifests, when there is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from palm_torch.cvm import binding, gpu, gpu_names, gpu_revocation, gpu_rules, gpu_state, rim
from palm_torch.errors import EvidenceError, PlatformError, prefixed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from palm_torch.cvm.certificates import TrustAnchor
    from palm_torch.cvm.gpu_rules import GpuRules
    from palm_torch.evidence import Phase, ReferenceManifest

_ANY_DRIVER: Final = "0.0"
_ANY_VBIOS: Final = "00.00.00.00.00"


def read_rims(
    manifests: Sequence[ReferenceManifest],
    *,
    by: Literal["verifier", "evidence"],
    anchor: TrustAnchor,
    now: datetime,
) -> tuple[rim.VerifiedRim, ...]:
    """Verifies reference manifests.

    Args:
        manifests: What is at hand.
        by: Who brought them, and says under which names they were kept.
        anchor: The root of their signers.
        now: Time of verification, aware.

    Raises:
        EvidenceError: If one does not parse, or the evidence brings one twice.
        RejectedError: Of the class that fits, if a signature does not hold, or a name is not the manifest's.
    """
    found = tuple(
        rim.verify_rim(
            item.xml,
            anchors=(anchor,),
            now=now,
            what=f"RIM {number}",
            name=None if item.id is None else rim.RimName(item.id, by),
        )
        for number, item in enumerate(manifests)
    )
    if by == "evidence" and len({item.sha256 for item in found}) != len(found):
        raise EvidenceError("GPU endorsements: a reference manifest came twice")
    return found


def read_statuses(ocsp: tuple[bytes, ...], crls: tuple[bytes, ...]) -> gpu_revocation.Statements:
    """Parses what is at hand about the status of certificates.

    Raises:
        EvidenceError: If something does not parse.
    """
    return gpu_revocation.read(gpu_revocation.RevocationFiles(ocsp=ocsp, crls=crls))


def verify(
    phase: Phase,
    said: Sequence[dict[str, Any]],
    ctx: bytes,
    *,
    rules: GpuRules,
    anchor: TrustAnchor,
    rims: Sequence[rim.VerifiedRim],
    statuses: gpu_revocation.Statements | None,
    now: datetime,
) -> tuple[tuple[gpu.VerifiedGpu, ...], tuple[gpu_state.GpuState, ...]]:
    """Takes steps 2 to 4 of `gpus.verify`.

    Args:
        phase: As there, and so on.
        said: What the phase's statement says of the state of each GPU.
        ctx: What the nonces derive from.
        rules: The rules.
        anchor: The root of the GPUs' certificates.
        rims: The manifests at hand, verified.
        statuses: What there is about the status of certificates; None for nothing.
        now: Time of verification, aware.

    Returns:
        The reports, and what the driver said of each.
    """
    found = []
    for number, item in enumerate(phase.gpus):  # 2
        with prefixed(f"GPU {number}"):
            verified = gpu.verify_gpu(
                item.evidence,
                item.chain,
                nonce=binding.gpu_nonce(ctx, number),
                anchors=(anchor,),
                now=now,
                rims=rims or None,
                revocation=statuses or gpu_revocation.NOTHING,
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
    return tuple(found), states


def rules_for_own(count: int) -> GpuRules:
    """Returns rules that the GPUs of earlier sessions must meet for a machine to go on from them.

    They have to be genuine and confidential; which of them, and in which versions, is for a verifier to say.

    Args:
        count: How many GPUs the machine itself has.
    """
    return gpu_rules.GpuRules(
        count=count,
        architectures=gpu_names.ARCHITECTURES,
        min_driver_version=_ANY_DRIVER,
        min_vbios_version=_ANY_VBIOS,
        modes=gpu_names.MODES,
        require_rims=False,
        require_fwid=False,
    )


def _check_rims_at_hand(verified: gpu.VerifiedGpu, rules: GpuRules) -> None:
    """Says by name which manifests are missing, where the rules require them."""
    if rules.require_rims and verified.rims is None:
        driver = gpu_names.driver_rim_id(verified.device.chip, verified.driver_version)
        raise PlatformError(
            f"the policy requires reference measurements, and none came with the evidence: fetch NVIDIA's "
            f"manifests {driver} and {verified.claims.vbios_rim_id}, and give each with --rim FILE"
        )
