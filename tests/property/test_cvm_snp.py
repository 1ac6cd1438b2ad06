"""SNP reports and certificate tables: what is written is read the same, and nothing else is accepted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from palm_torch.cvm import snp_endorsements, snp_report
from palm_torch.errors import PalmTorchError

if TYPE_CHECKING:
    import uuid

BYTE = st.integers(0, 255)
TCB = st.builds(snp_report.TcbVersion, BYTE, BYTE, BYTE, BYTE)
FIELDS: dict[str, Any] = {
    name: TCB
    if name.endswith("_tcb")
    else st.integers(0, 256**size - 1)
    if name in snp_report._NUMBERS
    else st.binary(min_size=size, max_size=size)
    for name, size in snp_report.LAYOUTS[5]
    if name not in ("reserved", "signature_algorithm", "version", "flags")
}


@st.composite
def reports(draw: st.DrawFn) -> snp_report.SnpReport:
    version = draw(st.sampled_from(snp_report.VERSIONS))
    present = {name for name, _ in snp_report.LAYOUTS[version]}
    fields = {name: draw(strategy) for name, strategy in FIELDS.items() if name in present}
    return snp_report.SnpReport(version=version, flags=draw(st.integers(0, 31)), **fields)


@given(reports())
def test_every_report_is_read_as_it_was_written(report: snp_report.SnpReport) -> None:
    raw = snp_report.encode_report(report)
    assert len(raw) == snp_report.REPORT_BYTES
    assert snp_report.parse_report(raw) == report


@given(reports(), st.integers(0, 8 * 1184 - 1))
def test_every_bit_is_in_one_field_or_refused(report: snp_report.SnpReport, bit: int) -> None:
    raw = bytearray(snp_report.encode_report(report))
    raw[bit // 8] ^= 1 << bit % 8
    try:
        other = snp_report.parse_report(bytes(raw))
    except PalmTorchError:
        return
    assert other != report
    assert snp_report.encode_report(other) == raw


@given(
    st.lists(
        st.tuples(st.sampled_from(list(snp_endorsements.GUIDS)), st.binary(min_size=1)),
        unique_by=lambda e: e[0],
    ),
    st.lists(st.tuples(st.uuids(), st.binary())),
    st.randoms(use_true_random=False),
    st.binary(max_size=8),
)
def test_every_table_is_read_as_it_was_written(
    known: list[tuple[uuid.UUID, bytes]], others: list[tuple[uuid.UUID, bytes]], order: Any, tail: bytes
) -> None:
    entries = known + [entry for entry in others if entry[0] not in snp_endorsements.GUIDS]
    order.shuffle(entries)
    at = 24 * (len(entries) + 1)
    head, contents = b"", b""
    for kind, content in entries:
        start = at + len(contents)
        head += kind.bytes + start.to_bytes(4, "little") + len(content).to_bytes(4, "little")
        contents += content
    table = snp_endorsements.read_certificate_table(head + bytes(24) + contents + tail)
    expected = {snp_endorsements.GUIDS[kind]: content for kind, content in known}
    assert table == snp_endorsements.CertificateTable(**expected)
