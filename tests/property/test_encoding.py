"""The two laws of every encoding: what is encoded reads back equal, what reads back re-encodes equal."""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
import math
import struct
from typing import Any
from unittest import mock

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from palm_torch import codec, encoding
from palm_torch.digest import LENGTHS_BYTES, Digest, tagged_hash
from palm_torch.errors import EncodingError, EvidenceError

MAX_BYTES = 1 << 20


integers = st.integers(-encoding.MAX_INTEGER, encoding.MAX_INTEGER)
doubles = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | integers | doubles | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=25,
)
any_double = st.binary(min_size=8, max_size=8).map(lambda data: struct.unpack(">d", data)[0])


def decode(data: bytes) -> encoding.Json:
    return encoding.decode_json(data, what="document", max_bytes=MAX_BYTES)


@given(values)
def test_what_is_encoded_reads_back_equal(value: encoding.Json) -> None:
    data = encoding.encode_json(value)
    assert decode(data) == value
    assert encoding.encode_json(decode(data)) == data


@given(values)
def test_any_json_reader_whose_numbers_are_doubles_reads_the_same(value: encoding.Json) -> None:
    assert json.loads(encoding.encode_json(value), parse_int=float) == value


@given(values, st.data())
def test_a_changed_document_is_refused_or_canonical_itself(value: encoding.Json, data: st.DataObject) -> None:
    document = bytearray(encoding.encode_json(value))
    bit = data.draw(st.integers(0, 8 * len(document) - 1), label="bit")
    document[bit // 8] ^= 1 << bit % 8
    try:
        changed = decode(bytes(document))
    except EncodingError:
        return
    assert encoding.encode_json(changed) == document
    assert changed != value or repr(changed) != repr(value)


@given(values, st.data())
def test_white_space_anywhere_outside_text_is_refused(value: encoding.Json, data: st.DataObject) -> None:
    document = encoding.encode_json(value)
    assume(b'"' not in document)
    at = data.draw(st.integers(0, len(document)), label="at")
    space = data.draw(st.sampled_from([b" ", b"\n", b"\t", b"\r"]), label="space")
    with pytest.raises(EncodingError):
        decode(document[:at] + space + document[at:])


@given(st.binary(max_size=64) | st.text('[]{}",:0123456789.eE+-\\untrfals ', max_size=64).map(str.encode))
@example(b'{"a":1,"a":1}')
@example(b"-0")
def test_any_bytes_are_refused_or_canonical(data: bytes) -> None:
    try:
        value = decode(data)
    except EncodingError:
        return
    assert encoding.encode_json(value) == data


spellings = st.builds(
    json.dumps,
    values,
    ensure_ascii=st.booleans(),
    sort_keys=st.booleans(),
    separators=st.sampled_from([(",", ":"), (", ", ":")]),
)


@given(spellings.map(lambda text: text.encode("utf-8", "replace")) | values.map(encoding.encode_json))
@example(b"[1.0]")
@example(b"[1e+21,1e-7,0.5]")
@example(b"[9007199254740993]")
@example('{"\ue000":1,"\U0001f600":2}'.encode())
@example('{"\U0001f600":1,"\ue000":2}'.encode())
@example(b"[" * 33 + b"]" * 33)
@example(b"[" * 33 + b"0" + b"]" * 33)
@example(b'{"a":' * 32 + b"[]" + b"}" * 32)
@example(b'{"a":' * 32 + b'["b"]' + b"}" * 32)
def test_what_is_spelled_quickly_is_judged_as_what_is_spelled_with_care(data: bytes) -> None:
    def judged() -> str:
        try:
            return repr(decode(data))
        except EncodingError as error:
            return str(error)

    quick = judged()
    with (
        mock.patch.object(encoding, "_PLAIN", mock.Mock(encode=lambda _: None)),
        mock.patch.object(encoding, "_is_plain", return_value=False),
    ):
        assert judged() == quick


odd = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | any_double
    | st.text(st.characters())
    | st.sampled_from([2**53 - 1, 2**53, -(2**53), "\ud800", b"bytes", (1,), enum.IntEnum("E", "A").A]),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.none(), inner),
)


@given(odd)
@example([[[]]] * 2)
@example({"\U0001f600": 1, "\ue000": 2})
@example({1: "a"})
@example([0.7, 1.0, -0.0, 1e-4, 9.999e-5, 1e16, 9007199254740991.5, 1e-7, -2.5, math.nan, math.inf])
def test_python_s_own_encoder_is_used_where_it_spells_the_same(value: Any) -> None:
    for depth in (0, 29, 30, 31, 32):
        deep = functools.reduce(lambda inner, _: [inner], range(depth), value)

        def spelled(deep: Any = deep) -> bytes | str:
            try:
                return encoding.encode_json(deep)
            except EncodingError as error:
                return str(error)

        quick = spelled()
        with mock.patch.object(encoding, "_is_plain", return_value=False):
            assert spelled() == quick


