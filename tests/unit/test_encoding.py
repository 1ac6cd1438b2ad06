"""Canonical JSON, hex, base64 and framing: known answers and everything that is refused."""

from __future__ import annotations

import enum
import json
import math
import struct
from pathlib import Path
from typing import Any

import pytest

from palm_torch import encoding
from palm_torch.errors import EncodingError

GROUPS = {
    group["group"]: group["tests"]
    for group in json.loads((Path(__file__).parents[1] / "vectors" / "encoding.json").read_text())[
        "testGroups"
    ]
}

# RFC 8785 appendix B: a double as it lies in memory, big endian, and its one spelling.
RFC_8785_NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}


def cases(group: str) -> list[Any]:
    return [
        pytest.param(case, id=f"{case['tcId']}-{case['comment'].replace(' ', '-')}") for case in GROUPS[group]
    ]


def double(pattern: str) -> float:
    (value,) = struct.unpack(">d", bytes.fromhex(pattern))
    return float(value)


@pytest.mark.parametrize("pattern", RFC_8785_NUMBERS)
def test_numbers_of_rfc_8785_appendix_b(pattern: str) -> None:
    assert encoding.encode_json(double(pattern)).decode() == RFC_8785_NUMBERS[pattern]


@pytest.mark.parametrize("pattern", RFC_8785_NUMBERS)
def test_what_appendix_b_spells_is_read_back(pattern: str) -> None:
    text = RFC_8785_NUMBERS[pattern].encode()
    assert encoding.decode_json(text, what="number", max_bytes=64) == double(pattern)


@pytest.mark.parametrize("pattern", ["7ff0000000000000", "fff0000000000000", "7fffffffffffffff"])
def test_numbers_that_rfc_8785_has_no_spelling_for(pattern: str) -> None:
    with pytest.raises(EncodingError, match="JSON has no"):
        encoding.encode_json(double(pattern))


def test_the_sample_of_rfc_8785_section_3_2() -> None:
    value: encoding.Json = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert encoding.encode_json(value).decode() == expected


def test_the_key_order_of_rfc_8785_section_3_2_3() -> None:
    names = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    decoded = json.loads(encoding.encode_json(dict(names)))
    assert list(decoded.values()) == [
        "Carriage Return",
        "One",
        "Control",
        "Latin Small Letter O With Diaeresis",
        "Euro Sign",
        "Emoji: Grinning Face",
        "Hebrew Letter Dalet With Dagesh",
    ]


@pytest.mark.parametrize("case", cases("canonical JSON"))
def test_json_vectors(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["bytes"])
    if case["result"] == "valid":
        assert encoding.encode_json(encoding.decode_json(data, what="vector", max_bytes=10_000)) == data
    else:
        with pytest.raises(EncodingError):
            encoding.decode_json(data, what="vector", max_bytes=10_000)


def test_every_result_occurs_in_the_vectors() -> None:
    assert {case["result"] for case in GROUPS["canonical JSON"]} == {"valid", "invalid", "malformed"}


@pytest.mark.parametrize("data", [b" 1", b'{"b":0,"a":0}', b"nul", b'"\xff"', b"1e+400", b"1" * 5_000])
def test_a_message_names_the_document(data: bytes) -> None:
    with pytest.raises(EncodingError, match=r"^the policy: "):
        encoding.decode_json(data, what="the policy", max_bytes=10_000)


def test_a_message_shows_where_the_canonical_form_is_left() -> None:
    with pytest.raises(EncodingError, match=r"byte 3: expected b'2\]', got b' 2\]'"):
        encoding.decode_json(b"[1, 2]", what="document", max_bytes=100)
    with pytest.raises(EncodingError, match=r"byte 1: expected b'', got b'\\n'"):
        encoding.decode_json(b"1\n", what="document", max_bytes=100)


def test_the_size_limit_counts_bytes_and_includes_its_bound() -> None:
    data = '"€"'.encode()
    assert encoding.decode_json(data, what="document", max_bytes=5) == "€"
    with pytest.raises(EncodingError, match="document: expected at most 4 bytes, got 5"):
        encoding.decode_json(data, what="document", max_bytes=4)


