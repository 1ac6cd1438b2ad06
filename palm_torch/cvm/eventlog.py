"""The boot event log of a TDX guest (CCEL): what extended its runtime registers before our programs ran.

Firmware and boot loader write the log into memory that the host can change; nothing in it is believed before
it replays to the registers of a verified quote. Even then only the digests are vouched for: for many kinds
of events the digest is not over the data beside it (`Event.data_is_measured` tells).

    CCEL table: 36-byte ACPI header, type, subtype, length and address of the log area
    log area:   header record | event | event | ... | filler of 0xFF
    event:      register u32 | type u32 | digest count u32 = 1 | algorithm u16 | digest | data size u32 | data

Registers are numbered from 1 for RTMR[0]; 0 stands for MRTD, which no event can extend.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch.cvm import quote
from palm_torch.errors import BindingError, EvidenceError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_LOG_BYTES: Final = 1 << 20
"""Largest log accepted, in bytes; log areas of real machines have 64 to 256 KiB."""

MAX_EVENTS: Final = 4096
TABLE_BYTES: Final = 56

EV_NO_ACTION: Final = 3
"""Type of an event that informs, and extends nothing."""

REGISTERS: Final = 4
"""RTMR[0] to RTMR[3]."""

_ACPI_HEADER_BYTES: Final = 36
_SIGNATURE: Final = b"CCEL"
_TDX: Final = 2
_SPEC_ID: Final = b"Spec ID Event03\x00"
_SHA384: Final = 0x000C
_FILLER: Final = 0xFF
_END: Final = 0xFFFFFFFF
_ZERO: Final = bytes(quote.REGISTER_BYTES)


@dataclass(frozen=True, slots=True)
class CcelTable:
    """The ACPI table that says where the log lies.

    Attributes:
        area_bytes: Size of the log area.
        area_address: Its physical address in the guest.
    """

    area_bytes: int
    area_address: int


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the log, as its writer put it down.

    Attributes:
        register: 1 to 4 for RTMR[0] to RTMR[3]; 0 for MRTD.
        type: Type of event, as in the TCG PC Client Platform Firmware Profile.
        digest: What the register was extended with, SHA-384.
        data: What the writer says it was.
    """

    register: int
    type: int
    digest: bytes
    data: bytes

    @property
    def data_is_measured(self) -> bool:
        """Whether the digest is over the data, so that a register vouches for both."""
        return hashlib.sha384(self.data).digest() == self.digest


def parse_ccel_table(raw: bytes) -> CcelTable:
    """Parses the CCEL table, 56 bytes.

    Raises:
        EvidenceError: If its size, signature, check sum or kind of platform is another.

    Source: ACPI 6.5 section 5.2.34; Intel Guest-Host-Communication Interface for TDX.
    """
    if len(raw) != TABLE_BYTES or raw[:4] != _SIGNATURE:
        raise EvidenceError(
            f"CCEL table: expected {TABLE_BYTES} bytes that begin with {_SIGNATURE!r}, got {len(raw)} bytes "
            f"that begin with {raw[:4]!r}"
        )
    if int.from_bytes(raw[4:8], "little") != TABLE_BYTES or sum(raw) % 256:
        raise EvidenceError("CCEL table: its own length or check sum is wrong")
    cursor = _Cursor(raw, at=_ACPI_HEADER_BYTES)
    kind = cursor.take(2, "type and subtype")
    if kind != bytes([_TDX, 0]) or any(cursor.take(2, "reserved field")):
        raise EvidenceError(f"CCEL table: expected type {_TDX} (TDX), subtype 0, got {kind.hex()}")
    return CcelTable(area_bytes=cursor.number(8, "length"), area_address=cursor.number(8, "address"))


def trim(area: bytes) -> bytes:
    """Cuts the filler off a log area; what is left is the log, as it is carried and hashed.

    Args:
        area: The whole area, as the kernel shows it.

    Raises:
        EvidenceError: If the area does not begin with a log, or holds anything but 0xFF after it.
    """
    cursor = _Cursor(area)
    _read_header(cursor)
    while cursor.left and cursor.peek() != _END:
        _read_event(cursor)
    filler = area[cursor.at :]
    if filler.count(_FILLER) != len(filler):
        raise EvidenceError(f"boot log: expected nothing but 0xFF after byte {cursor.at}")
    return area[: cursor.at]


def parse(log: bytes) -> tuple[Event, ...]:
    """Parses a log without filler.

    Raises:
        EvidenceError: If it is too long, does not begin with the header of a log of SHA-384 digests alone,
            or an event is cut off or malformed.

    Source: TCG PC Client Platform Firmware Profile 1.05, section 10 (crypto-agile log).
    """
    cursor = _Cursor(log)
    _read_header(cursor)
    events: list[Event] = []
    while cursor.left:
        if len(events) == MAX_EVENTS:
            raise EvidenceError(f"boot log: expected at most {MAX_EVENTS} events")
        events.append(_read_event(cursor))
    return tuple(events)


def replay(events: Iterable[Event]) -> tuple[bytes, ...]:
    """Returns what RTMR[0] to RTMR[3] hold after the events, 48 bytes each, from zero.

    Raises:
        EvidenceError: If an event claims to extend MRTD, which is closed before the first of them.
    """
    registers = [_ZERO] * REGISTERS
    for event in events:
        if event.type == EV_NO_ACTION:
            continue
        if not event.register:
            raise EvidenceError("boot log: an event claims to extend MRTD, which no event can")
        registers[event.register - 1] = extended(registers[event.register - 1], event.digest)
    return tuple(registers)


