"""A simulated maker of GPUs and of reference measurements: a test bends what they say before it is signed."""

from __future__ import annotations

import dataclasses
import functools
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from palm_torch.cvm import (
    certificates,
    gpu,
    gpu_names,
    gpu_rules,
    gpu_state,
    rim,
    simulated_gpu,
    simulated_gpu_authority,
    simulated_rim,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from palm_torch.cvm.simulated_authority import Identity
    from palm_torch.cvm.simulated_gpu_authority import Authority, Chip

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
START = NOW - timedelta(days=1)
NONCE = bytes(range(32))
DRIVER, VBIOS = simulated_gpu.DRIVER_VERSION, simulated_gpu.VBIOS_VERSION


def authority(architecture: Any = "HOPPER") -> Authority:
    """Returns the maker with two GPUs, made once for the whole run of the tests."""
    return _authority(architecture)


@functools.cache
def _authority(architecture: Any) -> Authority:
    return simulated_gpu_authority.make_authority(NOW, count=2, architecture=architecture)


@functools.cache
def rim_authority() -> simulated_rim.RimAuthority:
    """Returns the signer of reference measurements."""
    return simulated_rim.make_authority(NOW)


def anchors() -> list[certificates.TrustAnchor]:
    """Returns the roots that a verifier of everything here configures."""
    roots = (authority().root.der, authority("BLACKWELL").root.der, rim_authority().root.der)
    simulated = [certificates.TrustAnchor.from_certificate(root, name="simulated") for root in roots]
    return [certificates.NVIDIA_DEVICE_ROOT, *simulated]


def above(architecture: Any = "HOPPER") -> tuple[Identity, Identity, Identity]:
    """Returns provisioner, family and root."""
    made = authority(architecture)
    return made.provisioner, made.family, made.root


def evidence(
    opaque: Mapping[int, bytes | None] | None = None, *, chip: Chip | None = None, **changes: Any
) -> bytes:
    """Returns a signed report; `opaque` replaces fields of it, or takes them out, before it is signed."""
    fields = {**simulated_gpu.OPAQUE, **(opaque or {})}
    kept = {number: value for number, value in fields.items() if value is not None}
    report = simulated_gpu.make_report(changes.pop("nonce", NONCE), opaque=kept, **changes)
    return simulated_gpu.sign_report((chip or authority().chips[0]).key, report)


def verify(
    raw: bytes | None = None, chain: bytes | None = None, *, nonce: bytes = NONCE, **options: Any
) -> gpu.VerifiedGpu:
    """Verifies a report, that of the first GPU unless another is given."""
    return gpu.verify_gpu(
        evidence() if raw is None else raw,
        authority().chips[0].chain if chain is None else chain,
        nonce=nonce,
        **{"anchors": anchors(), "now": NOW, **options},
    )


def leaf_chain(
    key: Any = None,
    *,
    architecture: Any = "HOPPER",
    issuers: Sequence[Identity] | None = None,
    **changes: Any,
) -> bytes:
    """Returns a chain whose leaf is made anew, for the first GPU's key; keywords replace what it says."""
    provisioner, family, root = issuers or above(architecture)
    name = {"HOPPER": "GH100", "BLACKWELL": "GB100"}[architecture]
    boot_rom = simulated_gpu_authority.make_issuer(
        changes.pop("boot_rom", f"{name} A01 GSP BROM"), provisioner, START
    )
    key = key or authority(architecture).chips[0].key
    made = {
        "common_name": f"{name} A01 GSP FMC LF",
        "device_name": f"NVIDIA:{name}:0123456789ABCDEF",
        "extensions": simulated_gpu_authority.make_fwid(key, architecture=architecture),
    }
    leaf = simulated_gpu_authority.make_leaf(key, boot_rom, START, **{**made, **changes})
    return b"".join((leaf, boot_rom.der, provisioner.der, family.der, root.der))


def manifest(kind: gpu_names.RimKind = "driver", **changes: Any) -> rim.VerifiedRim:
    """Returns a verified manifest that the GPUs agree with; keywords replace what it says, or name it."""
    name = changes.pop("name", None)
    if isinstance(name, str):
        name = rim.RimName(name, "verifier")
    driver = kind == "driver"
    indices = simulated_gpu.DRIVER_INDICES if driver else simulated_gpu.VBIOS_INDICES
    made = {"version": DRIVER if driver else VBIOS, "golden": simulated_gpu.golden(indices)}
    xml = simulated_rim.make_rim(rim_authority(), **{**made, **changes})
    return rim.verify_rim(xml, anchors=anchors(), now=NOW, name=name)


@functools.cache
def manifests() -> tuple[rim.VerifiedRim, rim.VerifiedRim]:
    """Returns the two manifests that the GPUs agree with."""
    return manifest("driver"), manifest("vbios")


def crls(age: timedelta = timedelta()) -> tuple[bytes, ...]:
    """Returns the revocation lists of everybody above the GPUs and the signer of their manifests."""
    made, signers = authority(), rim_authority()
    issuers = (made.root, made.family, signers.root, signers.family, signers.product)
    return tuple(simulated_gpu_authority.make_crl(issuer, NOW - age) for issuer in issuers)


def rules(**changes: Any) -> gpu_rules.GpuRules:
    """Returns rules that one GPU meets; keywords replace some."""
    made = gpu_rules.GpuRules(count=1, min_driver_version=DRIVER, min_vbios_version=VBIOS)
    return dataclasses.replace(made, **changes)


def state(**changes: Any) -> gpu_state.GpuState:
    """Returns what the driver says of one GPU; keywords replace some."""
    made = gpu_state.GpuState(
        uuid="GPU-0",
        name="Simulated GPU",
        driver=DRIVER,
        vbios=VBIOS,
        cc_mode="on",
        devtools=False,
        environment="prod",
        ready=True,
        multi_gpu_mode="none",
    )
    return dataclasses.replace(made, **changes)
