"""Laws of the readers of hardware evidence: what is written is read, and nothing foreign escapes."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from palm_torch.cvm import binding, certificate_bytes, collateral, der, quote, tcb_documents
from palm_torch.errors import InputError, PalmTorchError

TAGS = st.sampled_from([der.BOOLEAN, der.INTEGER, der.BIT_STRING, der.OCTET_STRING, der.SEQUENCE])


@given(TAGS, st.binary(max_size=400))
def test_der_reads_what_it_writes(tag: int, content: bytes) -> None:
    element = der.read(der.write(tag, content), what="x")
    assert (element.tag, element.content) == (tag, content)


@given(st.binary(max_size=300))
def test_der_accepts_only_what_it_would_write(data: bytes) -> None:
    try:
        element = der.read(data, what="x")
    except InputError:
        return
    assert der.write(element.tag, element.content) == data


@given(st.lists(st.binary(max_size=200), min_size=1, max_size=3))
def test_pem_reads_what_it_writes(chain: list[bytes]) -> None:
    pem = certificate_bytes.encode_pem(chain)
    assert certificate_bytes.decode_pem(pem, what="x", count=len(chain)) == tuple(chain)


@given(st.binary(max_size=2000))
def test_nothing_foreign_escapes_the_readers(data: bytes) -> None:
    readers = (
        quote.parse_quote,
        quote.canonical,
        lambda raw: quote.parse_quote(b"\x04\x00\x02\x00\x81\x00\x00\x00" + bytes(4) + raw),
        lambda raw: certificate_bytes.load_certificate(raw, what="x"),
        lambda raw: certificate_bytes.load_crl(raw, what="x"),
        lambda raw: certificate_bytes.decode_pem(raw, what="x", count=1),
        tcb_documents.read_tcb_info,
        tcb_documents.read_qe_identity,
    )
    for reader in readers:
        try:
            reader(data)
        except PalmTorchError:
            continue


@given(
    st.dictionaries(st.sampled_from([f.name for f in dataclasses.fields(collateral.Collateral)]), st.text())
)
def test_nothing_foreign_escapes_collateral(document: dict[str, str]) -> None:
    try:
        collateral.from_json(dict(document))
    except PalmTorchError:
        return


PARTS = st.tuples(st.binary(min_size=32, max_size=40), st.text(max_size=8), st.sampled_from(["begin", "end"]))


@given(PARTS, PARTS)
def test_contexts_differ_when_any_part_does(
    first: tuple[bytes, str, str], last: tuple[bytes, str, str]
) -> None:
    contexts = {
        binding.context(nonce=nonce, challenged=challenged, run_id=run, phase=phase, claims_root=bytes(32))
        for nonce, run, phase in (first, last)
        for challenged in (True, False)
    }
    assert len(contexts) == (2 if first == last else 4)
