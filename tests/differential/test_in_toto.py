"""Other people's readers of DSSE and in-toto read what we write; ours accepts a single spelling of it."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import google.protobuf.json_format as protobuf_json
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from in_toto.exceptions import SignatureVerificationError
from in_toto.models import metadata as in_toto_metadata
from in_toto_attestation.v1 import statement as in_toto_statement
from in_toto_attestation.v1 import statement_pb2
from securesystemslib import dsse as other_dsse
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

from palm_torch import dsse, receipt, statement
from palm_torch.encoding import encode_json
from palm_torch.errors import EvidenceError, SignatureError

if TYPE_CHECKING:
    from pathlib import Path

    from relay import ResumedRun

    from palm_torch.receipt import Receipt


@pytest.fixture(params=["file", "segment"])
def issued(resumed: ResumedRun, request: pytest.FixtureRequest) -> Receipt:
    found: Receipt = getattr(resumed.sessions[0], request.param)
    return found


def their_key(found: Receipt) -> SSlibKey:
    """Returns the session key as they hold keys, under the id that we give it."""
    key = dsse.session_public_key(found.session.session_key)
    return SSlibKey.from_crypto(key, keyid=dsse.key_id(key))


def their_statement(payload: bytes) -> in_toto_statement.Statement:
    message = protobuf_json.Parse(payload, statement_pb2.Statement())
    return in_toto_statement.Statement.copy_from_pb(message)


# They read ours -----------------------------------------------------------------------------------


def test_securesystemslib_reads_and_verifies_a_receipt_file(issued: Receipt) -> None:
    read = other_dsse.Envelope.from_dict(json.loads(issued.encode()))
    assert read.payload == issued.envelope.payload
    assert read.payload_type == issued.envelope.payloadType
    key = their_key(issued)
    assert list(read.verify([key], threshold=1)) == [key.keyid]


def test_twin_securesystemslib_refuses_a_changed_receipt(issued: Receipt) -> None:
    document = json.loads(issued.encode())
    document["payloadType"] = "application/json"
    with pytest.raises(VerificationError):
        other_dsse.Envelope.from_dict(document).verify([their_key(issued)], threshold=1)


def test_in_toto_reads_and_verifies_a_receipt_file(issued: Receipt, tmp_path: Path) -> None:
    path = tmp_path / "x.palm-receipt.json"
    path.write_bytes(issued.encode())
    read = in_toto_metadata.Metadata.load(str(path))
    assert isinstance(read, in_toto_metadata.Envelope)
    key = their_key(issued)
    read.verify_signature({"keyid": key.keyid, **key.to_dict()})
    stranger = SSlibKey.from_crypto(ec.generate_private_key(ec.SECP256R1()).public_key(), keyid=key.keyid)
    with pytest.raises(SignatureVerificationError):
        read.verify_signature({"keyid": key.keyid, **stranger.to_dict()})


def test_in_toto_attestation_parses_the_payload_of_a_receipt(issued: Receipt) -> None:
    read = their_statement(issued.envelope.payload)
    read.validate()
    content = receipt.decode_content(issued.envelope.payload)
    assert read.pb.predicate_type == receipt.PREDICATE_TYPE.format(kind=content.KIND)
    assert {
        subject.name: f"{algorithm}:{value}"
        for subject in read.pb.subject
        for algorithm, value in subject.digest.items()
    } == {role: str(digest) for role, digest in content.subjects().items()}
    assert read.pb.predicate["issued"]["run_id"] == issued.session.run_id


def test_in_toto_attestation_parses_an_end_statement(resumed: ResumedRun) -> None:
    read = their_statement(resumed.bundle.end.statement)
    read.validate()
    assert read.pb.predicate_type == statement.PREDICATE_TYPE.format(operation="train")
    assert {subject.name for subject in read.pb.subject} == {"log", "model"}


# We read theirs -----------------------------------------------------------------------------------


def test_ours_verifies_what_securesystemslib_signed() -> None:
    private: Any
    for private in (ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()):
        key = SSlibKey.from_crypto(private.public_key(), keyid=dsse.key_id(private.public_key()))
        accepted = 0
        for number in range(32):
            theirs = other_dsse.Envelope(b"payload %d" % number, dsse.IN_TOTO_PAYLOAD, {})
            theirs.sign(CryptoSigner(private, public_key=key))
            ours = dsse.from_json(theirs.to_dict(), what="theirs", error=EvidenceError)
            canonical = isinstance(private, ed25519.Ed25519PrivateKey) or is_low(ours.signatures[0].sig)
            context = (
                contextlib.nullcontext() if canonical else pytest.raises(SignatureError, match="canonical")
            )
            with context:
                dsse.verify(ours, payload_type=dsse.IN_TOTO_PAYLOAD, key=private.public_key(), what="theirs")
            accepted += canonical
        assert accepted > 0


def is_low(signature: bytes) -> bool:
    return decode_dss_signature(signature)[1] <= dsse._P256_ORDER // 2


def test_ours_refuses_spellings_that_theirs_reads(issued: Receipt) -> None:
    document = json.loads(issued.encode())
    (one,) = document["signatures"]
    for spelled in (
        json.dumps(document, indent=1).encode(),
        json.dumps(dict(reversed(document.items()))).encode(),
        encode_json({**document, "signatures": [one, {**one, "keyid": "another"}]}),
        encode_json({**document, "signatures": [{**one, "extension": {}}]}),
        encode_json({**document, "comment": "ignored by others"}),
    ):
        assert other_dsse.Envelope.from_dict(json.loads(spelled)).payload == issued.envelope.payload
        with pytest.raises(EvidenceError):
            receipt.decode(spelled)


def test_ours_refuses_statements_that_theirs_reads(issued: Receipt) -> None:
    document = json.loads(issued.envelope.payload)
    (subject, *_) = document["subject"]
    for spelled in (
        {**document, "subject": [*document["subject"], {"name": "extra", "digest": {"sha256": "00" * 32}}]},
        {**document, "subject": [{**subject, "uri": "file:///x"}]},
        {**document, "predicate": {**document["predicate"], "note": "more"}},
        {**document, "predicateType": "https://palm-torch/predicate/other/v1"},
    ):
        data = encode_json(spelled)
        their_statement(data).validate()
        with pytest.raises(EvidenceError):
            receipt.decode_content(data)
