"""Manifests say what was written into them, and edited ones raise nothing but our own errors."""

from __future__ import annotations

import rim_world
from hypothesis import given
from hypothesis import strategies as st

from palm_torch.cvm import ocsp, simulated_ocsp
from palm_torch.errors import PalmTorchError

VALUES = st.binary(min_size=48, max_size=48)
GOLDEN = st.dictionaries(st.integers(0, 63), st.lists(VALUES, min_size=1, max_size=4).map(tuple), min_size=1)
VERSIONS = st.one_of(
    st.from_regex(r"[0-9A-F]{2}(\.[0-9A-F]{2}){4}", fullmatch=True),
    st.from_regex(r"[0-9]{1,5}(\.[0-9]{1,5}){1,3}", fullmatch=True),
).filter(str.isascii)


@given(GOLDEN, VERSIONS)
def test_what_was_written_is_read(golden: dict[int, tuple[bytes, ...]], version: str) -> None:
    verified = rim_world.verify(rim_world.manifest(version=version, golden=golden))
    assert (verified.golden, verified.version) == (golden, version)
    assert verified.kind == ("vbios" if version.count(".") == 4 else "driver")


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 40), st.binary(max_size=8))
def test_edited_ones(at: float, cut: int, put: bytes) -> None:
    data = rim_world.manifest()
    start = int(at * len(data))
    edited = data[:start] + put + data[start + cut :]
    if edited == data:
        return
    try:
        verified = rim_world.verify(edited)
    except PalmTorchError:
        return
    assert edited.rstrip(b"\n") == data, verified


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 4), st.binary(max_size=4))
def test_edited_answers(at: float, cut: int, put: bytes) -> None:
    authority, now = rim_world.authority(), rim_world.NOW
    responder = simulated_ocsp.make_responder(authority.product, now)
    data = simulated_ocsp.make_answer(
        authority.signer.certificate, authority.product, now, responder=responder
    )
    start = int(at * len(data))
    edited = data[:start] + put + data[start + cut :]
    try:
        found = ocsp.check_chain(rim_world.verify().chain, ocsp.parse([edited]), now=now, what="chain")
    except PalmTorchError:
        return
    assert not found.good or edited == data
