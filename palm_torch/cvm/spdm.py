"""SPDM measurement reports of NVIDIA GPUs: request and response in, named fields out, nothing believed yet.

A GPU is asked GET_MEASUREMENTS and signs the request together with its response, so that the requester's
nonce is under the signature. Evidence is the two messages one after the other. Every byte of them stands in
one field, or is a constant. Two spellings of one report exist all the same: an ECDSA signature (r, s) is as
good as (r, n − s).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from palm_torch.errors import EvidenceError

MAX_EVIDENCE_BYTES: Final = 8192
"""Most that NVIDIA's driver gives out for one device."""

NONCE_BYTES: Final = 32
SIGNATURE_BYTES: Final = 96
"""r ‖ s on P-384, big endian."""

MEASUREMENT_BYTES: Final = 48
"""A SHA-384 digest, or as many bytes that stand for themselves."""

MAX_MEASUREMENTS: Final = 255

REQUEST_HEADER: Final = bytes.fromhex("11e001ff")
"""SPDM 1.1, GET_MEASUREMENTS, signature wanted, all measurements."""

SLOT: Final = b"\x00"
"""The certificate chain that the response is to be signed under."""

RESPONSE_HEADER: Final = bytes.fromhex("11600000")
"""SPDM 1.1, MEASUREMENTS, no parameters."""

REQUEST_BYTES: Final = len(REQUEST_HEADER) + NONCE_BYTES + len(SLOT)
RECORD_HEADER: Final = bytes.fromhex("01330001") + MEASUREMENT_BYTES.to_bytes(2, "little")
"""What follows a record's index: DMTF's form, its length, a digest of firmware, and the digest's length."""

RECORD_BYTES: Final = 1 + len(RECORD_HEADER) + MEASUREMENT_BYTES
_COUNT_BYTES: Final = 1
_TOTAL_BYTES: Final = 3
_LENGTH_BYTES: Final = 2
_FIELD_HEADER_BYTES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SpdmReport:
    """A parsed report; nothing in it has been verified.

    Attributes:
        nonce: The requester's 32 bytes.
        responder_nonce: The device's own 32 bytes.
        measurements: 48 bytes each. Position 0 is SPDM's index 1, and a RIM's index 0.
        opaque: What else the device says of itself: number of a field → value, in the report's order.
        signature: r ‖ s, 96 bytes.
        signed: What is signed: everything before the signature.
    """

    nonce: bytes
    responder_nonce: bytes
    measurements: tuple[bytes, ...]
    opaque: Mapping[int, bytes]
    signature: bytes
    signed: bytes


def parse_report(raw: bytes) -> SpdmReport:
    """Parses a request and its response.

    1. At most 8192 bytes; the request's header, its nonce, slot 0; the response's header.
    2. Measurement records of 55 bytes each, numbered from 1 on without a gap; each says that it holds a
       SHA-384 digest in DMTF's form; together they have the length stated.
    3. The device's nonce; opaque data of the length stated, which is a row of whole fields, none of them
       twice. Numbers that this library does not know are kept.
    4. A signature of 96 bytes ends the response.

    Args:
        raw: The evidence as the driver gives it: request ‖ response.

    Raises:
        EvidenceError: If any of it is not so.

    Source: DMTF DSP0274, SPDM 1.1, sections 10.11.1 and 10.11.2; DMTF measurement specification format.
    """
    if len(raw) > MAX_EVIDENCE_BYTES:  # 1
        raise EvidenceError(f"GPU report: expected at most {MAX_EVIDENCE_BYTES} bytes, got {len(raw)}")
    reader = _Reader(raw)
    reader.constant(REQUEST_HEADER, "request header")
    nonce = reader.take(NONCE_BYTES, "nonce")
    reader.constant(SLOT, "slot")
    reader.constant(RESPONSE_HEADER, "response header")
    count = reader.number(_COUNT_BYTES, "number of measurements")  # 2
    total = reader.number(_TOTAL_BYTES, "length of the measurements")
    if not count or total != count * RECORD_BYTES:
        raise EvidenceError(
            f"GPU report: expected measurements of {RECORD_BYTES} bytes each, got {count} in {total} bytes"
        )
    measurements = []
    for index in range(1, count + 1):
        reader.constant(bytes((index,)) + RECORD_HEADER, f"measurement {index}")
        measurements.append(reader.take(MEASUREMENT_BYTES, f"measurement {index}"))
    responder_nonce = reader.take(NONCE_BYTES, "the device's nonce")  # 3
    size = reader.number(_LENGTH_BYTES, "length of the opaque data")
    opaque = _fields(reader.take(size, "opaque data"))
    signed = raw[: reader.at]
    signature = reader.take(SIGNATURE_BYTES, "signature")  # 4
    if reader.at != len(raw):
        raise EvidenceError(f"GPU report: {len(raw) - reader.at} bytes after the signature")
    return SpdmReport(
        nonce=nonce,
        responder_nonce=responder_nonce,
        measurements=tuple(measurements),
        opaque=opaque,
        signature=signature,
        signed=signed,
    )


