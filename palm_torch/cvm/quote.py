"""Intel TDX quotes, version 4 and 5: bytes in, named fields out, nothing believed yet.

Every field of a quote is either signed, hashed into something signed, or has exactly one value this
parser accepts, so that no bit of it can change unnoticed. Two spellings of one quote exist all the same: an
ECDSA signature (r, s) is as good as (r, n − s), and a zero byte may follow the certificates or not. A quote
is known by what it reports, never by its bytes alone. Machines append zeros to quotes: the side that collects
evidence removes them (`canonical`), the side that reads it does not accept them (`parse_quote`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from palm_torch.cvm import certificate_bytes, enclave_report
from palm_torch.errors import EvidenceError

MAX_QUOTE_BYTES: Final = 16384
"""Largest quote accepted, in bytes; real ones have 4,600 to 8,000."""

REPORT_DATA_BYTES: Final = 64
REGISTER_BYTES: Final = 48
"""Length of MRTD, of every RTMR and of the other measurements of a TD: SHA-384."""

HEADER_BYTES: Final = 48
TEE_TYPE_TDX: Final = 0x81
ATTESTATION_KEY_ECDSA_P256: Final = 2
INTEL_QE_VENDOR_ID: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
VERSION_TD10: Final = 4
VERSION_TD15: Final = 5
CERTIFICATION_QE_REPORT: Final = 6
CERTIFICATION_PCK_CHAIN: Final = 5
PCK_CHAIN_CERTIFICATES: Final = 3

ENCLAVE_REPORT_BYTES: Final = enclave_report.REPORT_BYTES
AUTHENTICATION_DATA_BYTES: Final = 32
_TAIL_PREVIEW_BYTES: Final = 16

TD10_FIELDS: Final = (
    ("tee_tcb_svn", 16),
    ("mr_seam", 48),
    ("mr_signer_seam", 48),
    ("seam_attributes", 8),
    ("td_attributes", 8),
    ("xfam", 8),
    ("mr_td", 48),
    ("mr_config_id", 48),
    ("mr_owner", 48),
    ("mr_owner_config", 48),
    ("rtmr0", 48),
    ("rtmr1", 48),
    ("rtmr2", 48),
    ("rtmr3", 48),
    ("report_data", 64),
)
"""Body of a TD report: 584 bytes, in this order."""

TD15_FIELDS: Final = (*TD10_FIELDS, ("tee_tcb_svn2", 16), ("mr_service_td", 48))
"""Body of a TD 1.5 report: 648 bytes."""

BODY_TD10: Final = (2, 584)
BODY_TD15: Final = (3, 648)
_BODIES: Final = {BODY_TD10: TD10_FIELDS, BODY_TD15: TD15_FIELDS}
"""Version 5: (type, size) of the body descriptor. Type 4 is refused: no public quote shows its meaning."""


@dataclass(frozen=True, slots=True)
class TdReport:
    """What the TDX module says about the trust domain; fields have Intel's names, all raw bytes.

    Attributes:
        tee_tcb_svn: Security versions of the TDX module, 16 bytes.
        mr_seam: Measurement of the TDX module.
        mr_signer_seam: Its signer; zero for Intel.
        seam_attributes: Its attributes, 8 bytes.
        td_attributes: Attributes of the TD, u64 little endian: bit 0 DEBUG, 28 SEPT_VE_DISABLE …
        xfam: Extended features the TD may use, u64 little endian.
        mr_td: Measurement of the TD's initial memory.
        mr_config_id: Configuration the host set at creation.
        mr_owner: Owner the host set at creation.
        mr_owner_config: Owner's configuration.
        rtmr0: Runtime register 0: firmware.
        rtmr1: Runtime register 1: boot loader and kernel.
        rtmr2: Runtime register 2: kernel command line, initial file system.
        rtmr3: Runtime register 3: left to the application.
        report_data: 64 bytes the requester chose.
        tee_tcb_svn2: Security versions of the module now running; version 5 with a TD 1.5 body only.
        mr_service_td: Hash of the bound service TDs; version 5 with a TD 1.5 body only.
    """

    tee_tcb_svn: bytes
    mr_seam: bytes
    mr_signer_seam: bytes
    seam_attributes: bytes
    td_attributes: bytes
    xfam: bytes
    mr_td: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmr0: bytes
    rtmr1: bytes
    rtmr2: bytes
    rtmr3: bytes
    report_data: bytes
    tee_tcb_svn2: bytes | None = None
    mr_service_td: bytes | None = None

    @property
    def rt_mrs(self) -> tuple[bytes, bytes, bytes, bytes]:
        """The four runtime registers, in order."""
        return self.rtmr0, self.rtmr1, self.rtmr2, self.rtmr3


@dataclass(frozen=True, slots=True)
class Quote:
    """A parsed quote; nothing in it has been verified.

    Attributes:
        raw: The canonical bytes it was parsed from.
        version: 4 or 5.
        user_data: 20 bytes of the quoting enclave; its identifier first.
        td_report: The report on the trust domain.
        signed: The bytes the attestation key signed: everything before the signature's length.
        signature: ECDSA P-256 over `signed`, r ‖ s, 64 bytes.
        attestation_key: Its public key, x ‖ y, 64 bytes.
        qe_report: Report on the quoting enclave, 384 bytes.
        qe_report_signature: ECDSA P-256 over `qe_report` by the PCK, r ‖ s, 64 bytes.
        qe_authentication_data: 32 bytes hashed with the attestation key.
        certificates: DER of the PCK certificate, its CA and the root.
    """

    raw: bytes
    version: int
    user_data: bytes
    td_report: TdReport
    signed: bytes
    signature: bytes
    attestation_key: bytes
    qe_report: bytes
    qe_report_signature: bytes
    qe_authentication_data: bytes
    certificates: tuple[bytes, ...]

    @property
    def qe_report_data(self) -> bytes:
        """The 64 bytes of report data in the quoting enclave's report."""
        return self.qe_report[-REPORT_DATA_BYTES:]


