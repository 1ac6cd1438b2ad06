"""The quote parser: fields where Intel puts them, and nothing but the canonical bytes."""

from __future__ import annotations

from typing import Any

import pytest

from palm_torch.cvm import quote, simulated_quote
from palm_torch.errors import EncodingError, EvidenceError


def patched(raw: bytes, at: int, data: bytes) -> bytes:
    return raw[:at] + data + raw[at + len(data) :]


def version_5(raw: bytes, kind: int, size: int, body: bytes) -> bytes:
    return (
        b"\x05\x00" + raw[2:48] + kind.to_bytes(2, "little") + size.to_bytes(4, "little") + body + raw[632:]
    )


def test_fields_are_read_from_their_offsets(vendor: Any) -> None:
    raw = vendor.quote()
    parsed = quote.parse_quote(raw)
    report = parsed.td_report
    assert parsed.version == 4
    assert parsed.signed == raw[:632]
    assert parsed.signature == raw[636:700]
    assert parsed.attestation_key == raw[700:764]
    assert parsed.qe_report == raw[770:1154]
    assert parsed.qe_report_signature == raw[1154:1218]
    assert parsed.qe_authentication_data == raw[1220:1252]
    assert parsed.qe_report_data == raw[1090:1154]
    assert parsed.user_data == raw[28:48]
    assert report.mr_td == raw[184:232] == simulated_quote.MR_TD
    assert report.td_attributes == raw[168:176]
    assert report.rt_mrs == tuple(raw[376 + 48 * i : 424 + 48 * i] for i in range(4))
    assert report.report_data == raw[568:632] == bytes(range(64))
    assert report.mr_service_td is None


def test_both_bodies_of_version_5(vendor: Any) -> None:
    raw = vendor.quote()
    td10 = quote.parse_quote(version_5(raw, 2, 584, raw[48:632]))
    assert td10.td_report == quote.parse_quote(raw).td_report
    assert len(td10.signed) == 638
    td15 = quote.parse_quote(version_5(raw, 3, 648, raw[48:632] + b"\x02" * 16 + b"\x03" * 48))
    assert td15.td_report.tee_tcb_svn2 == b"\x02" * 16
    assert td15.td_report.mr_service_td == b"\x03" * 48


@pytest.mark.parametrize(("kind", "size"), [(2, 648), (3, 584), (4, 885), (1, 384), (0, 0)])
def test_other_bodies_are_refused(vendor: Any, kind: Any, size: int) -> None:
    raw = vendor.quote()
    with pytest.raises(EvidenceError, match="expected body"):
        quote.parse_quote(version_5(raw, kind, size, bytes(size)))


@pytest.mark.parametrize(
    ("at", "data", "message"),
    [
        (0, b"\x03", "expected version 4 or 5, got 3"),
        (2, b"\x03", "attestation key type: expected 2, got 3"),
        (4, b"\x00", "TEE type: expected 129, got 0"),
        (8, b"\x01", "reserved"),
        (12, b"\x00", "QE vendor id"),
        (632, b"\x00", "signature data size"),
        (764, b"\x05", "outer certification data type: expected 6, got 5"),
        (766, b"\x00", "outer certification data size"),
        (1218, b"\x21", "QE authentication data size: expected 32, got 33"),
        (1252, b"\x06", "inner certification data type: expected 5, got 6"),
        (1254, b"\x00", "inner certification data size"),
    ],
)
def test_every_fixed_field_is_checked(vendor: Any, at: Any, data: Any, message: str) -> None:
    with pytest.raises(EvidenceError, match=message):
        quote.parse_quote(patched(vendor.quote(), at, data))


def test_every_truncation_is_refused(vendor: Any) -> None:
    raw = vendor.quote()
    for size in (*range(1300), len(raw) - 2, len(raw) - 1):
        with pytest.raises((EvidenceError, EncodingError)):
            quote.parse_quote(raw[:size])
        with pytest.raises(EvidenceError):
            quote.canonical(raw[:size])


def test_the_tail(vendor: Any) -> None:
    raw = vendor.quote()
    assert quote.canonical(raw) == raw
    assert quote.canonical(raw + bytes(70)) == raw
    with pytest.raises(EvidenceError, match="expected nothing but zeros after byte"):
        quote.canonical(raw + b"\x00extra")
    with pytest.raises(EvidenceError, match="signature data size"):
        quote.parse_quote(raw + b"\x00")


def test_huge_input_is_refused(vendor: Any) -> None:
    with pytest.raises(EvidenceError, match="at most 16384 bytes, got 16385"):
        quote.canonical(vendor.quote().ljust(16385, b"\x00"))


def with_chain(raw: bytes, chain: bytes) -> bytes:
    certification = raw[770:1254] + len(chain).to_bytes(4, "little") + chain
    data = raw[636:766] + len(certification).to_bytes(4, "little") + certification
    return raw[:632] + len(data).to_bytes(4, "little") + data


def test_the_certificate_chain_has_one_spelling(vendor: Any) -> None:
    raw = vendor.quote()
    chain = raw[1258:]
    assert with_chain(raw, chain) == raw
    assert quote.parse_quote(with_chain(raw, chain[:-1])).certificates  # the NUL may be missing
    for other in (chain + b"\x00", chain[:-2], b"\n" + chain, b"", chain.replace(b"\n", b"\r\n")):
        with pytest.raises(EncodingError, match="PCK certificate chain"):
            quote.parse_quote(with_chain(raw, other))