@given(any_double)
def test_every_double_is_spelled_shortest_and_exactly(value: float) -> None:
    assume(math.isfinite(value))
    text = encoding.encode_json(value).decode()
    assert float(text) == value
    shortest = [digit for digit in repr(abs(value)).partition("e")[0] if digit.isdigit()]
    written = [digit for digit in text.partition("e")[0] if digit.isdigit()]
    assert "".join(written).strip("0") == "".join(shortest).strip("0")


@given(st.dictionaries(st.text(), st.just(0)))
def test_keys_stand_in_the_order_of_their_utf_16_units(value: dict[str, encoding.Json]) -> None:
    keys = list(json.loads(encoding.encode_json(value)))
    units = [struct.unpack(f">{len(key.encode('utf-16-be')) // 2}H", key.encode("utf-16-be")) for key in keys]
    assert units == sorted(units)


@given(st.binary())
def test_base64_and_hexadecimal_read_back(data: bytes) -> None:
    assert encoding.decode_base64(encoding.encode_base64(data), what="x") == data
    assert encoding.decode_hex(data.hex(), what="x", length_bytes=len(data)) == data


@given(st.text() | st.text("ABab01+/=\n ", max_size=12))
def test_any_text_is_refused_or_canonical_base64(text: str) -> None:
    try:
        data = encoding.decode_base64(text, what="x")
    except EncodingError:
        return
    assert encoding.encode_base64(data) == text


@given(st.text() | st.text("0123456789abcdefABCDEF ", max_size=12))
def test_any_text_is_refused_or_canonical_hexadecimal(text: str) -> None:
    try:
        data = encoding.decode_hex(text, what="x")
    except EncodingError:
        return
    assert data.hex() == text


@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.binary(max_size=40), max_size=6))
def test_framing_keeps_the_boundaries(left: list[bytes], right: list[bytes]) -> None:
    framed = [b"".join(map(encoding.length_prefixed, parts)) for parts in (left, right)]
    assert (framed[0] == framed[1]) == (left == right)
    tag = "palm-torch/example/v1"
    assert (tagged_hash(tag, *left) == tagged_hash(tag, *right)) == (left == right)


@st.composite
def digests(draw: st.DrawFn) -> Digest:
    algorithm = draw(st.sampled_from(sorted(LENGTHS_BYTES)))
    return Digest(
        algorithm, draw(st.binary(min_size=LENGTHS_BYTES[algorithm], max_size=LENGTHS_BYTES[algorithm]))
    )


@given(digests())
def test_a_digest_reads_back(digest: Digest) -> None:
    assert Digest.parse(str(digest)) == digest


@given(digests(), st.data())
def test_a_changed_digest_is_refused_or_another_one(digest: Digest, data: st.DataObject) -> None:
    text = str(digest)
    at = data.draw(st.integers(0, len(text) - 1), label="at")
    changed = text[:at] + data.draw(st.characters(), label="character") + text[at + 1 :]
    assume(changed != text)
    try:
        other = Digest.parse(changed)
    except EncodingError:
        return
    assert str(other) == changed
    assert other != digest


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """A dataclass of the types that statements are made of."""

    name: str
    count: int
    share: float
    raw: bytes
    digest: Digest | None
    tags: tuple[str, ...]
    scores: dict[str, float]


nodes = st.builds(
    Node,
    name=st.text(),
    count=integers,
    share=doubles,
    raw=st.binary(),
    digest=st.none() | digests(),
    tags=st.lists(st.text()).map(tuple),
    scores=st.dictionaries(st.text(), doubles),
)


@given(nodes)
def test_a_dataclass_reads_back(node: Node) -> None:
    data = encoding.encode_json(codec.to_json(node))
    assert codec.from_json(Node, decode(data), what="node", error=EvidenceError) == node


@given(values)
def test_any_value_is_refused_or_the_dataclass_that_writes_it(value: encoding.Json) -> None:
    try:
        node = codec.from_json(Node, value, what="node", error=EvidenceError)
    except EvidenceError:
        return
    assert codec.to_json(node) == value


@given(nodes, st.sampled_from([field.name for field in dataclasses.fields(Node)]), values)
def test_a_field_of_any_value_is_refused_or_written_back(
    node: Node, field: str, value: encoding.Json
) -> None:
    written = codec.to_json(node)
    assert isinstance(written, dict)
    changed: encoding.Json = {**written, field: value}
    try:
        read = codec.from_json(Node, changed, what="node", error=EvidenceError)
    except EvidenceError:
        return
    assert codec.to_json(read) == changed
