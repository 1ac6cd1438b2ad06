"""Embedded simulated GPUs: real formats, a root of their own, no trust.

Their reports go through the production verifier, which learns that they are simulated from the root that its
own configuration admitted, and from nothing else.
"""

from __future__ import annotations

import dataclasses
import hashlib
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from palm_torch.cvm import (
    gpu_names,
    gpu_opaque,
    gpu_state,
    simulated_gpu_authority,
    simulated_gpu_state,
    simulated_ocsp,
    simulated_rim,
    spdm,
)
from palm_torch.errors import AttesterError
from palm_torch.evidence import GpuEndorsements, GpuEvidence, ReferenceManifest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

NAME: Final = "gpu-simulated"
STATUS_LIFE: Final = timedelta(days=30)
"""How long the maker's word on certificates holds: as long as the simulated TDX machine's collateral."""

DRIVER_VERSION: Final = "550.90.07"
VBIOS_VERSION: Final = "96.00.9F.00.01"
PROJECT: Final = "SIM0"
PROJECT_SKU: Final = "0200"
CHIP_SKU: Final = "882"
DRIVER_RIM_ID: Final = gpu_names.driver_rim_id("GH100", DRIVER_VERSION)
VBIOS_RIM_ID: Final = gpu_names.vbios_rim_id(
    project=PROJECT, project_sku=PROJECT_SKU, chip_sku=CHIP_SKU, version=VBIOS_VERSION
)
DRIVER_INDICES: Final = (*range(13, 30), 35)
"""Indices of the measurements that the driver's reference manifest describes."""

VBIOS_INDICES: Final = (*range(7), *range(8, 13))
"""Indices of those that the firmware image's describes."""

MEASUREMENTS: Final = tuple(
    hashlib.sha384(f"palm-torch simulated GPU: measurement {index}".encode("ascii")).digest()
    for index in range(64)
)
"""What a simulated GPU measures."""

