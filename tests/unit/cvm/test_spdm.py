"""SPDM reports as bytes: what parses, what does not, and why."""

from __future__ import annotations

import dataclasses
from typing import Any

import gpu_world
import pytest

from palm_torch.cvm import spdm
from palm_torch.errors import EvidenceError

RAW = gpu_world.evidence()
OPAQUE_AT = len(RAW) - spdm.SIGNATURE_BYTES - sum(4 + len(v) for v in spdm.parse_report(RAW).opaque.values())


def changed(at: int, data: bytes) -> bytes:
    return RAW[:at] + data + RAW[at + len(data) :]


def test_a_report() -> None:
    report = spdm.parse_report(RAW)
    assert (report.nonce, len(report.measurements), len(report.signature)) == (gpu_world.NONCE, 64, 96)
    assert report.signed + report.signature == RAW
    assert spdm.encode_report(report) == RAW


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "request header: expected 4 bytes or more, got 0"),
        (bytes(8193), "expected at most 8192 bytes, got 8193"),
        (changed(0, b"\x12"), "request header: expected 11e001ff, got 12e001ff"),
        (changed(2, b"\x00"), "request header"),
        (changed(36, b"\x01"), "slot: expected 00, got 01"),
        (changed(38, b"\x61"), "response header"),
        (changed(41, b"\x3f"), "expected measurements of 55 bytes each, got 63 in 3520 bytes"),
        (changed(41, bytes(4)), "expected measurements of 55 bytes each, got 0 in 0 bytes"),
        (changed(42, b"\xc1"), "expected measurements of 55 bytes each, got 64 in 3521 bytes"),
        (changed(45, b"\x02"), "measurement 1: expected 01013300013000, got 02013300013000"),
        (changed(100, b"\x03"), "measurement 2: expected 02"),
        (changed(46, b"\x02"), "measurement 1"),
        (RAW + b"\x00", "1 bytes after the signature"),
        (RAW[:-1], "signature: expected"),
        (changed(OPAQUE_AT - 2, b"\x00\x00"), "bytes after the signature"),
        (changed(OPAQUE_AT - 2, b"\xff\xff"), "opaque data: expected"),
        (changed(OPAQUE_AT + 2, b"\xff"), "opaque field 6 needs"),
        (changed(OPAQUE_AT + 12, b"\x06"), "opaque field 6 occurs twice"),
    ],
)
def test_what_does_not_parse(raw: bytes, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        spdm.parse_report(raw)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nonce": bytes(31)}, "nonce: expected 32 bytes, got 31"),
        ({"responder_nonce": bytes(33)}, "the device's nonce: expected 32 bytes, got 33"),
        ({"measurements": ()}, "expected 1 to 255 measurements, got 0"),
        ({"measurements": (bytes(48),) * 256}, "expected 1 to 255 measurements, got 256"),
        ({"measurements": (bytes(47),)}, "expected measurements of 48 bytes each"),
        ({"opaque": {65536: b""}}, "above 65535"),
        ({"opaque": {1: bytes(65536)}}, "above 65535"),
        ({"opaque": {1: bytes(65535)}}, "above 65535"),
    ],
)
def test_what_cannot_be_written(change: dict[str, Any], message: str) -> None:
    report = dataclasses.replace(spdm.parse_report(RAW), **change)
    with pytest.raises(EvidenceError, match=message):
        spdm.encode_report(report)
