"""Tables of columns of every kind, in the files that people have."""

from __future__ import annotations

import datetime as dt
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from palm_torch.data import shards
from palm_torch.data.formats import table

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA = pa.schema(
    [
        ("number", pa.int32()),
        ("half", pa.float16()),
        ("truth", pa.bool_()),
        ("text", pa.string()),
        ("three", pa.binary(3)),
        ("ids", pa.list_(pa.int64())),
        ("words", pa.list_(pa.list_(pa.string()))),
        ("pair", pa.struct([("x", pa.int8()), ("truths", pa.list_(pa.bool_()))])),
        ("two", pa.list_(pa.float32(), 2)),
        ("when", pa.timestamp("us", "UTC")),
        ("class", pa.dictionary(pa.int8(), pa.string())),
        ("classes", pa.list_(pa.dictionary(pa.int16(), pa.large_binary()))),
    ]
)
PLAIN = pa.schema([("ids", pa.list_(pa.int32())), ("text", pa.string()), ("label", pa.int64())])
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def mixed(count: int, *, nulls: float = 0.2, seed: int = 1) -> tuple[pa.Table, list[list[Any]]]:
    """Returns a table and its rows as `palm_torch.commit.rows` takes them."""
    chance = random.Random(seed)

    def maybe(value: Any) -> Any:
        return None if chance.random() < nulls else value

    rows = [
        [
            maybe(chance.randrange(-9, 9)),
            maybe(1.5),
            maybe(chance.random() < 0.5),
            maybe("hé" * chance.randrange(3)),
            maybe(b"abc"),
            maybe([maybe(at) for at in range(chance.randrange(4))]),
            maybe([maybe([maybe("a"), maybe("")]), maybe([]), maybe(["c"])]),
            maybe({"x": maybe(3), "truths": maybe([True, maybe(False)])}),
            maybe([1.0, maybe(2.0)]),
            maybe(1_600_000_000_000_000 + chance.randrange(9)),
            maybe(chance.choice(["u", "v", ""])),
            maybe([maybe(b"p"), maybe(b"q")]),
        ]
        for _ in range(count)
    ]
    given = [dict(zip(SCHEMA.names, row, strict=True)) for row in rows]
    for row in given:
        row["half"] = None if row["half"] is None else np.float16(row["half"])
        row["when"] = None if row["when"] is None else _EPOCH + dt.timedelta(microseconds=row["when"])
    return pa.Table.from_pylist(given, schema=SCHEMA), rows


def plain(count: int) -> pa.Table:
    """Returns tokens, a text and a label per row, without nulls."""
    return pa.table(
        {
            "ids": [list(range(at, at + at % 5)) for at in range(count)],
            "text": [f"text {at}" for at in range(count)],
            "label": list(range(count)),
        },
        schema=PLAIN,
    )


def write(path: Path, whole: pa.Table, *, size: int | None = None) -> Path:
    """Writes a table; the suffix says how: ``.file.arrow``, ``.arrow`` (a stream) or ``.parquet``."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(whole, path, row_group_size=size)
        return path
    make = pa.ipc.new_file if path.name.endswith(".file.arrow") else pa.ipc.new_stream
    with make(str(path), whole.schema) as writer:
        writer.write_table(whole, max_chunksize=size)
    return path


def opened(path: Path) -> table.Rows:
    """Returns the rows of a dataset of one file."""
    (file,) = shards.open_all(path, table.Wanted())
    assert not isinstance(file.view, table.ShardView)
    return file.view


def copies(rows: table.Rows) -> list[bytes]:
    """Returns the canonical bytes of all rows."""
    return [rows.copy(number) for number in range(rows.records)]