def check_boot_log(log: bytes, report: quote.TdReport) -> tuple[bytes, ...]:
    """Checks that a boot log replays to RTMR[0] to RTMR[2] of a verified quote.

    Args:
        log: The log, without filler.
        report: What the TDX module says of the trust domain.

    Returns:
        What the boot extended RTMR[3] with, 48 bytes each.

    Raises:
        EvidenceError: If the log does not parse.
        BindingError: If an event is missing, new, changed or out of order.
    """
    events = parse(log)
    for number, (replayed, quoted) in enumerate(zip(replay(events), report.rt_mrs, strict=True)):
        if replayed != quoted and number < REGISTERS - 1:
            raise BindingError(
                f"boot log: RTMR[{number}] replays to {replayed.hex()}, the quote says {quoted.hex()}"
            )
    return runtime_digests(events)


def runtime_digests(events: Iterable[Event]) -> tuple[bytes, ...]:
    """Returns what the events extended RTMR[3] with, 48 bytes each."""
    return tuple(
        event.digest for event in events if event.register == REGISTERS and event.type != EV_NO_ACTION
    )


def check_runtime_register(found: bytes, digests: Sequence[bytes]) -> None:
    """Checks that a log accounts for everything that extended RTMR[3] before a session began.

    Args:
        found: RTMR[3] of the begin quote, 48 bytes.
        digests: What extended it since it was zero, 48 bytes each.

    Raises:
        BindingError: If they lead to another value.
    """
    expected = _ZERO
    for digest in digests:
        expected = extended(expected, digest)
    if found == expected:
        return
    if not digests:
        raise BindingError(f"RTMR[3] of the begin quote is not zero, and no log explains it: {found.hex()}")
    raise BindingError(
        f"RTMR[3] of the begin quote: its log replays to {expected.hex()}, the quote says {found.hex()}"
    )


def extended(register: bytes, digest: bytes) -> bytes:
    """Returns a runtime register after one more digest: SHA-384(register ‖ digest), 48 bytes."""
    return hashlib.sha384(register + digest).digest()


class _Cursor:
    """Reads little-endian fields in order, checking lengths first."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        if len(data) > MAX_LOG_BYTES:
            raise EvidenceError(f"boot log: expected at most {MAX_LOG_BYTES} bytes, got {len(data)}")
        self.data = data
        self.at = at

    @property
    def left(self) -> int:
        """Number of bytes not yet read."""
        return len(self.data) - self.at

    def take(self, size: int, name: str) -> bytes:
        """Returns the next `size` bytes."""
        if size > self.left:
            raise EvidenceError(f"boot log: {name} needs {size} bytes at {self.at}, {self.left} are left")
        field = self.data[self.at : self.at + size]
        self.at += size
        return field

    def number(self, size: int, name: str) -> int:
        """Returns the next `size` bytes as a number."""
        return int.from_bytes(self.take(size, name), "little")

    def peek(self) -> int:
        """Returns the next four bytes as a number, and stays; fewer are taken for what they are."""
        return int.from_bytes(self.data[self.at : self.at + 4], "little")

    def exactly(self, expected: int, size: int, name: str) -> None:
        """Reads a number that can have one value only."""
        start, got = self.at, self.number(size, name)
        if got != expected:
            raise EvidenceError(f"boot log: byte {start}: {name}: expected {expected:#x}, got {got:#x}")


def _read_header(cursor: _Cursor) -> None:
    """Reads the first record: it has the form of older logs, and says that the rest has the newer one."""
    if cursor.number(4, "header register") > 1:
        raise EvidenceError("boot log: the header record belongs to register 0 or 1")
    cursor.exactly(EV_NO_ACTION, 4, "header type")
    cursor.exactly(0, 20, "header digest")
    end = cursor.number(4, "header size") + cursor.at
    if cursor.take(len(_SPEC_ID), "header signature") != _SPEC_ID:
        raise EvidenceError(f"boot log: expected a header with the signature {_SPEC_ID!r}")
    cursor.take(8, "platform class and version")
    cursor.exactly(1, 4, "number of digest algorithms")
    cursor.exactly(_SHA384, 2, "digest algorithm")
    cursor.exactly(quote.REGISTER_BYTES, 2, "digest size")
    cursor.take(cursor.number(1, "vendor data size"), "vendor data")
    if cursor.at != end:
        raise EvidenceError(f"boot log: the header record ends at byte {cursor.at}, its size says {end}")


def _read_event(cursor: _Cursor) -> Event:
    start = cursor.at
    register = cursor.number(4, "register")
    if register > REGISTERS:
        raise EvidenceError(f"boot log: byte {start}: expected a register 0 to {REGISTERS}, got {register}")
    kind = cursor.number(4, "type")
    cursor.exactly(1, 4, "number of digests")
    cursor.exactly(_SHA384, 2, "digest algorithm")
    digest = cursor.take(quote.REGISTER_BYTES, "digest")
    data = cursor.take(cursor.number(4, "data size"), "data")
    return Event(register=register, type=kind, digest=digest, data=data)
