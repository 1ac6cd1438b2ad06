"""Receipts as files: there and back, every field needed, nothing but in-toto Statements of two kinds."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest
import relay
import workshop
from workshop import put

from palm_torch import codec, receipt
from palm_torch.digest import Digest, sha256_digest
from palm_torch.encoding import decode_json, encode_json
from palm_torch.errors import CodeError, EncodingError, EvidenceError
from palm_torch.receipt import (
    ArtifactsReceipt,
    CodeSoFar,
    DatasetAccount,
    DeliveredSoFar,
    Issued,
    Receipt,
    SegmentReceipt,
)
from palm_torch.roles import Artifact, Source
from palm_torch.statement import CodeSource

if TYPE_CHECKING:
    from relay import ResumedRun

    from palm_torch.receipt import Content


def parsed(data: bytes) -> dict[str, Any]:
    value = decode_json(data, what="test", max_bytes=len(data))
    assert isinstance(value, dict)
    return value


@pytest.fixture
def file(resumed: ResumedRun) -> Receipt:
    return resumed.sessions[1].file


@pytest.fixture
def segment(resumed: ResumedRun) -> Receipt:
    found = resumed.sessions[1].segment
    assert found is not None
    return found


# Files --------------------------------------------------------------------------------------------


def test_there_and_back(file: Receipt, segment: Receipt) -> None:
    for good in (file, segment):
        data = good.encode()
        assert receipt.decode(data) == good
        assert receipt.decode(data).encode() == data
        assert good.digest == sha256_digest(good.envelope.payload)


def test_a_receipt_file_is_an_envelope_with_one_more_member(file: Receipt) -> None:
    document = parsed(file.encode())
    assert document.keys() == {"payload", "payloadType", "signatures", "session"}
    assert document["payloadType"] == "application/vnd.in-toto+json"


def test_a_receipt_is_the_same_under_another_signature(file: Receipt) -> None:
    assert put(file, "envelope.signatures.0.sig", b"another").digest == file.digest


@pytest.mark.parametrize("member", ["payload", "payloadType", "signatures", "session"])
def test_every_member_is_mandatory(file: Receipt, member: str) -> None:
    document = parsed(file.encode())
    del document[member]
    with pytest.raises(EvidenceError, match=f"^note: .*'{member}'"):
        receipt.decode(encode_json(document), what="note")


def test_malformed_files(file: Receipt) -> None:
    good = file.encode()
    document = parsed(good)
    for data, message in (
        (b"", "note: not a JSON document"),
        (b"[]", "note: expected an object with 'session'"),
        (good + b"\n", "note"),
        (encode_json({**document, "verified": True}), "unknown key 'verified'"),
        (encode_json({**document, "session": None}), "note.session: expected an object"),
        (
            encode_json({**document, "session": {**document["session"], "attester": "sgx"}}),
            "one of 'tdx', 'snp'",
        ),
        (encode_json({**document, "session": {**document["session"], "end": {}}}), "unknown key 'end'"),
        (
            encode_json({**document, "session": {**document["session"], "session_key": "A" * 344}}),
            "session_key: expected at most 256 bytes, got 258",
        ),
        (bytes(receipt.MAX_BUNDLE_BYTES + 1), "at most 67108864 bytes"),
    ):
        with pytest.raises(EvidenceError, match=message):
            receipt.decode(data, what="note")


def test_a_receipt_is_told_from_evidence_by_its_first_member(resumed: ResumedRun, file: Receipt) -> None:
    assert receipt.is_receipt(file.encode())
    for data in (resumed.data, b"", b"{}", b" " + file.encode()):
        assert not receipt.is_receipt(data)


# Contents -----------------------------------------------------------------------------------------


def test_contents_there_and_back(file: Receipt, segment: Receipt) -> None:
    for good, kind in ((file, ArtifactsReceipt), (segment, SegmentReceipt)):
        content = receipt.decode_content(good.envelope.payload)
        assert type(content) is kind
        assert receipt.encode_content(content) == good.envelope.payload


def test_a_content_is_an_in_toto_statement(file: Receipt, segment: Receipt) -> None:
    for good, kind, subjects in (
        (file, "receipt", {"checkpoint": "sha256"}),
        (segment, "segment", {"model": "palm-sha256"}),
    ):
        document = parsed(good.envelope.payload)
        assert document["_type"] == "https://in-toto.io/Statement/v1"
        assert document["predicateType"] == f"https://palm-torch/predicate/{kind}/v1"
        found = {item["name"]: next(iter(item["digest"])) for item in document["subject"]}
        assert found == subjects


def test_what_was_absent_is_no_subject(file: Receipt) -> None:
    content = receipt.decode_content(file.envelope.payload)
    assert isinstance(content, ArtifactsReceipt)
    absent = Artifact(source=Source.DECLARED, kind="none", digest=None)
    more = dataclasses.replace(content, artifacts={**content.artifacts, "tokenizer": absent})
    assert more.subjects() == content.subjects()
    assert receipt.decode_content(receipt.encode_content(more)) == more
    for nothing in ({}, {"tokenizer": absent}):
        with pytest.raises(EncodingError, match="artifacts: expected at least one with a digest"):
            dataclasses.replace(content, artifacts=nothing)


def test_malformed_contents(file: Receipt) -> None:
    payload = file.envelope.payload
    document = parsed(payload)
    issued = document["predicate"]["issued"]

    def with_issued(**changes: Any) -> bytes:
        return encode_json(
            {**document, "predicate": {**document["predicate"], "issued": {**issued, **changes}}}
        )

    code = issued["code"]
    for data, message in (
        (b"", "note: not a JSON document"),
        (b"[]", "note: expected an object"),
        (payload + b" ", "note"),
        (
            encode_json({**document, "predicateType": "https://slsa.dev/provenance/v1"}),
            "unknown predicateType 'https",
        ),
        (encode_json({**document, "predicateType": None}), "unknown predicateType 'None'"),
        (
            encode_json({**document, "_type": "https://in-toto.io/Statement/v0.1"}),
            "_type, subject or a number",
        ),
        (encode_json({**document, "subject": []}), "_type, subject or a number"),
        (encode_json({**document, "extra": 1}), "_type, subject or a number"),
        (encode_json({**document, "predicate": {"issued": issued}}), "predicate: missing key 'artifacts'"),
        (with_issued(sequence=-1), "sequence: expected 0 to 4294967295, got -1"),
        (with_issued(log_size=1 << 32), "log_size: expected 0 to 4294967295, got 4294967296"),
        (
            with_issued(code={**code, "since": code["since"] * 2}),
            "note: expected the files of the code in order",
        ),
        (with_issued(code={**code, "files": code["since"]}), "code: unknown key 'files'"),
        (
            encode_json({**document, "predicateType": "https://palm-torch/predicate/segment/v1"}),
            "predicate: unknown key 'artifacts'",
        ),
    ):
        with pytest.raises(EvidenceError, match=message):
            receipt.decode_content(data, what="note")


def test_files_in_another_order_are_refused(file: Receipt) -> None:
    content = receipt.decode_content(file.envelope.payload)
    first, second, *_ = workshop.FILES
    ordered = put(content, "issued.code.since", (first, second))
    assert receipt.decode_content(receipt.encode_content(ordered)) == ordered
    for listed in ((second, first), (first, first)):
        with pytest.raises(EvidenceError, match=r"in order of module name, each once$"):
            receipt.decode_content(receipt.encode_content(put(content, "issued.code.since", listed)))


def test_a_receipt_lists_what_the_begin_statement_does_not() -> None:
    for listed in range(len(workshop.FILES) + 1):
        whole, begin = workshop.make_code(), relay.fixed_code(listed)
        so_far = CodeSoFar.of(whole, begin)
        assert (so_far.since, so_far.digest) == (workshop.FILES[listed:], whole.digest)
        assert so_far.whole(begin) == whole


def test_code_that_its_digest_does_not_name(file: Receipt) -> None:
    begin = relay.fixed_code(1)
    so_far = receipt.decode_content(file.envelope.payload).issued.code
    first, second, *_ = workshop.FILES
    assert so_far.whole(begin) == relay.fixed_code(2)
    for bent in (
        dataclasses.replace(so_far, since=()),
        dataclasses.replace(so_far, since=(put(second, "digest", begin.digest),)),
        dataclasses.replace(so_far, since=(first, second)),
        dataclasses.replace(so_far, digest=begin.digest),
        CodeSoFar(
            source=so_far.source, digest=receipt.code_digest((first, first, second)), since=(first, second)
        ),
    ):
        with pytest.raises(EvidenceError, match=r"^receipt: the code's digest is not that of the files"):
            bent.whole(begin)
    with pytest.raises(EvidenceError, match="each once"):
        so_far.whole(relay.fixed_code(0))
    with pytest.raises(CodeError, match="in one way and then in another: imported, self_reported"):
        put(so_far, "source", CodeSource.SELF_REPORTED).whole(begin)


def test_numbers_at_their_limits(file: Receipt) -> None:
    issued = receipt.decode_content(file.envelope.payload).issued
    for name in ("sequence", "log_size"):
        assert put(issued, name, 0)
        assert put(issued, name, receipt.MAX_SEQUENCE - 1)
        for bad in (-1, receipt.MAX_SEQUENCE):
            with pytest.raises(EncodingError, match=f"{name}: expected 0 to 4294967295, got {bad}"):
                put(issued, name, bad)
    assert isinstance(issued, Issued)
    assert Digest.parse(str(issued.begin)) == issued.begin


# the bytes of a receipt, spelled out, and messages that name the file


def contents(run: ResumedRun) -> tuple[Content, Content]:
    session = run.sessions[1]
    assert session.segment is not None
    return (
        receipt.decode_content(session.file.envelope.payload),
        receipt.decode_content(session.segment.envelope.payload),
    )


def test_a_content_is_written_as_an_in_toto_statement(resumed: ResumedRun) -> None:
    file, segment = contents(resumed)
    assert isinstance(file, receipt.ArtifactsReceipt)
    assert isinstance(segment, receipt.SegmentReceipt)
    checkpoint = file.artifacts["checkpoint"].digest
    assert checkpoint is not None
    for content, kind, subject in (
        (file, "receipt", {"name": "checkpoint", "digest": {"sha256": checkpoint.value.hex()}}),
        (segment, "segment", {"name": "model", "digest": {"palm-sha256": segment.model.value.hex()}}),
    ):
        assert json.loads(receipt.encode_content(content)) == {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [subject],
            "predicateType": f"https://palm-torch/predicate/{kind}/v1",
            "predicate": codec.to_json(content),
        }


def test_an_unnamed_receipt_is_called_a_receipt() -> None:
    with pytest.raises(EvidenceError, match=r"^receipt: expected an object with 'session'$"):
        receipt.decode(b"{}")
    with pytest.raises(EvidenceError, match=r"^receipt: expected an object$"):
        receipt.decode_content(b"[]")


def test_eighty_characters_of_a_foreign_type_are_shown() -> None:
    data: Any = {"predicateType": "x" * 81}
    with pytest.raises(EvidenceError) as caught:
        receipt.decode_content(encode_json(data))
    assert str(caught.value) == f"receipt: unknown predicateType {'x' * 80!r}"


def test_a_receipt_of_nothing_is_none(resumed: ResumedRun) -> None:
    file, _ = contents(resumed)
    with pytest.raises(EncodingError, match=r"^artifacts: expected at least one with a digest$"):
        dataclasses.replace(file, artifacts={})


def test_the_name_of_a_receipt_tells_it_from_evidence() -> None:
    assert receipt.SUFFIX == ".palm-receipt.json"


def test_an_account_is_of_a_stream_or_has_multiplicities() -> None:
    held = DeliveredSoFar(
        delivered=0, order=Digest("palm-sha256", bytes(32)), coverage=None, exact=True, product=None
    )
    words = {"format": "items", "manifest": None, "records": None, "record_bytes": None, "layout": "items"}
    assert DatasetAccount(**words, uses={"train": held}).records is None
    with pytest.raises(EncodingError, match=r"uses\.train\.coverage: expected both or none"):
        DatasetAccount(**(words | {"records": 3}), uses={"train": held})
    counted = dataclasses.replace(held, coverage=Digest("palm-sha256", bytes(32)))
    with pytest.raises(EncodingError, match=r"uses\.train\.coverage: expected both or none"):
        DatasetAccount(**words, uses={"train": counted})
    with pytest.raises(EncodingError, match="a stream has no manifest"):
        DatasetAccount(**(words | {"manifest": Digest("sha256", bytes(32))}), uses={"train": held})
