"""Rows: one encoding per value, one value per encoding, and only this library's errors."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from palm_torch.commit import row_types, rows
from palm_torch.commit.manifest import Column
from palm_torch.errors import EncodingError

if TYPE_CHECKING:
    from palm_torch.commit.row_types import RowType

SIMPLE = [
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "string", "binary", "date32[day]", "timestamp[us, tz=UTC]"),
]
PLAIN = {struct.pack("<" + code, math.nan) for code in "efd"}
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)


def structs(inner: st.SearchStrategy[RowType]) -> st.SearchStrategy[RowType]:
    names = st.lists(NAMES, min_size=1, max_size=3, unique=True)
    return names.flatmap(
        lambda names: st.tuples(*[inner] * len(names)).map(
            lambda types: row_types.Struct(tuple(zip(names, types, strict=True)))
        )
    )


TYPES: st.SearchStrategy[RowType] = st.recursive(
    st.sampled_from(SIMPLE).map(row_types.parse),
    lambda inner: inner.map(row_types.ListOf) | structs(inner),
    max_leaves=4,
)


def values(kind: RowType) -> st.SearchStrategy[Any]:
    match kind:
        case row_types.Fixed(code="?"):
            found: st.SearchStrategy[Any] = st.booleans()
        case row_types.Fixed(is_float=True):
            numbers = st.floats(width=8 * kind.width, allow_nan=False)  # type: ignore[arg-type] (16, 32 or 64)
            payloads = st.binary(min_size=2, max_size=2).map(lambda low: nan(kind, low))
            found = numbers | st.just(math.nan) | payloads
        case row_types.Fixed():
            least, most = (0, 256**kind.width - 1) if kind.code.isupper() else signed(kind.width)
            found = st.integers(least, most)
        case row_types.Variable(text=True):
            found = st.text(max_size=5)
        case row_types.Variable():
            found = st.binary(max_size=5)
        case row_types.ListOf():
            found = st.lists(values(kind.item), max_size=4)
        case _:
            found = st.fixed_dictionaries({name: values(inner) for name, inner in kind.fields})
    return st.none() | found


def signed(width: int) -> tuple[int, int]:
    return -(256**width // 2), 256**width // 2 - 1


def nan(kind: row_types.Fixed, low: bytes) -> float:
    """Any bits that are no number of this width."""
    bits = b"\xff" * (kind.width - 1) + b"\x7f"
    bits = bytes([low[0] | 1]) + bits[1:]
    assert math.isnan(struct.unpack("<" + kind.code, bits)[0])
    return row_types.PayloadNaN(bits)


@st.composite
def columns_and_rows(draw: st.DrawFn, number: int) -> tuple[tuple[Column, ...], list[list[Any]]]:
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    types = [draw(TYPES) for _ in names]
    columns = tuple(Column(name, str(kind)) for name, kind in zip(names, types, strict=True))
    return columns, [[draw(values(kind)) for kind in types] for _ in range(number)]


def bits(value: Any) -> Any:
    """Makes values comparable: what are no numbers by their bits, and zeros with their sign."""
    if isinstance(value, row_types.PayloadNaN):
        return ("nan", value.bits.hex())
    if isinstance(value, float):
        return "nan" if math.isnan(value) else repr(value)
    if isinstance(value, list):
        return [bits(item) for item in value]
    if isinstance(value, dict):
        return {name: bits(item) for name, item in value.items()}
    return value


@given(TYPES)
def test_a_type_is_read_as_it_is_spelled(kind: RowType) -> None:
    assert row_types.parse(str(kind)) == kind


@given(st.text(st.sampled_from('listruc<>:, "\\[]u8int64ax='), max_size=30))
def test_no_type_has_a_second_spelling(text: str) -> None:
    try:
        kind = row_types.parse(text)
    except EncodingError:
        return
    assert str(kind) == text


@given(columns_and_rows(1))
def test_decoding_gives_what_was_encoded(given_: tuple[tuple[Column, ...], list[list[Any]]]) -> None:
    columns, (row,) = given_
    codec = rows.Codec(columns)
    encoded = codec.encode(row)
    decoded = codec.decode(encoded)
    assert codec.encode(decoded) == encoded
    assert [bits(value) for value in decoded] == [bits(plainly(value)) for value in row]


def plainly(value: Any) -> Any:
    """The NaN that Python writes comes back as Python's own."""
    if isinstance(value, row_types.PayloadNaN):
        return math.nan if value.bits in PLAIN else value
    if isinstance(value, list):
        return [plainly(item) for item in value]
    if isinstance(value, dict):
        return {name: plainly(item) for name, item in value.items()}
    return value


@given(columns_and_rows(2))
def test_distinct_rows_have_distinct_bytes(given_: tuple[tuple[Column, ...], list[list[Any]]]) -> None:
    columns, (one, other) = given_
    codec = rows.Codec(columns)
    same = [bits(plainly(value)) for value in one] == [bits(plainly(value)) for value in other]
    assert (codec.encode(one) == codec.encode(other)) == same


@given(columns_and_rows(1), st.data())
def test_a_changed_byte_is_refused_or_another_row(
    given_: tuple[tuple[Column, ...], list[list[Any]]], data: st.DataObject
) -> None:
    columns, (row,) = given_
    codec = rows.Codec(columns)
    encoded = bytearray(codec.encode(row))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= data.draw(st.integers(1, 255))
    canonical(codec, bytes(encoded))


@given(columns_and_rows(0), st.binary(max_size=60))
def test_any_bytes_are_refused_in_words_or_are_canonical(
    given_: tuple[tuple[Column, ...], list[list[Any]]], data: bytes
) -> None:
    canonical(rows.Codec(given_[0]), data)


def canonical(codec: rows.Codec, data: bytes) -> None:
    try:
        decoded = codec.decode(data)
    except EncodingError:
        return
    assert codec.encode(decoded) == data


@given(columns_and_rows(1), st.integers(1, 9))
def test_a_row_that_was_cut_or_continued_is_refused(
    given_: tuple[tuple[Column, ...], list[list[Any]]], size: int
) -> None:
    columns, (row,) = given_
    codec = rows.Codec(columns)
    encoded = codec.encode(row)
    for data in (encoded[size:], encoded[:-size], encoded + bytes(size), bytes(size) + encoded):
        with pytest.raises(EncodingError):
            codec.decode(data)
