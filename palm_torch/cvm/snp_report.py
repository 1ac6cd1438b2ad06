"""AMD SEV-SNP attestation reports: 1184 bytes in, named fields out, nothing believed yet.

The secure processor signs the first 672 bytes. Of the rest, everything but the two numbers of the signature
is zero, so that no bit of a report can change unnoticed. Two spellings of one report exist all the same: an
ECDSA signature (r, s) is as good as (r, n − s). A report is known by what it says, never by its bytes alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from palm_torch.errors import EvidenceError

REPORT_BYTES: Final = 1184
SIGNED_BYTES: Final = 0x2A0
"""The signature covers this many bytes, from the first on."""

VERSIONS: Final = (2, 3, 5)
"""Versions this parser knows: 3 added the processor's model, 5 the mitigation vectors."""

REPORT_DATA_BYTES: Final = 64
MEASUREMENT_BYTES: Final = 48
MAX_SVN: Final = 255
"""Largest security version of one component: it has one byte."""

ID_BYTES: Final = 16
HOST_DATA_BYTES: Final = 32
CHIP_ID_BYTES: Final = 64
SIGNATURE_NUMBER_BYTES: Final = 48
"""Length of r and of s, little endian; a field of 72 bytes holds each, its upper 24 bytes zero."""

SIGNATURE_ECDSA_P384_SHA384: Final = 1
AUTHOR_KEY_BIT: Final = 0
MASK_CHIP_KEY_BIT: Final = 1
SIGNING_KEY_SHIFT: Final = 2
SIGNING_KEYS: Final[dict[int, Literal["vcek", "vlek"]]] = {0: "vcek", 1: "vlek"}
"""Value of the flags' signing key: the chip's own key, or one the cloud provider loaded; 7 is none."""

_FLAG_BITS: Final = 5
_TCB_BYTES: Final = 8
_RESERVED: Final = "reserved"
_ALGORITHM: Final = "signature_algorithm"

_TO_REPORTED_TCB: Final = (
    ("version", 4),
    ("guest_svn", 4),
    ("policy", 8),
    ("family_id", ID_BYTES),
    ("image_id", ID_BYTES),
    ("vmpl", 4),
    (_ALGORITHM, 4),
    ("current_tcb", _TCB_BYTES),
    ("platform_info", 8),
    ("flags", 4),
    (_RESERVED, 4),
    ("report_data", REPORT_DATA_BYTES),
    ("measurement", MEASUREMENT_BYTES),
    ("host_data", HOST_DATA_BYTES),
    ("id_key_digest", 48),
    ("author_key_digest", 48),
    ("report_id", 32),
    ("report_id_ma", 32),
    ("reported_tcb", _TCB_BYTES),
)
_TO_LAUNCH_TCB: Final = (
    ("chip_id", CHIP_ID_BYTES),
    ("committed_tcb", _TCB_BYTES),
    ("current_firmware", 3),
    (_RESERVED, 1),
    ("committed_firmware", 3),
    (_RESERVED, 1),
    ("launch_tcb", _TCB_BYTES),
)
_SIGNATURE: Final = (
    ("signature_r", SIGNATURE_NUMBER_BYTES),
    (_RESERVED, 24),
    ("signature_s", SIGNATURE_NUMBER_BYTES),
    (_RESERVED, 24 + 368),
)
_CPUID: Final = (("cpuid", 3), (_RESERVED, 21))
_MITIGATIONS: Final = (("launch_mitigations", 8), ("current_mitigations", 8), (_RESERVED, 152))

LAYOUTS: Final = {
    2: (*_TO_REPORTED_TCB, (_RESERVED, 24), *_TO_LAUNCH_TCB, (_RESERVED, 168), *_SIGNATURE),
    3: (*_TO_REPORTED_TCB, *_CPUID, *_TO_LAUNCH_TCB, (_RESERVED, 168), *_SIGNATURE),
    5: (*_TO_REPORTED_TCB, *_CPUID, *_TO_LAUNCH_TCB, *_MITIGATIONS, *_SIGNATURE),
}
"""Version → every field in order, with its length in bytes; reserved ones are zero."""

_NUMBERS: Final = frozenset(
    {
        "version",
        "guest_svn",
        "policy",
        "vmpl",
        "platform_info",
        "flags",
        "launch_mitigations",
        "current_mitigations",
    }
)


@dataclass(frozen=True, slots=True)
class TcbVersion:
    """Security versions of what a platform consists of; of Milan and Genoa processors.

    Attributes:
        boot_loader: Of the secure processor's boot loader.
        tee: Of its operating system.
        snp: Of the SEV-SNP firmware.
        microcode: Of the microcode on all cores.
    """

    boot_loader: int
    tee: int
    snp: int
    microcode: int

    def __str__(self) -> str:
        """Spells the four out, as verdicts and messages show them."""
        return f"boot loader {self.boot_loader}, TEE {self.tee}, SNP {self.snp}, microcode {self.microcode}"

    def encode(self) -> bytes:
        """Returns the 8 bytes a report holds."""
        return bytes((self.boot_loader, self.tee, 0, 0, 0, 0, self.snp, self.microcode))


