"""What NVIDIA's attestation service claims about one GPU, and that all of it is good."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch.errors import EvidenceError, PlatformError

if TYPE_CHECKING:
    from palm_torch.cvm import signed_json

MANUFACTURER: Final = "5703"
"""NVIDIA's private enterprise number (IANA)."""

REQUIRED: Final = (
    "arch-check",
    "attestation-report-cert-chain-fwid-match",
    "attestation-report-nonce-match",
    "attestation-report-parsed",
    "attestation-report-signature-verified",
    "driver-rim-fetched",
    "driver-rim-measurements-available",
    "driver-rim-schema-validated",
    "driver-rim-signature-verified",
    "driver-rim-version-match",
    "vbios-index-no-conflict",
    "vbios-rim-fetched",
    "vbios-rim-measurements-available",
    "vbios-rim-schema-validated",
    "vbios-rim-signature-verified",
    "vbios-rim-version-match",
)
"""Checks that the service must say it made, as claims ``x-nvidia-gpu-…`` of a GPU."""

REQUIRED_CHAINS: Final = (
    "attestation-report-cert-chain",
    "driver-rim-cert-chain",
    "vbios-rim-cert-chain",
)
"""Certificate chains that it must say it found valid and not revoked, likewise."""

_PREFIX: Final = "x-nvidia-gpu-"
_UEID: Final = re.compile(r"[1-9][0-9]{0,59}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuOpinion:
    """What the service thinks of one GPU: all that it checks was good.

    Attributes:
        name: What the bundle calls it, "GPU-0" for the first.
        serial: Serial number of the certificate that its key is in; checked to be the evidence's.
        model: Its model, in the words of its certificate.
        driver_version: Version of its driver.
        vbios_version: Version of its firmware.
        warning: What the service warns of; None if of nothing.
    """

    name: str
    serial: int
    model: str
    driver_version: str
    vbios_version: str
    warning: str | None


def read_gpu(claims: signed_json.Node, *, name: str) -> GpuOpinion:
    """Reads the claims about one GPU, every one of which must be good (step 8).

    Args:
        claims: The claims; whether anybody signed them is not asked here.
        name: What the bundle calls the GPU.

    Raises:
        EvidenceError: If a claim is missing or of another type.
        PlatformError: If a claim is not good.
    """
    expect(claims, "measres", "success")
    expect(claims, "dbgstat", "disabled")
    expect(claims, "oemid", MANUFACTURER)
    if claims.key("secboot").value is not True:
        raise PlatformError(f"{claims.path}: secboot: expected true, got {claims.value['secboot']!r:.40}")
    for check in REQUIRED:
        if not isinstance(claims.key(_PREFIX + check).value, bool):
            raise EvidenceError(f"{claims.path}: {_PREFIX + check}: expected true or false")
    for claim, value in claims.value.items():
        if claim.startswith(_PREFIX) and value is False:
            raise PlatformError(f"{claims.path}: the service found {claim} false")
    for chain in REQUIRED_CHAINS:
        expect(claims.key(_PREFIX + chain), "x-nvidia-cert-status", "valid")
        expect(claims.key(_PREFIX + chain), "x-nvidia-cert-ocsp-status", "good")
    warning = claims.key("x-nvidia-attestation-warning")
    ueid = claims.key("ueid").text()
    if not _UEID.fullmatch(ueid):
        raise EvidenceError(f"{claims.path}: ueid: expected a decimal number, got {ueid[:60]!r}")
    return GpuOpinion(
        name=name,
        serial=int(ueid),
        model=claims.key("hwmodel").text(),
        driver_version=claims.key(f"{_PREFIX}driver-version").text(),
        vbios_version=claims.key(f"{_PREFIX}vbios-version").text(),
        warning=None if warning.value is None else warning.text(),
    )


def expect(claims: signed_json.Node, name: str, value: str) -> None:
    """Refuses claims of which one, a text, has another value.

    Raises:
        EvidenceError: If it is missing or no text.
        PlatformError: If it has another value.
    """
    found = claims.key(name).text()
    if found != value:
        raise PlatformError(f"{claims.path}: {name}: expected {value!r}, got {found[:60]!r}")
