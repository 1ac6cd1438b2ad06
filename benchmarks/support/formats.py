"""Data of one format for benchmarks, beside the plain dataset a careful user would write for it.

A maker writes a file of records of one size and returns how to open it, and what it is compared with. One
entry in `MAKERS` is one block of rows in the table of `benchmarks/records.py`.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import pyarrow as pa
import torch
from safetensors.numpy import save_file

from palm_torch.data.formats import megatron, table
from support import baseline

if TYPE_CHECKING:
    from collections.abc import Callable

Fetch: TypeAlias = "Callable[[list[int]], list[Any]]"


@dataclass(frozen=True, slots=True)
class Case:
    """One file, and who reads it.

    Attributes:
        path: What is opened.
        records: Number of records.
        plain: Reads a batch, record by record.
        at_once: Reads a batch in the fastest way known to us; None if that is `plain`.
        arguments: How `measure` and `AttestedMmapDataset` open it.
    """

    path: Path
    records: int
    plain: Fetch
    at_once: Fetch | None = None
    arguments: dict[str, Any] = field(default_factory=dict)


Maker: TypeAlias = "Callable[[Path, int, int], Case]"
"""(folder, bytes per record, bytes in all) → the case."""


def raw(folder: Path, size: int, total: int) -> Case:
    """Tokens of two bytes in a ``.bin`` file."""
    path = folder / "tokens.bin"
    _tokens(total).tofile(path)
    plain = baseline.Plain(path, size)
    return Case(path, len(plain), plain.__getitems__, plain.at_once, {"record_length": size // 2})


def safetensors(folder: Path, size: int, total: int) -> Case:
    """Rows of one tensor."""
    path = folder / "tokens.safetensors"
    save_file({"tokens": _tokens(total).reshape(-1, size // 2)}, path)
    plain = baseline.Plain(path, size, offset=path.stat().st_size - total // size * size)
    return Case(path, len(plain), plain.__getitems__, plain.at_once)


def sequences(folder: Path, size: int, total: int) -> Case:
    """Megatron-LM's pair of files; all sequences have one length, so that the default collate takes them."""
    path, records, length = folder / "tokens_text.bin", total // size, size // 2
    _tokens(total).tofile(path)
    index = path.with_suffix(".idx")
    with index.open("wb") as stream:
        stream.write(megatron.MAGIC + (1).to_bytes(8, "little") + b"\x08")
        stream.write(records.to_bytes(8, "little") + (1).to_bytes(8, "little"))
        np.full(records, length, "<i4").tofile(stream)
        pointers = np.arange(records, dtype="<i8") * size
        pointers.tofile(stream)
        np.zeros(1, "<i8").tofile(stream)
    lengths = np.full(records, length)
    buffer = np.asarray(np.memmap(path, mode="r")).data

    def plain(indices: list[int]) -> list[torch.Tensor]:
        read, wrap = np.frombuffer, torch.from_numpy
        return [wrap(read(buffer, np.uint16, lengths[at], pointers[at]).astype(np.int64)) for at in indices]

    return Case(path, records, plain)


def lines(folder: Path, size: int, total: int) -> Case:
    """JSON Lines: a text and a number per line."""
    path, records = folder / "texts.jsonl", total // size
    words = np.random.default_rng(2).integers(97, 123, (64, size), dtype=np.uint8)
    with path.open("wb") as stream:
        for number in range(records):
            head = b'{"id": %9d, "text": "' % number
            stream.write(head + words[number % 64, : size - len(head) - 3].tobytes() + b'"}\n')
    mapping = table.map_file(path)
    starts = np.arange(records + 1) * size

    def plain(indices: list[int]) -> list[Any]:
        return [json.loads(mapping[starts[at] : starts[at + 1] - 1]) for at in indices]

    return Case(path, records, plain)


