"""Strings that are not UTF-8 have bytes and no value: rows with one are refused when they are measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from palm_torch.data import measure
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.formats import arrow_columns
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


def texts(*values: bytes | None, kind: Any = None) -> pa.Array:
    """Strings that Arrow did not check."""
    wide = kind == pa.large_string()
    stored = pa.array(values, pa.large_binary() if wide else pa.binary())
    return pa.Array.from_buffers(kind or pa.string(), len(values), stored.buffers())


GOOD, BAD = [b"one", b"\xc3\xa9", b""], [b"one", b"\xff\xfe", b""]
SHAPES = {
    "plain": texts,
    "large": lambda *values: texts(*values, kind=pa.large_string()),
    "beside null": lambda *values: texts(*values[:2], None),
    "list": lambda *values: pa.ListArray.from_arrays(pa.array([0, 1, 1, 3]), texts(*values)),
    "list of one size": lambda *values: pa.FixedSizeListArray.from_arrays(texts(*values * 2), 2),
    "struct": lambda *values: pa.StructArray.from_arrays([pa.array([1, 2, 3]), texts(*values)], ["a", "b"]),
    "dictionary": lambda *values: pa.DictionaryArray.from_arrays(pa.array([0, 1, 1]), texts(*values)),
}


def written(path: Path, column: pa.Array) -> Path:
    table = pa.table({"n": pa.array(range(len(column))), "column": column})
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return path


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_of_strings_that_are_none(tmp_path: Path, shape: str) -> None:
    good = written(tmp_path / "good.arrow", SHAPES[shape](*GOOD))
    assert measure.measure(good).records == len(AttestedMmapDataset(good)) == 3
    bad = written(tmp_path / "bad.arrow", SHAPES[shape](*BAD))
    with pytest.raises(
        DataError, match=r"bad\.arrow: rows 0 to 2 of the file: a string is not UTF-8: b'.xff"
    ):
        measure.measure(bad)
    assert not (tmp_path / "bad.arrow.palm-manifest").exists()
    data = AttestedMmapDataset(bad)
    with pytest.raises(DataError, match=r"record [012] "):
        data.__getitems__([0, 1, 2])


def test_bytes_may_be_anything(tmp_path: Path) -> None:
    path = written(tmp_path / "x.arrow", pa.array(BAD, pa.binary()))
    assert measure.measure(path).records == 3


def test_what_no_row_holds_is_not_looked_at() -> None:
    of = arrow_columns.column(SHAPES["list"](*BAD))
    arrow_columns.check(of, range(2))
    arrow_columns.check(of, [0, 1])
    with pytest.raises(DataError, match="a string is not UTF-8"):
        arrow_columns.check(of, [2])


def test_batches_are_checked_as_far_as_they_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palm_torch.data.measuring.units.BLOCK_ROWS", 4)
    table = pa.table({"column": texts(*[b"x"] * 10, b"\xff")})
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as file:
        file.write_table(table, max_chunksize=3)
    with pytest.raises(DataError, match="rows 9 to 10 of the file: a string is not UTF-8"):
        measure.measure(tmp_path / "x.arrow")


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    parquet.write_table(pa.table({"n": [1, 2, 3], "column": texts(*BAD)}), path, store_schema=False)
    with pytest.raises(DataError, match=r"row group 0 cannot be read: .*UTF8"):
        measure.measure(path)