def test_the_depth_limit_includes_its_bound() -> None:
    deepest = b"[" * 32 + b"0" + b"]" * 32
    assert encoding.encode_json(encoding.decode_json(deepest, what="document", max_bytes=100)) == deepest
    with pytest.raises(EncodingError, match="nesting deeper than 32"):
        encoding.decode_json(b"[" + deepest + b"]", what="document", max_bytes=100)


UNENCODABLE = {
    "NaN": math.nan,
    "infinity": math.inf,
    "integer too large": 2**53,
    "integer too small": -(2**53),
    "lone surrogate": "\ud800",
    "lone surrogate in a key": {"\udfff": 0},
    "key that is not text": {1: 0},
    "bytes": b"",
    "tuple": (),
    "set": [set()],
    "object": {"a": object()},
}


@pytest.mark.parametrize("name", UNENCODABLE)
def test_what_has_no_json_form_is_refused(name: str) -> None:
    value: Any = UNENCODABLE[name]
    with pytest.raises(EncodingError):
        encoding.encode_json(value)


def test_a_value_nested_in_itself_is_refused() -> None:
    value: list[encoding.Json] = []
    value.append(value)
    with pytest.raises(EncodingError, match="nesting deeper than 32"):
        encoding.encode_json(value)


def test_numbers_of_a_subclass_are_written_as_numbers() -> None:
    class Level(enum.IntEnum):
        HIGH = 7

    class Loss(float):
        def __repr__(self) -> str:
            return "a loss"

    assert encoding.encode_json([Level.HIGH, Loss(0.5)]) == b"[7,0.5]"


@pytest.mark.parametrize("case", cases("length prefix"))
def test_length_prefix_vectors(case: dict[str, Any]) -> None:
    data = bytes.fromhex(case["bytes"])
    framed = struct.pack(">I", len(data)) + data
    assert encoding.length_prefixed(data) == framed == bytes.fromhex(case["expected"])


@pytest.mark.parametrize("case", cases("base64"))
def test_base64_vectors(case: dict[str, Any]) -> None:
    if case["result"] == "valid":
        assert encoding.encode_base64(encoding.decode_base64(case["text"], what="x")) == case["text"]
    else:
        with pytest.raises(EncodingError, match=r"^signature: .*base64"):
            encoding.decode_base64(case["text"], what="signature")


@pytest.mark.parametrize("case", cases("hexadecimal"))
def test_hexadecimal_vectors(case: dict[str, Any]) -> None:
    if case["result"] == "valid":
        assert encoding.decode_hex(case["text"], what="x").hex() == case["text"]
    else:
        with pytest.raises(EncodingError, match=r"^register: .*hexadecimal"):
            encoding.decode_hex(case["text"], what="register")


def test_hexadecimal_of_an_expected_length() -> None:
    assert encoding.decode_hex("00ff", what="register", length_bytes=2) == b"\x00\xff"
    for text, got in (("00", 1), ("00ff00", 3), ("", 0)):
        with pytest.raises(EncodingError, match=f"register: expected 2 bytes, got {got}"):
            encoding.decode_hex(text, what="register", length_bytes=2)


def test_a_message_about_foreign_text_stays_short() -> None:
    with pytest.raises(EncodingError) as caught:
        encoding.decode_hex("z" * 10_000, what="register")
    assert len(str(caught.value)) < 200


def test_a_document_of_too_many_values() -> None:
    with pytest.raises(EncodingError, match="at most 2000000 values"):
        encoding.decode_json(b"[" + b"0," * 2_000_001 + b"0]", what="list", max_bytes=1 << 30)


# canonical forms at their bounds, and what a message says about the bytes it refuses


def refusal(value: Any) -> str:
    with pytest.raises(EncodingError) as caught:
        encoding.encode_json(value)
    return str(caught.value)


def decoding(data: bytes, max_bytes: int = 1 << 24) -> str:
    with pytest.raises(EncodingError) as caught:
        encoding.decode_json(data, what="doc", max_bytes=max_bytes)
    return str(caught.value)


def test_what_cannot_be_encoded_is_named() -> None:
    assert refusal("\ud800") == "text is not valid Unicode: surrogates not allowed"
    assert refusal(2**53) == "integer beyond ±(2^53 - 1): 0x20000000000000"
    assert refusal(-(2**53)) == "integer beyond ±(2^53 - 1): -0x20000000000000"
    assert refusal([b""]) == "no JSON form for bytes"
    assert refusal({1: 0}) == "JSON keys are text, got int"
    assert refusal(float("-inf")) == "JSON has no -inf"