def canonical(raw: bytes) -> bytes:
    """Removes the zeros that quoting stacks append; the result is what is hashed, stored and carried.

    Args:
        raw: A quote as the machine returned it.

    Raises:
        EvidenceError: If the quote is malformed, or is followed by anything but zeros.
    """
    cursor = _Cursor(raw)
    _skip_to_signature_data(cursor)
    cursor.take(cursor.u32("signature data size"), "signature data")
    tail = raw[cursor.at :]
    if any(tail):
        raise EvidenceError(
            f"quote: expected nothing but zeros after byte {cursor.at}, got {tail[:_TAIL_PREVIEW_BYTES]!r}"
        )
    return raw[: cursor.at]


def parse_quote(raw: bytes) -> Quote:
    """Parses a canonical TDX quote.

    1. Header: version 4 or 5, ECDSA P-256 attestation key, TDX, Intel's quoting enclave, zero reserved.
    2. Body: TD 1.0 for version 4; TD 1.0 or TD 1.5 by an exact (type, size) for version 5.
    3. Lengths nest exactly, down to the last byte; certification data of types 6 and 5.
    4. The PCK chain is three certificates in canonical PEM, followed by at most one NUL.

    Args:
        raw: The quote, without a tail.

    Raises:
        EvidenceError: If any of it is not so.
        EncodingError: If the certificate chain is not in canonical PEM.

    Source: Intel TDX DCAP Quoting Library API, appendix "Quote format"; docs/spec, "Hardware evidence".
    """
    cursor = _Cursor(raw)
    version, user_data = _header(cursor)  # 1
    td_report = _body(cursor, version)  # 2
    signed = raw[: cursor.at]
    _exact("signature data size", cursor.u32("signature data size"), len(raw) - cursor.at)  # 3
    signature = cursor.take(64, "signature")
    attestation_key = cursor.take(64, "attestation key")
    _exact("outer certification data type", cursor.u16("outer type"), CERTIFICATION_QE_REPORT)
    _exact("outer certification data size", cursor.u32("outer size"), len(raw) - cursor.at)
    qe_report = cursor.take(ENCLAVE_REPORT_BYTES, "QE report")
    qe_report_signature = cursor.take(64, "QE report signature")
    _exact("QE authentication data size", cursor.u16("QE data size"), AUTHENTICATION_DATA_BYTES)
    authentication_data = cursor.take(AUTHENTICATION_DATA_BYTES, "QE authentication data")
    _exact("inner certification data type", cursor.u16("inner type"), CERTIFICATION_PCK_CHAIN)
    _exact("inner certification data size", cursor.u32("inner size"), len(raw) - cursor.at)
    chain = raw[cursor.at :].removesuffix(b"\x00")  # 4
    return Quote(
        raw=raw,
        version=version,
        user_data=user_data,
        td_report=td_report,
        signed=signed,
        signature=signature,
        attestation_key=attestation_key,
        qe_report=qe_report,
        qe_report_signature=qe_report_signature,
        qe_authentication_data=authentication_data,
        certificates=certificate_bytes.decode_pem(
            chain, what="quote: PCK certificate chain", count=PCK_CHAIN_CERTIFICATES
        ),
    )


