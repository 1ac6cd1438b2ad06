"""Reports of GPUs: what is written is read the same, and nothing else is accepted."""

from __future__ import annotations

from typing import Any

import gpu_world
from hypothesis import given
from hypothesis import strategies as st

from palm_torch.cvm import gpu_measurements, gpu_names, gpu_opaque, simulated_gpu, spdm
from palm_torch.errors import PalmTorchError, PlatformError


def exactly(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


OPAQUE = st.dictionaries(st.integers(0, 65535), st.binary(max_size=60), max_size=12)


@st.composite
def reports(draw: st.DrawFn) -> spdm.SpdmReport:
    fields: dict[str, Any] = {
        "nonce": draw(exactly(32)),
        "responder_nonce": draw(exactly(32)),
        "measurements": tuple(draw(st.lists(exactly(48), min_size=1, max_size=70))),
        "opaque": draw(OPAQUE),
    }
    return spdm.SpdmReport(**fields, signature=draw(exactly(96)), signed=spdm.encode_signed(**fields))


@given(reports())
def test_every_report_is_read_as_it_was_written(report: spdm.SpdmReport) -> None:
    found = spdm.parse_report(spdm.encode_report(report))
    assert found == report
    assert list(found.opaque) == list(report.opaque)


@given(reports(), st.data())
def test_every_bit_is_in_one_field_or_refused(report: spdm.SpdmReport, data: st.DataObject) -> None:
    raw = bytearray(spdm.encode_report(report))
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    try:
        other = spdm.parse_report(bytes(raw))
    except PalmTorchError:
        return
    assert other != report
    assert spdm.encode_report(other) == raw


@given(st.binary(max_size=300))
def test_only_our_errors(data: bytes) -> None:
    for raw in (data, gpu_world.evidence()[: 8 * len(data)] + data):
        try:
            assert spdm.encode_report(spdm.parse_report(raw)) == raw
        except PalmTorchError:
            continue


@given(st.dictionaries(st.sampled_from(sorted(simulated_gpu.OPAQUE)), st.binary(max_size=50)))
def test_words_are_read_or_refused_with_our_errors(opaque: dict[int, bytes]) -> None:
    try:
        claims = gpu_opaque.read_claims({**simulated_gpu.OPAQUE, **opaque})
    except PalmTorchError:
        return
    assert claims.mode in gpu_names.MODES
    assert claims.driver_version.isascii()


@given(st.lists(st.integers(0, 255), min_size=5, max_size=5))
def test_versions_are_written_as_they_are_read(parts: list[int]) -> None:
    version = ".".join(f"{part:02X}" for part in parts)
    opaque = {
        **simulated_gpu.OPAQUE,
        gpu_opaque.VBIOS_VERSION: gpu_opaque.encode_vbios_version(version),
    }
    assert gpu_opaque.read_claims(opaque).vbios_version == version


MEASURED = st.lists(st.sampled_from([b"a", b"b"]), min_size=1, max_size=40)
GOLDEN = st.dictionaries(st.integers(0, 40), st.sampled_from([(b"a",), (b"b",), (b"a", b"b"), ()]))


@given(MEASURED, GOLDEN, st.sampled_from([None, False, True]))
def test_comparing_is_what_the_words_say(
    measured: list[bytes],
    golden: dict[int, tuple[bytes, ...]],
    on: bool | None,  # noqa: FBT001 (a value, no switch)
) -> None:
    looked_at = [index for index in golden if not (index == 35 and on is False)]
    fine = all(index < len(measured) and measured[index] in golden[index] for index in looked_at)
    try:
        assert gpu_measurements.compare(measured, golden, nvdec0_on=on) == len(looked_at)
    except PlatformError:
        assert not (fine and looked_at)
    else:
        assert fine
        assert looked_at
