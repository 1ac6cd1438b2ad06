"""Begin and end statements: one spelling each, all roles there, subjects that follow from the predicate."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand
import workshop
from workshop import put

from palm_torch import codec, statement
from palm_torch.digest import sha256_digest
from palm_torch.encoding import decode_json, encode_json, length_prefixed
from palm_torch.errors import EncodingError, EvidenceError
from palm_torch.properties import OPERATIONS, PROPERTIES
from palm_torch.roles import Artifact, Source, Value, Written
from palm_torch.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Callable

GOOD = workshop.make_statement("run")
BEGIN = workshop.make_begin("run", "00" * 48, bytes(32))
ARTIFACT = Artifact(source=Source.MEASURED, kind="file", digest=sha256_digest(b"file"))
VALUE = Value(source=Source.REPORTED, value={"accuracy": 0.5})
ROLES = {
    "Artifact": ARTIFACT,
    "Value": VALUE,
    "Weights": at_hand.MODEL,
    "Dataset": GOOD.claims.data["dataset1"],
    "Multiset": at_hand.MANIFEST.multiset,
    "Digest": at_hand.MODEL.digest,
    "Steps": GOOD.claims.steps,
    "int": 10,
    "dict[str, Dataset]": GOOD.claims.data,
    "dict[str, Artifact]": {"a.bin": ARTIFACT},
    "dict[str, Written]": {
        "corpus": Written(
            source=Source.MEASURED,
            framing={"format": "bin"},
            files={"a.bin": ARTIFACT},
            digest=at_hand.MANIFEST.digest,
            records_root=at_hand.MODEL.digest,
            records=10,
            multiset=at_hand.MANIFEST.multiset,
        )
    },
}


def of(operation: str) -> Statement:
    """Returns a statement of any operation, each role filled with something of its type."""
    kind = PROPERTIES[operation]
    return Statement(
        run=GOOD.run,
        claims=kind(**{field.name: ROLES[str(field.type)] for field in dataclasses.fields(kind)}),
    )


def document(data: bytes | None = None) -> dict[str, Any]:
    value = decode_json(GOOD.encode() if data is None else data, what="statement", max_bytes=1 << 20)
    assert isinstance(value, dict)
    return value


# There and back -----------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_property_there_and_back(operation: Any) -> None:
    end = of(operation)
    assert end.operation == operation
    assert statement.decode(end.encode()) == end
    assert statement.decode(end.encode()).encode() == end.encode()


def test_a_begin_statement_there_and_back() -> None:
    for begin in (BEGIN, put(BEGIN, "register", None), put(BEGIN, "request", None)):
        assert statement.decode_begin(begin.encode()) == begin


def test_the_form_is_in_toto() -> None:
    found = document()
    assert found["_type"] == "https://in-toto.io/Statement/v1"
    assert found["predicateType"] == "https://palm-torch/predicate/train/v1"
    assert found["subject"] == [
        {"digest": {"sha256": sha256_digest(b"log").value.hex()}, "name": "log"},
        {"digest": {"palm-sha256": at_hand.MODEL.digest.value.hex()}, "name": "model"},
    ]


# Subjects -----------------------------------------------------------------------------------------

SUBJECTS = {
    "preprocess": {"produced.corpus"},
    "distribute": {"distribution"},
    "bind": {"manifest"},
    "train": {"model"},
    "optimize": {"model"},
    "evaluate": {"metric"},
    "infer": {"response"},
    "session": {"response", "history"},
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_was_produced_is_the_subject(operation: Any) -> None:
    assert of(operation).subjects().keys() == SUBJECTS[operation] | {"log"}


def test_a_value_is_known_by_the_digest_of_its_json() -> None:
    assert of("evaluate").subjects()["metric"] == statement.value_digest({"accuracy": 0.5})


def test_what_was_left_empty_is_no_subject() -> None:
    empty = Artifact(source=Source.DECLARED, kind="none", digest=None)
    end = put(put(of("infer"), "claims.response", empty), "run.outputs", {"nothing": empty})
    assert end.subjects() == {}
    assert statement.decode(end.encode()) == end


def test_an_output_cannot_take_the_place_of_the_model() -> None:
    end = put(GOOD, "run.outputs.model", ARTIFACT)
    assert end.subjects()["model"] == at_hand.MODEL.digest


# What is none -------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_statement_with_a_role_missing_does_not_parse(operation: Any) -> None:
    for role in of(operation).roles():
        found = document(of(operation).encode())
        del found["predicate"]["property"][role]
        with pytest.raises(EvidenceError, match=rf"^statement\.{operation}: missing key '{role}'$"):
            statement.decode(encode_json(found))


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    found = document()
    change(found)
    return encode_json(found)


BAD = {
    "nothing": (b"", "not a JSON document"),
    "a list": (b"[]", "expected an object"),
    "white space": (GOOD.encode() + b"\n", "canonical"),
    "a byte order mark": (b"\xef\xbb\xbf" + GOOD.encode(), "not a JSON document"),
    "a key twice": (b'{"_type":1,"_type":1}', "canonical"),
    "no predicate type": (changed(lambda s: s.pop("predicateType")), "unknown predicateType 'None'"),
    "an unknown predicate type": (
        changed(lambda s: s.update(predicateType="x" * 999)),
        "unknown predicateType",
    ),
    "a predicate type that is no text": (changed(lambda s: s.update(predicateType=["x"])), "unknown predic"),
    "the type of another property": (
        changed(lambda s: s.update(predicateType=s["predicateType"].replace("train", "infer"))),
        "statement.infer: unknown key",
    ),
    "no predicate": (changed(lambda s: s.pop("predicate")), "expected the keys 'run' and 'property'"),
    "a predicate that is a list": (changed(lambda s: s.update(predicate=[])), "expected the keys"),
    "half a predicate": (changed(lambda s: s["predicate"].pop("run")), "expected the keys"),
    "more than a predicate": (changed(lambda s: s["predicate"].update(more=1)), "expected the keys"),
    "an unknown key in the run": (
        changed(lambda s: s["predicate"]["run"].update(more=1)),
        "unknown key 'more'",
    ),
    "an unknown key in the property": (
        changed(lambda s: s["predicate"]["property"].update(x=1)),
        "unknown key",
    ),
    "an unknown key beside": (changed(lambda s: s.update(more=1)), "_type, subject or a number"),
    "another type": (changed(lambda s: s.update(_type="https://in-toto.io/Statement/v2")), "_type, subject"),
    "no subject": (changed(lambda s: s.update(subject=[])), "_type, subject"),
    "another subject": (changed(lambda s: s["subject"][1].update(name="other")), "_type, subject"),
    "subjects in another order": (changed(lambda s: s["subject"].reverse()), "_type, subject"),
    "an unknown source": (
        changed(lambda s: s["predicate"]["property"]["steps"].update(source="guessed")),
        "expected one of 'measured'",
    ),
    "negative steps": (
        changed(lambda s: s["predicate"]["property"]["steps"].update(taken=-1)),
        "steps are negative: -1 taken, 0 skipped",
    ),
    "an unknown use": (
        changed(lambda s: s["predicate"]["property"]["data"]["dataset1"]["uses"].update(test=None)),
        "expected an object",
    ),
    "an artifact without a digest": (
        changed(lambda s: s["predicate"]["property"]["architecture"].update(digest=None)),
        "artifact of kind 'architecture' with digest None",
    ),
    "an unknown source of code": (
        changed(lambda s: s["predicate"]["run"]["code"].update(source="trusted")),
        "one of 'imported', 'self_reported'",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_statement(name: str) -> None:
    data, message = BAD[name]
    with pytest.raises(EvidenceError, match=message):
        statement.decode(data)


BAD_BEGIN = {
    "nothing": (b"", "not a JSON document"),
    "a list": (b"[]", "expected an object"),
    "white space": (b" " + BEGIN.encode(), "canonical"),
    "an end statement": (GOOD.encode(), "unknown key"),
    "another type": (BEGIN.encode().replace(b"begin/v1", b"begin/v2"), "expected type 'palm-torch/begin/v1'"),
    "a short register": (BEGIN.encode().replace(b"0" * 96, b"0" * 94), "expected 48 bytes, got 47"),
    "an unknown operation": (BEGIN.encode().replace(b'"train"', b'"trial"'), "expected one of"),
}


@pytest.mark.parametrize("name", BAD_BEGIN)
def test_what_is_no_begin_statement(name: str) -> None:
    data, message = BAD_BEGIN[name]
    with pytest.raises(EvidenceError, match=message):
        statement.decode_begin(data)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(BEGIN)])
def test_every_key_of_a_begin_statement_is_mandatory(field: Any) -> None:
    found = document(BEGIN.encode())
    del found[field]
    with pytest.raises(EvidenceError, match=f"^begin: missing key '{field}'$"):
        statement.decode_begin(encode_json(found))


def test_a_statement_that_is_too_long() -> None:
    with pytest.raises(EvidenceError, match="expected at most 16777216 bytes"):
        statement.decode(b" " * (statement.MAX_STATEMENT_BYTES + 1))


# Digests of what travels --------------------------------------------------------------------------


def test_the_code_digest_covers_every_field_of_every_file() -> None:
    file = statement.SourceFile(module="m", digest=sha256_digest(b""), reason=None)
    seen = {
        statement.code_digest(files)
        for files in (
            (),
            (file,),
            (file, file),
            (dataclasses.replace(file, module="n"),),
            (dataclasses.replace(file, digest=None),),
            (dataclasses.replace(file, reason="r"),),
        )
    }
    assert len(seen) == 6
    assert codec.to_json((file,)) == [{"module": "m", "digest": str(file.digest), "reason": None}]


# statements: known answers of their digests, and messages that name the document and the field


ENCODED = workshop.make_statement("run").encode()


def refusal(data: bytes) -> str:
    with pytest.raises(EvidenceError) as caught:
        statement.decode(data)
    return str(caught.value)


def refusal_of_begin(data: bytes) -> str:
    with pytest.raises(EvidenceError) as caught:
        statement.decode_begin(data)
    return str(caught.value)


def test_the_digest_of_the_code_follows_its_formula() -> None:
    file = statement.SourceFile(module="m", digest=sha256_digest(b""), reason=None)
    listed = f'[{{"digest":"{sha256_digest(b"")}","module":"m","reason":null}}]'.encode()
    found = statement.code_digest((file,))
    assert found.algorithm == "palm-sha256"
    assert found.value == hashlib.sha256(b"palm-torch/code/v1" + length_prefixed(listed)).digest()


def test_the_digest_of_a_value_follows_its_formula() -> None:
    found = statement.value_digest({"b": 1, "a": [0.5]})
    assert found.algorithm == "palm-sha256"
    assert (
        found.value == hashlib.sha256(b"palm-torch/value/v1" + length_prefixed(b'{"a":[0.5],"b":1}')).digest()
    )


def test_a_message_names_the_document() -> None:
    assert refusal(b"[]") == "statement: expected an object"
    assert refusal(b"").startswith("statement: not a JSON document: ")
    assert refusal_of_begin(b"[]") == "begin statement: expected an object"
    assert refusal_of_begin(b"").startswith("begin statement: not a JSON document: ")


def test_eighty_characters_of_a_foreign_type_are_shown() -> None:
    assert refusal(encode_json(document() | {"predicateType": "x" * 81})) == (
        f"statement: unknown predicateType {'x' * 80!r}"
    )
    with pytest.raises(EncodingError) as caught:
        dataclasses.replace(BEGIN, type="x" * 81)
    assert str(caught.value) == f"expected type 'palm-torch/begin/v1', got {'x' * 80!r}"


def test_a_message_names_the_part() -> None:
    run = document()["predicate"]["run"]
    property_ = document()["predicate"]["property"]
    assert refusal(encode_json(document() | {"predicate": {"run": run}})) == (
        "statement.predicate: expected the keys 'run' and 'property'"
    )
    assert refusal(
        encode_json(document() | {"predicate": {"run": run | {"run_id": 1}, "property": property_}})
    ) == ("statement.run.run_id: expected str, got 1")
    assert refusal(encode_json(document() | {"subject": []})) == (
        "statement: _type, subject or a number is not as its predicate says"
    )


def test_a_message_names_the_register() -> None:
    assert refusal_of_begin(encode_json(document(BEGIN.encode()) | {"register": "00" * 47})) == (
        "begin.register: expected 48 bytes, got 47"
    )
