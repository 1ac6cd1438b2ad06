"""SNP reports as bytes: every field has its place, every other byte is zero."""

from __future__ import annotations

import dataclasses

import pytest
import snp_world

from palm_torch.cvm import snp_report
from palm_torch.errors import EvidenceError


@pytest.fixture(scope="module")
def raw() -> bytes:
    return snp_world.report()


def test_fields_are_read_from_their_places(raw: bytes) -> None:
    report = snp_report.parse_report(raw)
    assert report.version == 3
    assert report.report_data == snp_world.REPORT_DATA == raw[0x50:0x90]
    assert report.measurement == raw[0x90:0xC0]
    assert report.report_id == raw[0x140:0x160]
    assert report.chip_id == raw[0x1A0:0x1E0]
    assert report.cpuid == raw[0x188:0x18B]
    assert report.reported_tcb == snp_report.TcbVersion(boot_loader=3, tee=0, snp=8, microcode=115)
    assert report.reported_tcb.encode() == raw[0x180:0x188]
    assert str(report.reported_tcb) == "boot loader 3, TEE 0, SNP 8, microcode 115"
    assert report.signature_r == raw[0x2A0:0x2D0]
    assert report.signature_s == raw[0x2E8:0x318]
    assert snp_report.SIGNING_KEYS[report.signing_key] == "vcek"


@pytest.mark.parametrize("layout", snp_report.LAYOUTS.values(), ids=snp_report.LAYOUTS)
def test_layouts_fill_the_report(layout: tuple[tuple[str, int], ...]) -> None:
    assert sum(size for _, size in layout) == snp_report.REPORT_BYTES
    before = dict(zip([name for name, _ in layout], range(len(layout)), strict=True))
    assert sum(size for _, size in layout[: before["signature_r"]]) == snp_report.SIGNED_BYTES


@pytest.mark.parametrize(
    "fields",
    [
        {"version": 2, "cpuid": None},
        {"version": 3},
        {"version": 5, "launch_mitigations": 1, "current_mitigations": 3},
    ],
    ids=["2", "3", "5"],
)
def test_every_version_is_written_as_it_is_read(fields: dict[str, int | None]) -> None:
    raw = snp_world.report(**fields)
    report = snp_report.parse_report(raw)
    assert snp_report.encode_report(report) == raw
    assert {name: getattr(report, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (0, 4, "expected version 2 or 3 or 5, got 4"),
        (3, 1, "expected version"),
        (0x34, 2, "signature algorithm: expected 1"),
        (0x4C, 1, "reserved bytes 0x04c to 0x050"),
        (0x48, 0x20, "bits 0 to 4 only, got 0x20"),
        (0x3B, 1, "current_tcb: expected a TCB version of a Milan"),
        (0x18B, 1, "reserved bytes 0x18b"),
        (0x1EB, 1, "reserved bytes 0x1eb"),
        (0x1EF, 1, "reserved bytes 0x1ef"),
        (0x1F8, 1, "reserved bytes 0x1f8"),
        (0x29F, 1, "reserved bytes 0x1f8"),
        (0x2D0, 1, "reserved bytes 0x2d0"),
        (0x318, 1, "reserved bytes 0x318"),
        (0x49F, 1, "reserved bytes 0x318"),
    ],
)
def test_other_bytes_are_refused(raw: bytes, at: int, value: int, message: str) -> None:
    changed = bytearray(raw)
    changed[at] = value
    with pytest.raises(EvidenceError, match=message):
        snp_report.parse_report(bytes(changed))


def test_other_lengths_are_refused(raw: bytes) -> None:
    for other in (b"", raw[:-1], raw + b"\x00"):
        with pytest.raises(EvidenceError, match=f"expected 1184 bytes, got {len(other)}"):
            snp_report.parse_report(other)


def test_a_field_of_another_length_has_no_place(raw: bytes) -> None:
    report = snp_report.parse_report(raw)
    with pytest.raises(EvidenceError, match="report_data: expected 64 bytes, got 63"):
        snp_report.encode_report(dataclasses.replace(report, report_data=bytes(63)))
    with pytest.raises(EvidenceError, match="cpuid: expected 3 bytes, got 0"):
        snp_report.encode_report(dataclasses.replace(report, cpuid=None))