def encode_report(report: SpdmReport) -> bytes:
    """Returns the bytes that `parse_report` makes the report of; its `signed` is made anew."""
    return (
        encode_signed(
            nonce=report.nonce,
            responder_nonce=report.responder_nonce,
            measurements=report.measurements,
            opaque=report.opaque,
        )
        + report.signature
    )


def encode_signed(
    *,
    nonce: bytes,
    responder_nonce: bytes,
    measurements: tuple[bytes, ...],
    opaque: Mapping[int, bytes],
) -> bytes:
    """Returns request and response up to the signature, which is over these bytes.

    Raises:
        EvidenceError: If a part has a length for which there is no place.
    """
    for name, part in (("nonce", nonce), ("the device's nonce", responder_nonce)):
        if len(part) != NONCE_BYTES:
            raise EvidenceError(f"GPU report: {name}: expected {NONCE_BYTES} bytes, got {len(part)}")
    if not 1 <= len(measurements) <= MAX_MEASUREMENTS:
        raise EvidenceError(
            f"GPU report: expected 1 to {MAX_MEASUREMENTS} measurements, got {len(measurements)}"
        )
    records = b"".join(
        bytes((index,)) + RECORD_HEADER + measurement for index, measurement in enumerate(measurements, 1)
    )
    if len(records) != len(measurements) * RECORD_BYTES:
        raise EvidenceError(f"GPU report: expected measurements of {MEASUREMENT_BYTES} bytes each")
    try:
        fields = b"".join(
            number.to_bytes(_LENGTH_BYTES, "little") + len(value).to_bytes(_LENGTH_BYTES, "little") + value
            for number, value in opaque.items()
        )
        length = len(fields).to_bytes(_LENGTH_BYTES, "little")
    except OverflowError as error:
        raise EvidenceError("GPU report: an opaque field has a number or a length above 65535") from error
    return b"".join(
        (
            REQUEST_HEADER,
            nonce,
            SLOT,
            RESPONSE_HEADER,
            len(measurements).to_bytes(_COUNT_BYTES, "little"),
            len(records).to_bytes(_TOTAL_BYTES, "little"),
            records,
            responder_nonce,
            length,
            fields,
        )
    )


def _fields(opaque: bytes) -> dict[int, bytes]:
    """Step 3: fields of a number, a length and a value."""
    found: dict[int, bytes] = {}
    at = 0
    while at < len(opaque):
        number = int.from_bytes(opaque[at : at + _LENGTH_BYTES], "little")
        size = int.from_bytes(opaque[at + _LENGTH_BYTES : at + _FIELD_HEADER_BYTES], "little")
        at += _FIELD_HEADER_BYTES
        if at + size > len(opaque):
            raise EvidenceError(
                f"GPU report: opaque field {number} needs {at + size} bytes of opaque data, got {len(opaque)}"
            )
        if number in found:
            raise EvidenceError(f"GPU report: opaque field {number} occurs twice")
        found[number] = opaque[at : at + size]
        at += size
    return found


class _Reader:
    """What stands where in a message, from its first byte on."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def take(self, size: int, what: str) -> bytes:
        """Returns the next bytes; all of them are there."""
        end = self.at + size
        if end > len(self._data):
            raise EvidenceError(f"GPU report: {what}: expected {end} bytes or more, got {len(self._data)}")
        found, self.at = self._data[self.at : end], end
        return found

    def number(self, size: int, what: str) -> int:
        """Returns the next bytes as a number, little endian."""
        return int.from_bytes(self.take(size, what), "little")

    def constant(self, expected: bytes, what: str) -> None:
        """Reads bytes that are always the same."""
        found = self.take(len(expected), what)
        if found != expected:
            raise EvidenceError(f"GPU report: {what}: expected {expected.hex()}, got {found.hex()}")
