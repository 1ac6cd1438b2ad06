from __future__ import annotations

import json
import math
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from palm_torch.commit import records, row_types, rows
from palm_torch.commit.manifest import Column
from palm_torch.errors import EncodingError

ROOT = Path(__file__).parents[3]
CASES = json.loads((ROOT / "tests" / "vectors" / "rows.json").read_text("ascii"))["tests"]


def columns(pairs: list[list[str]]) -> tuple[Column, ...]:
    return tuple(Column(name, kind) for name, kind in pairs)


def codec(*types: str) -> rows.Codec:
    return rows.Codec([Column(f"c{at}", kind) for at, kind in enumerate(types)])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["comment"])
def test_golden_cases(case: dict[str, Any]) -> None:
    known, data = rows.Codec(columns(case["columns"])), bytes.fromhex(case["hex"])
    if case["result"] == "valid":
        assert known.encode(case["row"]) == data
        assert list(known.decode(data)) == case["row"]
    else:
        with pytest.raises(EncodingError):
            known.decode(data)


def test_there_are_cases_of_every_result() -> None:
    assert {case["result"] for case in CASES} == {"valid", "invalid", "malformed"}


def test_example_of_the_specification() -> None:
    text = (ROOT / "docs" / "spec" / "40-data.md").read_text("utf-8")
    section = text[text.index("## 7 Rows") :].partition("\n## ")[0]
    told = dict(re.findall(r"^\| (.+?) \| `(.+?)` \|$", section, re.MULTILINE))
    case = CASES[0]
    kind, row = rows_kind(case), bytes.fromhex(case["hex"])
    assert told["row"] == case["hex"]
    assert told["columns, as they enter the record key"] == kind
    assert told["record key"] == records.record_key(kind=kind).hex()
    assert told["record digest"] == records.record_digest(row, kind=kind).hex()
    parts = ["values of `ids`", "values of `text`", "trailer of `ids`", "trailer of `text`"]
    joined = [told[part] for part in [*parts, "trailer of `score`", "length of the trailer"]]
    assert "".join(joined) == case["hex"]


def rows_kind(case: dict[str, Any]) -> str:
    return row_types.kind(columns(case["columns"]))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("bool", 1),
        ("int8", 128),
        ("int8", True),
        ("uint8", -1),
        ("int32", 1.0),
        ("float32", 1),
        ("float32", 0.1),
        ("float32", 1e300),
        ("float16", 65520.0),
        ("float64", row_types.PayloadNaN(b"\xff" * 4)),
        ("float32", row_types.PayloadNaN(b"\0\0\x80\x3f")),
        ("string", b"a"),
        ("string", "\ud800"),
        ("binary", "a"),
        ("list<int8>", "ab"),
        ("list<int8>", [1, 300]),
        ("struct<x: int8>", {"x": 1, "y": 2}),
        ("struct<x: int8>", {}),
        ("struct<x: int8>", [1]),
    ],
)
def test_a_value_of_another_type_is_refused_and_named(kind: str, value: object) -> None:
    with pytest.raises(EncodingError, match="c0"):
        codec(kind).encode([value])


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(EncodingError, match="expected 2 values, got 1"):
        codec("int8", "int8").encode([1])


def test_what_is_no_number_keeps_its_bits() -> None:
    for kind, bits in (("float16", "01fe"), ("float32", "010080ff"), ("float64", "010000000000f0ff")):
        value = row_types.PayloadNaN(bytes.fromhex(bits))
        encoded = codec(kind).encode([value])
        (decoded,) = codec(kind).decode(encoded)
        assert math.isnan(decoded)
        assert decoded.bits == value.bits
        assert encoded != codec(kind).encode([math.nan])


