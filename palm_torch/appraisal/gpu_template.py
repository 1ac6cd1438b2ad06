"""The GPU rules of a policy to start from: number and versions pinned, the chips left open in comments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from palm_torch import statement
from palm_torch.appraisal import yaml_comments
from palm_torch.cvm import certificate_bytes, gpu_certificate, gpu_opaque, gpu_rules, gpu_state, spdm
from palm_torch.errors import PlatformError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from palm_torch.cvm.gpu_state import GpuState
    from palm_torch.evidence import Bundle, GpuEvidence


@dataclass(frozen=True, slots=True)
class _Gpu:
    device: gpu_certificate.GpuDevice
    claims: gpu_opaque.GpuClaims


def lines(bundle: Bundle) -> Iterator[str]:
    """Yields the rules that accept the GPUs of evidence at its end; nothing if it has none.

    Args:
        bundle: The evidence; nothing in it is verified.

    Raises:
        InputError: If a report, a certificate or a statement does not parse.
    """
    if not bundle.end.gpus:
        return
    yield "  gpu:"
    yield from yaml_comments.comment(
        "GPUs of the machine. CHECK: that you expect so many; nothing shows that they sit in this machine.", 4
    )
    yield f"    count: {len(bundle.end.gpus)}"
    gpus = []
    for number, evidence in enumerate(bundle.end.gpus):
        try:
            gpus.append(_read(evidence))
        except PlatformError as error:
            yield from yaml_comments.comment(
                f"CHECK: GPU {number} is none that a policy can accept: "
                f"{yaml_comments.quoted_name(str(error))}",
                4,
            )
    if gpus:
        yield from _versions(gpus)
    yield from _manifests(bundle)
    yield from _states(
        [
            gpu_state.from_json(fields, what=f"GPU {number}: state")
            for said in (
                statement.decode_begin(bundle.begin.statement).gpu,
                statement.decode(bundle.end.statement).run.gpu,
            )
            for number, fields in enumerate(said)
        ]
    )
    if gpus:
        yield from yaml_comments.comment("The chips themselves; any of their kind unless you pin them.", 4)
        yield f"    # chip_ids: [{_quoted(gpu.device.chip_id for gpu in gpus)}]"


def _read(evidence: GpuEvidence) -> _Gpu:
    leaf, *_ = gpu_certificate.split_chain(evidence.chain)
    certificate = certificate_bytes.load_certificate(
        leaf, what="GPU certificate", algorithms=certificate_bytes.NVIDIA
    )
    claims = gpu_opaque.read_claims(spdm.parse_report(evidence.evidence).opaque)
    return _Gpu(gpu_certificate.read_device(certificate), claims)


def _versions(gpus: Sequence[_Gpu]) -> Iterator[str]:
    yield from yaml_comments.comment("Generations of GPUs that you accept.", 4)
    yield f"    architectures: [{', '.join(sorted({gpu.device.architecture for gpu in gpus}))}]"
    yield from yaml_comments.comment(
        "Least versions of the driver and of the GPUs' firmware image. Manifests exist for versions with "
        "known holes as well. CHECK: raise them to those that NVIDIA's security bulletins name.",
        4,
    )
    drivers, images = (
        {getattr(gpu.claims, name) for gpu in gpus} for name in ("driver_version", "vbios_version")
    )
    yield f'    min_driver_version: "{min(drivers, key=gpu_rules.driver_numbers)}"'
    yield f'    min_vbios_version: "{min(images, key=gpu_rules.vbios_numbers)}"'
    modes = sorted({gpu.claims.mode for gpu in gpus})
    if modes != ["spt"]:
        yield from yaml_comments.comment(
            "How the GPUs work together. CHECK: spt is each for itself, mpt several with encrypted links, "
            "ppcie several with links in the clear; unstated is that of drivers which do not say.",
            4,
        )
        yield f"    modes: [{', '.join(modes)}]"
    if any(gpu.claims.fwid is None for gpu in gpus):
        yield from yaml_comments.comment(
            "CHECK: a report does not name the firmware that holds its key: ask for a newer driver.", 4
        )
        yield "    require_fwid: false"


def _manifests(bundle: Bundle) -> Iterator[str]:
    travelled = bundle.gpu_endorsements
    if travelled is None or not travelled.rims:
        yield from yaml_comments.comment(
            "No reference manifests came with this evidence: fetch NVIDIA's for this driver and firmware, "
            "and give them to `verify` with --rim. Without any, nobody vouches for what the GPUs run, which "
            "`require_rims: false` would accept.",
            4,
        )
    yield from yaml_comments.comment(
        "Whether the status of the GPUs' certificates has to be at hand, and how many days old it may be.", 4
    )
    yield "    # require_revocation: true"
    yield "    # max_revocation_age_days: 7"


def _states(states: Sequence[GpuState]) -> Iterator[str]:
    if any(not state.switched_on for state in states):
        yield from yaml_comments.comment(
            "CHECK: the driver says that confidential computing is off: the host can look inside.",
            4,
        )
        yield "    require_cc: false"
    if any(state.environment != gpu_rules.ENVIRONMENT for state in states):
        yield from yaml_comments.comment(
            "CHECK: the driver says that this is not the production environment.", 4
        )
        yield "    require_production: false"
    if any(state.devtools for state in states):
        yield from yaml_comments.comment(
            "CHECK: the driver says that debuggers may look into the GPUs: they keep no secrets.", 4
        )
        yield "    allow_devtools: true"


def _quoted(items: Iterable[str]) -> str:
    return ", ".join(f'"{item}"' for item in items)