class _Cursor:
    """Reads little-endian fields in order, checking lengths first."""

    def __init__(self, data: bytes) -> None:
        if len(data) > MAX_QUOTE_BYTES:
            raise EvidenceError(f"quote: expected at most {MAX_QUOTE_BYTES} bytes, got {len(data)}")
        self.data = data
        self.at = 0

    def take(self, size: int, name: str) -> bytes:
        """Returns the next `size` bytes."""
        end = self.at + size
        if end > len(self.data):
            raise EvidenceError(f"quote: {name} needs bytes {self.at} to {end}, got {len(self.data)} bytes")
        field = self.data[self.at : end]
        self.at = end
        return field

    def u16(self, name: str) -> int:
        """Returns the next two bytes as a number."""
        return int.from_bytes(self.take(2, name), "little")

    def u32(self, name: str) -> int:
        """Returns the next four bytes as a number."""
        return int.from_bytes(self.take(4, name), "little")


def _header(cursor: _Cursor) -> tuple[int, bytes]:
    version = cursor.u16("version")
    if version not in (VERSION_TD10, VERSION_TD15):  # version 3 is SGX
        raise EvidenceError(f"quote: expected version {VERSION_TD10} or {VERSION_TD15}, got {version}")
    _exact("attestation key type", cursor.u16("attestation key type"), ATTESTATION_KEY_ECDSA_P256)
    _exact("TEE type", cursor.u32("TEE type"), TEE_TYPE_TDX)
    _exact("reserved header field", cursor.u32("reserved header field"), 0)
    vendor = cursor.take(16, "QE vendor id")
    if vendor != INTEL_QE_VENDOR_ID:
        raise EvidenceError(
            f"quote: expected QE vendor id {INTEL_QE_VENDOR_ID.hex()} (Intel), got {vendor.hex()}"
        )
    return version, cursor.take(20, "user data")


def _body(cursor: _Cursor, version: int) -> TdReport:
    fields: tuple[tuple[str, int], ...] = TD10_FIELDS
    if version == VERSION_TD15:
        descriptor = (cursor.u16("body type"), cursor.u32("body size"))
        if descriptor not in _BODIES:
            raise EvidenceError(
                f"quote: expected body (type, size) {' or '.join(map(str, _BODIES))}, got {descriptor}"
            )
        fields = _BODIES[descriptor]
    return TdReport(**{name: cursor.take(size, name) for name, size in fields})


def _skip_to_signature_data(cursor: _Cursor) -> None:
    version, _ = _header(cursor)
    _body(cursor, version)


def _exact(name: str, got: int, expected: int) -> None:
    if got != expected:
        raise EvidenceError(f"quote: {name}: expected {expected}, got {got}")
