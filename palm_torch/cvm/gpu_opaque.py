"""What a GPU says of itself in the opaque data of its report: versions, model, mode, firmware.

All of it is signed with the report. Fields have numbers; those that nothing here depends on are kept with
the report and not read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch.cvm import gpu_certificate, gpu_names
from palm_torch.errors import EvidenceError, PlatformError

if TYPE_CHECKING:
    from collections.abc import Mapping

DRIVER_VERSION: Final = 3
VBIOS_VERSION: Final = 6
NVDEC0_STATUS: Final = 11
CHIP_SKU: Final = 15
PROJECT: Final = 17
PROJECT_SKU: Final = 18
FWID: Final = 20
PROTECTED_PCIE_STATUS: Final = 21
OPAQUE_DATA_VERSION: Final = 34
FEATURE_FLAG: Final = 36

OFF: Final = 0x55
ON: Final = 0xAA
"""The two values of a status; all of their bits differ, so no small fault turns one into the other."""

FEATURES: Final[dict[int, gpu_names.Mode]] = {0: "spt", 1: "mpt", 2: "ppcie"}

_VBIOS_BYTES: Final = 8
_U16_BYTES: Final = 2
_TEXT: Final = re.compile(rb"([0-9A-Za-z._-]{1,64})\x00+")
_DRIVER: Final = re.compile(r"[0-9]{1,5}(\.[0-9]{1,5}){1,3}")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuClaims:
    """The fields that an appraisal depends on.

    Attributes:
        driver_version: Version of the driver in the guest, "550.90.07".
        vbios_version: Version of the GPU's firmware image, "96.00.9F.00.01".
        project: With the next two, which board it is: "1010".
        project_sku: "0200".
        chip_sku: "882".
        nvdec0_on: Whether the first video decoder works; None if the report does not say.
        fwid: Digest of the firmware that holds the signing key, 48 bytes; None if the report has none.
        mode: How GPUs work together.
    """

    driver_version: str
    vbios_version: str
    project: str
    project_sku: str
    chip_sku: str
    nvdec0_on: bool | None
    fwid: bytes | None
    mode: gpu_names.Mode

    @property
    def vbios_rim_id(self) -> str:
        """Name under which NVIDIA keeps the reference measurements of this firmware image on this board."""
        return gpu_names.vbios_rim_id(
            project=self.project,
            project_sku=self.project_sku,
            chip_sku=self.chip_sku,
            version=self.vbios_version,
        )


def read_claims(opaque: Mapping[int, bytes]) -> GpuClaims:
    """Reads the fields that an appraisal depends on.

    1. Versions and model: text that ends in NULs; the image's version, eight bytes.
    2. Statuses: 0x55 or 0xAA and nothing else; the digest has 48 bytes.
    3. Mode: from version 1 of the data on, the feature flag says it; before, the status of the protected PCIe
       bus does. Where both are there, they agree.

    Args:
        opaque: `spdm.SpdmReport.opaque`.

    Raises:
        EvidenceError: If a field is missing or has another form.
        PlatformError: If the two fields about the mode contradict each other.

    Source: docs/spec, "NVIDIA GPUs".
    """
    protected_pcie = _status(opaque, PROTECTED_PCIE_STATUS, "protected PCIe status")
    driver_version = _text(opaque, DRIVER_VERSION, "driver version")  # 1
    if not _DRIVER.fullmatch(driver_version):
        raise EvidenceError(f"GPU report: driver version: expected numbers and dots, got {driver_version!r}")
    fwid = opaque.get(FWID)
    if fwid is not None:  # 2
        _sized(opaque, FWID, gpu_certificate.FWID_BYTES, "firmware digest")
    return GpuClaims(
        driver_version=driver_version,
        vbios_version=_vbios_version(_sized(opaque, VBIOS_VERSION, _VBIOS_BYTES, "VBIOS version")),
        project=_text(opaque, PROJECT, "project"),
        project_sku=_text(opaque, PROJECT_SKU, "project SKU"),
        chip_sku=_text(opaque, CHIP_SKU, "chip SKU"),
        nvdec0_on=_status(opaque, NVDEC0_STATUS, "NVDEC0 status"),
        fwid=fwid,
        mode=_mode(opaque, protected_pcie=protected_pcie),
    )


def encode_vbios_version(version: str) -> bytes:
    """Returns the eight bytes that `read_claims` reads as a version such as "96.00.9F.00.01"."""
    parts = bytes.fromhex(version.replace(".", ""))
    return bytes((*reversed(parts[:4]), parts[4])).ljust(_VBIOS_BYTES, b"\x00")


def _vbios_version(value: bytes) -> str:
    if any(value[5:]):
        raise EvidenceError(f"GPU report: VBIOS version: expected zeros after 5 bytes, got {value.hex()}")
    return ".".join(f"{byte:02X}" for byte in (*reversed(value[:4]), value[4]))


def _mode(opaque: Mapping[int, bytes], *, protected_pcie: bool | None) -> gpu_names.Mode:
    """Step 3."""
    stated: gpu_names.Mode | None = None
    version = 0
    if OPAQUE_DATA_VERSION in opaque:
        value = _sized(opaque, OPAQUE_DATA_VERSION, _U16_BYTES, "version of the opaque data")
        version = int.from_bytes(value, "little")
    if version or FEATURE_FLAG in opaque:
        flag = int.from_bytes(_sized(opaque, FEATURE_FLAG, _U16_BYTES, "feature flag"), "little")
        stated = FEATURES.get(flag)
        if stated is None:
            raise EvidenceError(f"GPU report: feature flag: expected 0, 1 or 2, got {flag}")
    if stated is None:
        return "unstated" if protected_pcie is None else "ppcie" if protected_pcie else "spt"
    if protected_pcie is not None and protected_pcie is not (stated == "ppcie"):
        raise PlatformError(
            f"GPU report: feature flag says {stated}, status of the protected PCIe bus says "
            f"{'on' if protected_pcie else 'off'}"
        )
    return stated


def _text(opaque: Mapping[int, bytes], number: int, what: str) -> str:
    value = _field(opaque, number, what)
    found = _TEXT.fullmatch(value)
    if found is None:
        raise EvidenceError(f"GPU report: {what}: expected text that ends in NULs, got {value[:80]!r}")
    return found.group(1).decode("ascii")


def _status(opaque: Mapping[int, bytes], number: int, what: str) -> bool | None:
    if number not in opaque:
        return None
    (value,) = _sized(opaque, number, 1, what)
    if value not in (OFF, ON):
        raise EvidenceError(f"GPU report: {what}: expected {OFF:#x} or {ON:#x}, got {value:#x}")
    return value == ON


def _sized(opaque: Mapping[int, bytes], number: int, size: int, what: str) -> bytes:
    value = _field(opaque, number, what)
    if len(value) != size:
        raise EvidenceError(f"GPU report: {what}: expected {size} bytes, got {len(value)}")
    return value


def _field(opaque: Mapping[int, bytes], number: int, what: str) -> bytes:
    if number not in opaque:
        raise EvidenceError(f"GPU report: {what} (opaque field {number}) is missing")
    return opaque[number]