@pytest.mark.parametrize("name", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_json_lacks_is_named_as_it_was_spelled(name: str) -> None:
    assert decoding(f'{{"a":{name}}}'.encode()) == f"doc: JSON has no {name}"


def test_values_are_counted_by_commas_and_colons_together() -> None:
    half = encoding.MAX_VALUES // 2
    text = "," * half + ":" * half
    assert encoding.decode_json(f'"{text}"'.encode(), what="doc", max_bytes=1 << 24) == text
    for more in (",", ":"):
        assert decoding(f'"{text}{more}"'.encode()) == "doc: expected at most 2000000 values"


def test_brackets_are_counted_too() -> None:
    """Lists around nothing have neither commas nor colons, and take much more room than their spelling."""
    half = encoding.MAX_VALUES // 2
    text = "[" * half + "{" * half
    assert encoding.decode_json(f'"{text}"'.encode(), what="doc", max_bytes=1 << 24) == text
    for more in ("[", "{"):
        assert decoding(f'"{text}{more}"'.encode()) == "doc: expected at most 2000000 values"
    assert encoding.decode_json(f'"{text}]}}"'.encode(), what="doc", max_bytes=1 << 24) == text + "]}"
    groups = b"[" + b",".join([b"[" * 20 + b"]" * 20] * 100_000) + b"]"
    assert decoding(groups) == "doc: expected at most 2000000 values"


def test_the_depth_of_objects_is_limited_like_that_of_lists() -> None:
    deepest = b'{"a":' * 32 + b"0" + b"}" * 32
    assert encoding.encode_json(encoding.decode_json(deepest, what="doc", max_bytes=1 << 10)) == deepest
    assert decoding(b'{"a":' + deepest + b"}") == "doc: nesting deeper than 32"


def test_the_greatest_integers_are_read_as_integers() -> None:
    for text in (b"9007199254740991", b"-9007199254740991"):
        assert type(encoding.decode_json(text, what="doc", max_bytes=20)) is int
    beyond = encoding.decode_json(b"9007199254740992", what="doc", max_bytes=20)
    assert type(beyond) is float
    assert beyond == 2.0**53


def test_a_mantissa_of_two_digits_keeps_both() -> None:
    assert encoding.encode_json([1.5e300, -2.5e-7]) == b"[1.5e+300,-2.5e-7]"


def test_a_message_shows_sixteen_bytes_from_the_first_difference() -> None:
    assert decoding(b'["abcdefghijklmnop", "qrstuvwxyzabcdef"]') == (
        "doc: JSON is not in canonical form (byte 20: "
        """expected b'"qrstuvwxyzabcde', got b' "qrstuvwxyzabcd')"""
    )


def test_text_that_is_no_base64_is_told_from_another_spelling_of_it() -> None:
    for text in ("AA!=", "AA=\n=", "A", "ÄÄÄÄ"):
        with pytest.raises(EncodingError, match=r"^key: not base64: "):
            encoding.decode_base64(text, what="key")
    with pytest.raises(EncodingError, match=r"^key: base64 is not in canonical form$"):
        encoding.decode_base64("AB==", what="key")


def test_eighty_characters_of_foreign_hexadecimal_are_shown() -> None:
    with pytest.raises(EncodingError) as caught:
        encoding.decode_hex("z" * 81, what="register")
    assert str(caught.value) == f"register: not hexadecimal: {'z' * 80!r}"
    with pytest.raises(EncodingError) as caught:
        encoding.decode_hex("AB" * 41, what="register")
    assert str(caught.value) == f"register: expected lower-case hexadecimal, got {'AB' * 40!r}"


@pytest.mark.parametrize("text", ["1" + "0" * 400, "-" + "9" * 310, "1" + "0" * 5000])
def test_integers_that_no_double_holds(text: str) -> None:
    with pytest.raises(EncodingError, match="x: JSON out of bounds"):
        encoding.decode_json(f'{{"a":{text}}}'.encode(), what="x", max_bytes=10_000)