def test_lists_of_numbers_are_made_as_the_caller_wants_them() -> None:
    known = codec("list<int16>", "list<list<uint8>>", "list<int16>", "int16")
    encoded = known.encode([[1, 2], [[3], [4, 5]], [6, None], 7])

    def made(kind: row_types.Fixed, raw: memoryview) -> bytes:
        return bytes(raw)[:: kind.width]

    assert known.decode(encoded, numbers=made) == (b"\1\2", [b"\3", b"\4\5"], [6, None], 7)


def test_plain_trailers_are_those_of_rows_without_nulls() -> None:
    known = codec("int8", "string", "list<int32>", "binary")
    form = rows.plain_trailer(known.types)
    assert form is not None
    assert known.encode([1, "ab", [1, 2, 3], b"x"]).endswith(form.pack(2, 3, 1, form.size - 8))
    assert rows.plain_trailer(codec("list<list<int8>>").types) is None
    assert rows.plain_trailer(codec("struct<x: int8>").types) is None


@pytest.mark.parametrize(
    "text",
    [
        *("", "int", "Int8", "int8 ", "list", "list<>", "list<int8", "list<int8>>", "list< int8>"),
        *("struct<>", "struct<x:int8>", "struct<x: int8,y: int8>", "struct<x: int8, x: int8>"),
        *('struct<"x": int8>', 'struct<"\\u0020": int8>', 'struct<"\\ud800": int8>', 'struct<"\\x": int8>'),
        *("decimal128(3, 2)", "timestamp[us, tz=]", "timestamp[min]", "time32[us]", "date32", "mds:int"),
        "list<" * 17 + "int8" + ">" * 17,
        "struct<" + "a" * 70000 + ": int8>",
    ],
)
def test_what_is_no_type_is_refused(text: str) -> None:
    with pytest.raises(EncodingError, match=r"type|fields"):
        row_types.parse(text)


def test_names_of_fields_that_are_no_words_are_quoted() -> None:
    kind = row_types.Struct((("a b", row_types.STRING), ("", row_types.BINARY), ("é>", row_types.STRING)))
    assert str(kind) == 'struct<"a b": string, "": binary, "é>": string>'
    assert row_types.parse(str(kind)) == kind


def test_kind_is_canonical_json_of_names_and_types() -> None:
    assert row_types.kind([Column("a", "int8"), Column("é", "string")]) == '[["a","int8"],["é","string"]]'
    assert row_types.kind([Column("a", "mds:str")]) == '[["a","mds:str"]]'


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        ([], "columns: expected 1 to 4096, got 0"),
        ([["a", "int8"], ["a", "int8"]], "'a' stands there twice"),
        ([["\ud800", "int8"]], "Unicode"),
        ([["a", "integer"]], "type"),
        ([["a", "mds:str"], ["b", "int8"]], "begin 'mds:'"),
        ([["a", "mds:str"], ["a", "mds:str"]], "twice"),
        ([[str(at), "int8"] for at in range(4097)], "4097"),
    ],
)
def test_columns_that_are_not_well_formed_are_refused(pairs: list[list[str]], told: str) -> None:
    with pytest.raises(EncodingError, match=re.escape(told)):
        row_types.kind(columns(pairs))


def test_marks_of_many_values() -> None:
    known = codec("list<uint8>")
    values: list[int | None] = [None if at % 3 else at % 256 for at in range(1000)]
    assert known.decode(known.encode([values])) == (values,)
    assert len(known.encode([values])) == 334 + (1 + 8 + 1 + 125) + 8


def test_a_count_allocates_nothing_before_its_bytes_are_there() -> None:
    huge = struct.pack("<xQxQ", 1 << 62, 10)
    with pytest.raises(EncodingError, match="expected"):
        codec("list<int64>").decode(huge)
    with pytest.raises(EncodingError, match="trailer ends"):
        codec("list<list<int8>>").decode(huge)
    with pytest.raises(EncodingError, match="trailer ends"):
        codec("list<struct<a: string>>").decode(struct.pack("<xQxxQ", 1 << 62, 11))