OPAQUE: Final[dict[int, bytes]] = {
    gpu_opaque.VBIOS_VERSION: gpu_opaque.encode_vbios_version(VBIOS_VERSION),
    gpu_opaque.CHIP_SKU: CHIP_SKU.encode("ascii").ljust(9, b"\x00"),
    gpu_opaque.PROJECT: PROJECT.encode("ascii") + b"\x00",
    gpu_opaque.PROJECT_SKU: PROJECT_SKU.encode("ascii") + b"\x00",
    gpu_opaque.DRIVER_VERSION: DRIVER_VERSION.encode("ascii") + b"\x00",
    gpu_opaque.NVDEC0_STATUS: bytes((gpu_opaque.OFF,)),
    gpu_opaque.FWID: simulated_gpu_authority.FWID,
    gpu_opaque.PROTECTED_PCIE_STATUS: bytes((gpu_opaque.OFF,)),
    gpu_opaque.OPAQUE_DATA_VERSION: bytes((1, 0)),
    gpu_opaque.FEATURE_FLAG: bytes((0, 0)),
}
"""What it says of itself."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class SimulatedGpus:
    """GPUs that need no hardware and convince no one who did not ask for it.

    Args:
        count: How many of the maker's chips are in this machine.
        directory: Where their keys live; by default beside those of the simulated TDX machine.
        clock: The current time, aware; what the maker says of them is dated by it.

    Raises:
        AttesterError: If the directory cannot be used, or there are fewer chips.
    """

    name: Final = NAME
    simulated: Final = True

    def __init__(
        self, count: int = 1, *, directory: Path | None = None, clock: Callable[[], datetime] = _utc_now
    ) -> None:
        makers = simulated_gpu_state.load_or_create(
            directory or simulated_gpu_state.default_directory(), clock=clock
        )
        self._clock, self._authority, self._rims = clock, makers.gpus, makers.rims
        chips = self._authority.chips
        if not 0 <= count <= len(chips):
            raise AttesterError(f"{NAME}: expected 0 to {len(chips)} GPUs, got {count}")
        self._chips = chips[:count]

    def state(self) -> tuple[gpu_state.GpuState, ...]:
        """Returns what a driver would say: confidential computing is on, and debuggers are not let in."""
        return tuple(
            gpu_state.GpuState(
                uuid=f"GPU-simulated-{hashlib.sha256(chip.chain).hexdigest()[:16]}",
                name="Simulated GPU",
                driver=DRIVER_VERSION,
                vbios=VBIOS_VERSION,
                cc_mode="on",
                devtools=False,
                environment="prod",
                ready=True,
                multi_gpu_mode="none",
            )
            for chip in self._chips
        )

    def collect(self, nonces: Sequence[bytes]) -> tuple[GpuEvidence, ...]:
        """Returns a report of each GPU over a nonce of its own, with its certificates.

        Args:
            nonces: 32 bytes for each GPU.

        Raises:
            AttesterError: If there are more or fewer nonces than GPUs, or one has another length.
        """
        if len(nonces) != len(self._chips):
            raise AttesterError(f"{NAME}: expected {len(self._chips)} nonces, got {len(nonces)}")
        if any(len(nonce) != spdm.NONCE_BYTES for nonce in nonces):
            raise AttesterError(f"{NAME}: expected nonces of {spdm.NONCE_BYTES} bytes")
        return tuple(
            GpuEvidence(evidence=sign_report(chip.key, make_report(nonce)), chain=chip.chain)
            for chip, nonce in zip(self._chips, nonces, strict=True)
        )

    def endorsements(self) -> GpuEndorsements:
        """Returns what the maker says at this moment: what they measure, and that no certificate is revoked.

        That is: manifests of driver and firmware image, and an answer about each certificate that has a
        status, an hour old and valid for 30 days.
        """
        now, gpus, rims = self._clock(), self._authority, self._rims
        issued = (
            (gpus.family, gpus.root),
            (gpus.provisioner, gpus.family),
            (rims.family, rims.root),
            (rims.product, rims.family),
            (rims.signer, rims.product),
        )
        return GpuEndorsements(
            rims=tuple(
                ReferenceManifest(
                    id=rim_id, xml=simulated_rim.make_rim(rims, version=version, golden=golden(indices))
                )
                for rim_id, version, indices in (
                    (DRIVER_RIM_ID, DRIVER_VERSION, DRIVER_INDICES),
                    (VBIOS_RIM_ID, VBIOS_VERSION, VBIOS_INDICES),
                )
            ),
            ocsp=tuple(
                simulated_ocsp.make_answer(
                    identity.certificate,
                    issuer,
                    now,
                    responder=simulated_ocsp.make_responder(issuer, now),
                    life=STATUS_LIFE,
                )
                for identity, issuer in issued
            ),
            crls=(),
        )

    def root_certificate(self) -> bytes:
        """Returns the root certificate, DER: what a verifier must be configured with to accept this."""
        return self._authority.root.der

    def rim_root_certificate(self) -> bytes:
        """Returns the root certificate of who signs the manifests, DER: another one than that of the GPUs."""
        return self._rims.root.der


def golden(indices: Sequence[int]) -> dict[int, tuple[bytes, ...]]:
    """Returns what reference manifests say about `DRIVER_INDICES` or `VBIOS_INDICES`: index → values."""
    return {index: (MEASUREMENTS[index],) for index in indices}


def make_report(
    nonce: bytes,
    *,
    measurements: tuple[bytes, ...] = MEASUREMENTS,
    opaque: Mapping[int, bytes] = OPAQUE,
) -> spdm.SpdmReport:
    """Returns a report over a nonce, not yet signed."""
    responder_nonce = secrets.token_bytes(spdm.NONCE_BYTES)
    report = spdm.SpdmReport(
        nonce=nonce,
        responder_nonce=responder_nonce,
        measurements=measurements,
        opaque=opaque,
        signature=bytes(spdm.SIGNATURE_BYTES),
        signed=b"",
    )
    return dataclasses.replace(report, signed=spdm.encode_report(report)[: -spdm.SIGNATURE_BYTES])


def sign_report(key: ec.EllipticCurvePrivateKey, report: spdm.SpdmReport) -> bytes:
    """Returns evidence: the report with a signature by the key, which is what a GPU's firmware makes."""
    numbers = utils.decode_dss_signature(key.sign(report.signed, ec.ECDSA(hashes.SHA384())))
    half = spdm.SIGNATURE_BYTES // 2
    return report.signed + b"".join(number.to_bytes(half, "big") for number in numbers)