def rows(folder: Path, size: int, total: int) -> Case:
    """Rows of tokens and a text in an Arrow stream, as ``datasets`` writes them; 1,000 rows a batch."""
    path, number, columns = folder / "rows.arrow", total // size, _Columns(size)
    schema = pa.schema([("input_ids", pa.list_(pa.int32())), ("text", pa.string())])
    with pa.ipc.new_stream(str(path), schema) as writer:
        for begin in range(0, number, _BATCH_ROWS):
            count = min(_BATCH_ROWS, number - begin)
            ends = np.arange(count + 1, dtype=np.int32)
            ids = pa.ListArray.from_arrays(ends * columns.length, pa.array(columns.tokens(count)))
            writer.write_batch(pa.record_batch([ids, pa.array([columns.text] * count)], schema))
    batches = pa.ipc.open_stream(pa.memory_map(str(path))).read_all().to_batches()
    views = [
        (
            np.frombuffer(batch.column(0).buffers()[1], np.int32),
            memoryview(batch.column(0).buffers()[3]),
            np.frombuffer(batch.column(1).buffers()[1], np.int32),
            memoryview(batch.column(1).buffers()[2]),
        )
        for batch in batches
    ]

    def plain(indices: list[int]) -> list[Any]:
        items = []
        for at in indices:
            batch, place = divmod(at, _BATCH_ROWS)
            id_offsets, ids, text_offsets, text = views[batch]
            begin, end = id_offsets[place], id_offsets[place + 1]
            tokens = np.frombuffer(ids, np.int32, end - begin, begin * 4).copy()
            words = str(text[text_offsets[place] : text_offsets[place + 1]], "utf-8")
            items.append({"input_ids": torch.from_numpy(tokens), "text": words})
        return items

    return Case(path, number, plain)


def samples(folder: Path, size: int, total: int) -> Case:
    """Samples of tokens and a text in one MDS shard."""
    number, columns = total // size, _Columns(size)
    path, head = folder / "shard.00000.mds", struct.pack("<I", len(columns.text))
    told = json.dumps(
        {
            "version": 2,
            "format": "mds",
            "column_names": ["input_ids", "text"],
            "column_encodings": [f"ndarray:int32:{columns.length}", "str"],
            "column_sizes": [columns.length * 4, None],
        }
    ).encode()
    each = len(head) + columns.length * 4 + len(columns.text)
    begin = 4 * (number + 2) + len(told)
    with path.open("wb") as stream:
        stream.write(struct.pack("<I", number))
        (begin + np.arange(number + 1, dtype="<u4") * each).tofile(stream)
        stream.write(told)
        for tokens in columns.tokens(number).reshape(number, -1):
            stream.write(head + tokens.tobytes() + columns.text.encode())
    mapping = np.asarray(np.memmap(path, mode="r")).data
    offsets = np.frombuffer(mapping, "<u4", number + 1, 4)

    def plain(indices: list[int]) -> list[Any]:
        items = []
        for at in indices:
            sample = mapping[offsets[at] : offsets[at + 1]]
            tokens = np.frombuffer(sample, np.int32, columns.length, 4).copy()
            words = str(sample[4 + columns.length * 4 :], "utf-8")
            items.append({"input_ids": torch.from_numpy(tokens), "text": words})
        return items

    return Case(path, number, plain)


@dataclass(frozen=True, slots=True)
class _Columns:
    """A record of `size` bytes: 48 of text, the rest tokens of four bytes."""

    size: int
    text: str = "forty-eight characters of text beside the tokens"

    @property
    def length(self) -> int:
        return (self.size - len(self.text)) // 4

    def tokens(self, records: int) -> np.ndarray[Any, np.dtype[np.int32]]:
        return np.random.default_rng(1).integers(0, 50_000, records * self.length, dtype=np.int32)


_BATCH_ROWS: Final = 1000

MAKERS: Final[dict[str, tuple[Maker, float]]] = {
    "bin": (raw, 1.0),
    "safetensors": (safetensors, 1.0),
    "megatron": (sequences, 2.0),
    "jsonl": (lines, 2.0),
    "arrow": (rows, 2.0),
    "mds": (samples, 2.0),
}
"""Name of the format → its maker, and how many times the bars of ``.bin`` its bars are."""


def _tokens(total: int) -> np.ndarray[Any, np.dtype[np.uint16]]:
    return np.random.default_rng(1).integers(0, 1 << 16, total // 2, dtype=np.uint16)