@dataclass(frozen=True, slots=True, kw_only=True)
class SnpReport:
    """A parsed report; nothing in it has been verified. Fields have AMD's names; bytes are raw.

    Attributes:
        version: 2, 3 or 5.
        guest_svn: Security version the guest's owner gave it.
        policy: What the guest allows its host; bit 16 SMT, 18 migration agent, 19 debugging …
        family_id: 16 bytes the guest's owner chose.
        image_id: 16 bytes the guest's owner chose.
        vmpl: Privilege level that asked for the report, 0 the highest.
        current_tcb: Firmware that runs now.
        platform_info: Bit 0 SMT, 1 TSME, 2 ECC, 5 check for memory aliases done …
        flags: Bit 0 author key, 1 chip key masked, 2 to 4 the signing key.
        report_data: 64 bytes the requester chose.
        measurement: Launch digest of the guest's initial memory, 48 bytes.
        host_data: 32 bytes the host set at launch.
        id_key_digest: SHA-384 of the key that signed the identity block; zero where there was none.
        author_key_digest: SHA-384 of the key that signed that key; zero where there was none.
        report_id: Identity of this guest from launch to end, 32 bytes.
        report_id_ma: Identity of its migration agent; 32 bytes FF where there is none.
        reported_tcb: Firmware the signing key stands for.
        cpuid: Family, model and stepping of the processor, one byte each; None in version 2.
        chip_id: Identity of the chip, 64 bytes; zero if the host masks it.
        committed_tcb: Firmware below which the platform cannot go any more.
        current_firmware: Build, minor and major version of the running firmware, one byte each.
        committed_firmware: The same of the committed firmware.
        launch_tcb: Firmware that ran when the guest was launched.
        launch_mitigations: Mitigations verified then, bit by bit; None before version 5.
        current_mitigations: Mitigations verified now, bit by bit; None before version 5.
        signature_r: r of the signature, 48 bytes, little endian.
        signature_s: s of the signature, 48 bytes, little endian.
    """

    version: int
    guest_svn: int
    policy: int
    family_id: bytes
    image_id: bytes
    vmpl: int
    current_tcb: TcbVersion
    platform_info: int
    flags: int
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    report_id_ma: bytes
    reported_tcb: TcbVersion
    chip_id: bytes
    committed_tcb: TcbVersion
    current_firmware: bytes
    committed_firmware: bytes
    launch_tcb: TcbVersion
    signature_r: bytes
    signature_s: bytes
    cpuid: bytes | None = None
    launch_mitigations: int | None = None
    current_mitigations: int | None = None

    @property
    def signing_key(self) -> int:
        """Which key signed, as the flags say: a key of `SIGNING_KEYS`, or another number up to 7."""
        return self.flags >> SIGNING_KEY_SHIFT


def parse_report(raw: bytes) -> SnpReport:
    """Parses an attestation report.

    1. Exactly 1184 bytes, of a known version.
    2. Every reserved area is zero: those that are signed, and those around the signature's numbers.
    3. The signature is ECDSA P-384 with SHA-384; flags and TCB versions have no unknown bits or bytes.

    Args:
        raw: The report as the kernel returned it, without a certificate table.

    Raises:
        EvidenceError: If any of it is not so.

    Source: AMD 56860, SEV Secure Nested Paging Firmware ABI, ATTESTATION_REPORT; docs/spec, "Hardware
    evidence".
    """
    if len(raw) != REPORT_BYTES:  # 1
        raise EvidenceError(f"SNP report: expected {REPORT_BYTES} bytes, got {len(raw)}")
    version = int.from_bytes(raw[:4], "little")
    if version not in LAYOUTS:
        raise EvidenceError(
            f"SNP report: expected version {' or '.join(map(str, VERSIONS))}, got {version}; "
            f"a later version needs a later palm-torch"
        )
    at = 0
    fields: dict[str, bytes] = {}
    for name, size in LAYOUTS[version]:
        value = raw[at : at + size]
        if name == _RESERVED and any(value):  # 2
            raise EvidenceError(
                f"SNP report: expected zeros in the reserved bytes {at:#05x} to {at + size:#05x}, "
                f"got {value[:32].hex()}"
            )
        fields[name] = value
        at += size
    del fields[_RESERVED]
    algorithm = int.from_bytes(fields.pop(_ALGORITHM), "little")  # 3
    if algorithm != SIGNATURE_ECDSA_P384_SHA384:
        raise EvidenceError(
            f"SNP report: signature algorithm: expected {SIGNATURE_ECDSA_P384_SHA384} (ECDSA P-384 with "
            f"SHA-384), got {algorithm}"
        )
    report = SnpReport(**{name: _decode(name, value) for name, value in fields.items()})
    if report.flags >> _FLAG_BITS:
        raise EvidenceError(f"SNP report: flags: expected bits 0 to 4 only, got {report.flags:#x}")
    return report


def encode_report(report: SnpReport) -> bytes:
    """Returns the bytes `parse_report` makes the report of.

    Raises:
        EvidenceError: If a field of bytes has another length than its place.
    """
    parts: list[bytes] = []
    for name, size in LAYOUTS[report.version]:
        if name == _RESERVED:
            part = bytes(size)
        elif name == _ALGORITHM:
            part = SIGNATURE_ECDSA_P384_SHA384.to_bytes(size, "little")
        else:
            part = _encode(getattr(report, name), size)
        if len(part) != size:
            raise EvidenceError(f"SNP report: {name}: expected {size} bytes, got {len(part)}")
        parts.append(part)
    return b"".join(parts)


def _decode(name: str, value: bytes) -> Any:  # noqa: ANN401 (the name decides the type)
    if name in _NUMBERS:
        return int.from_bytes(value, "little")
    if not name.endswith("_tcb"):
        return value
    tcb = TcbVersion(boot_loader=value[0], tee=value[1], snp=value[6], microcode=value[7])
    if tcb.encode() != value:
        raise EvidenceError(
            f"SNP report: {name}: expected a TCB version of a Milan or Genoa processor, bytes 2 to 5 zero, "
            f"got {value.hex()}"
        )
    return tcb


def _encode(value: int | bytes | TcbVersion | None, size: int) -> bytes:
    if isinstance(value, int):
        return value.to_bytes(size, "little")
    return value.encode() if isinstance(value, TcbVersion) else value or b""
