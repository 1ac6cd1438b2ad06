"""A writer of boot event logs, as firmware writes them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from palm_torch.cvm import eventlog

if TYPE_CHECKING:
    from collections.abc import Iterable

SHA384 = 0x000C


def header(*, register: int = 1, vendor: bytes = b"", algorithm: int = SHA384, count: int = 1) -> bytes:
    """Returns the first record, which says that the rest has SHA-384 digests."""
    body = b"Spec ID Event03\x00" + bytes(4) + bytes([0, 2, 0, 2]) + _u32(count)
    body += _u16(algorithm) + _u16(48) + bytes([len(vendor)]) + vendor
    return _u32(register) + _u32(eventlog.EV_NO_ACTION) + bytes(20) + _u32(len(body)) + body


def event(register: int, data: bytes, *, kind: int = 4, digest: bytes | None = None) -> bytes:
    """Returns one event; its digest is over its data unless another is given."""
    digest = hashlib.sha384(data).digest() if digest is None else digest
    record = _u32(register) + _u32(kind) + _u32(1) + _u16(SHA384) + digest
    return record + _u32(len(data)) + data


def log(events: Iterable[bytes]) -> bytes:
    """Returns a whole log without filler."""
    return header() + b"".join(events)


def _u16(value: int) -> bytes:
    return value.to_bytes(2, "little")


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")
