"""Several rows decoded by columns are the items that the decoder of single rows makes of each."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from palm_torch.commit import row_types, rows
from palm_torch.commit.manifest import Column
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.formats import row_columns, row_decoder, table
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = (
    Column("ids", "list<int32>"),
    Column("text", "string"),
    Column("weight", "float32"),
    Column("raw", "binary"),
    Column("far", "list<uint16>"),
    Column("label", "int64"),
)
LAYOUT = table.Layout("arrow", columns=COLUMNS)
CODEC = rows.Codec(COLUMNS)
ROW = ([1, 2, 3], "abc", 0.5, b"\0\1", [65535], -7)
ROWS = st.lists(
    st.tuples(
        st.lists(st.integers(-(2**31), 2**31 - 1), max_size=5) | st.just([None, 1]),
        st.text(max_size=6).filter(lambda text: text.isascii() or text.isprintable()) | st.none(),
        st.floats(width=32, allow_nan=False),
        st.binary(max_size=5),
        st.lists(st.integers(0, 65535), max_size=3),
        st.integers(-(2**63), 2**63 - 1),
    ),
    min_size=1,
    max_size=12,
)


def by_columns(contents: list[bytes]) -> list[dict[str, Any]] | None:
    decode = row_decoder.together(LAYOUT)
    assert decode is not None
    columns = decode(contents)
    if columns is None:
        return None
    cells = [
        np.split(one.values, np.cumsum(one.counts)[:-1]) if isinstance(one, row_columns.Runs) else one
        for one in columns.values()
    ]
    return [dict(zip(columns, row, strict=True)) for row in zip(*cells, strict=True)]


def same(one: Any, other: Any) -> bool:
    if isinstance(other, np.ndarray | torch.Tensor):
        alike = type(one) is type(other) and one.dtype == other.dtype and one.shape == other.shape
        return bool(alike and (one == other).all())
    return type(one) is type(other) and bool(one == other)


@given(ROWS)
def test_they_are_those_of_single_rows(given_rows: list[Any]) -> None:
    contents = [CODEC.encode(row) for row in given_rows]
    found = by_columns(contents)
    if any(row[0] == [None, 1] or row[1] is None for row in given_rows):
        assert found is None  # a null: not of the plain form
        return
    single = row_decoder.decoder(LAYOUT)
    assert found is not None
    for one, content in zip(found, contents, strict=True):
        expected = single(content)
        assert one.keys() == expected.keys()
        assert all(same(one[name], expected[name]) for name in one)


@given(st.integers(0, 10**6), st.integers(1, 255))
def test_a_changed_byte_is_decoded_as_the_single_decoder_does_or_left_to_it(place: int, change: int) -> None:
    honest = CODEC.encode(ROW)
    content = bytearray(honest)
    content[place % len(content)] ^= change
    found = by_columns([honest, bytes(content)])
    try:
        expected = row_decoder.decoder(LAYOUT)(bytes(content))
    except DataError:
        assert found is None
        return
    if found is not None:
        assert CODEC.encode([_plain(value) for value in found[1].values()]) == bytes(content)
        assert all(same(found[1][name], expected[name]) or math.isnan(found[1][name]) for name in expected)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return row_types.PayloadNaN(struct.pack("<f", value))
    return value.tolist() if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("content", [b"", b"\0" * 8, CODEC.encode(ROW)[1:], CODEC.encode(ROW) + b"\0"])
def test_bytes_of_no_row_are_left_to_the_decoder_that_says_why(content: bytes) -> None:
    assert by_columns([content]) is None
    with pytest.raises(DataError):
        row_decoder.decoder(LAYOUT)(content)


@pytest.mark.parametrize("kind", ["bool", "list<bool>", "list<string>", "struct<a: int8>"])
def test_types_that_need_a_look_at_each_row(kind: str) -> None:
    assert row_decoder.together(table.Layout("arrow", columns=(Column("a", kind),))) is None


def write(path: Path, table_: pa.Table) -> Path:
    with pa.ipc.new_stream(str(path), table_.schema) as writer:
        writer.write_table(table_)
    return path


def test_items_of_a_batch_are_those_read_one_by_one(tmp_path: Path) -> None:
    lists = [list(range(number % 5)) for number in range(40)]
    texts = [f"text {number}" for number in range(40)]
    held = pa.table({"ids": pa.array(lists, pa.list_(pa.int32())), "text": texts, "label": range(40)})
    data = AttestedMmapDataset(write(tmp_path / "a.arrow", held))
    batch = data.__getitems__(list(range(40)))
    for number, item in enumerate(batch):
        alone = data[number]
        assert item.keys() == alone.keys()
        assert all(same(item[name], alone[name]) for name in item)
    batch[3]["ids"][0] = 99  # a loop may write to an item: it is nobody else's
    assert [item["ids"].tolist() for item in batch if item is not batch[3]] == [
        one for number, one in enumerate(lists) if number != 3
    ]


def test_a_record_that_cannot_be_decoded_is_named_among_many(tmp_path: Path) -> None:
    texts = [b"fine"] * 40
    texts[17] = b"\xff\xfe"
    broken = pa.Array.from_buffers(
        pa.string(), 40, pa.array(texts, pa.binary()).buffers()
    )  # bytes that are no UTF-8 under the type of strings
    path = write(tmp_path / "a.arrow", pa.table({"text": broken}))
    data = AttestedMmapDataset(path, manifest=None)
    with pytest.raises(DataError, match=r"record 17 \(row 17 of batch 0 of the file\)"):
        data.__getitems__(list(range(40)))
