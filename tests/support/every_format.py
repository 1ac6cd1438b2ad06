"""A small dataset of every format in the table, with the canonical bytes of its records made by hand.

The files of two seeds have the same names and sizes and other records: what a host would put in their place.
"""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import sequence_files
from safetensors.numpy import save_file

from palm_torch.data import measure
from palm_torch.data.dataset import AttestedMmapDataset

RECORDS = 70
"""One whole group of 64 digests, and some."""
SHARDS = ((0, 40), (40, RECORDS))

TEXT = '[["ids","list<int32>"],["text","string"]]'
FILE = '[["content","binary"],["name","string"]]'
SAMPLE = '[["ids","mds:ndarray:int32:3"],["text","mds:str"]]'


@dataclass(frozen=True)
class Made:
    """One dataset on disk.

    Attributes:
        path: What is opened.
        written: Canonical bytes of every record, in order; no two alike.
        told: Returns the canonical bytes of an item as the loop received it.
        kind: What gives the bytes their meaning; see chapter 40, section 1.
        arguments: How it is opened.
        measured: How it is measured, if otherwise.
        stacks: Whether torch's default collate function takes its items.
    """

    path: Path
    written: list[bytes]
    told: Callable[[Any], bytes]
    kind: str = ""
    arguments: dict[str, Any] = field(default_factory=dict)
    measured: dict[str, Any] | None = None
    stacks: bool = False

    def measure(self) -> Made:
        """Writes the manifest."""
        measure.measure(self.path, **(self.arguments if self.measured is None else self.measured))
        return self

    def open(self, *, manifest: bool = True) -> AttestedMmapDataset:
        """Opens it, with its manifest or without."""
        return AttestedMmapDataset(self.path, manifest="auto" if manifest else None, **self.arguments)


def u(width: int, *numbers: int) -> bytes:
    """Returns numbers, little endian."""
    return b"".join(number.to_bytes(width, "little") for number in numbers)


def chance(number: int, seed: int) -> np.random.Generator:
    return np.random.default_rng((number, seed))


def tokens(number: int, seed: int, length: int, dtype: str) -> np.ndarray[Any, Any]:
    """Returns elements of a record; the first is its number."""
    found = chance(number, seed).integers(1, 120, length).astype(dtype)
    found[:1] = number
    return found


def text(number: int, seed: int) -> str:
    return "é" * (number % 3) + bytes(chance(number, seed).integers(97, 123, 6).tolist()).decode()


def raw(folder: Path, seed: int) -> Made:
    rows = [tokens(number, seed, 5, "<u2") for number in range(RECORDS)]
    for begin, end in SHARDS:
        np.concatenate(rows[begin:end]).tofile(folder / f"s{begin:02}.bin")
    return Made(
        folder,
        [row.tobytes() for row in rows],
        lambda item: item.numpy().astype("<u2").tobytes(),
        arguments={"record_length": 5},
        stacks=True,
    )


def npy(folder: Path, seed: int) -> Made:
    rows = np.stack([tokens(number, seed, 6, "<f4") for number in range(RECORDS)]).reshape(RECORDS, 2, 3)
    for begin, end in SHARDS:
        np.save(folder / f"s{begin:02}.npy", rows[begin:end])
    return Made(
        folder,
        [row.tobytes() for row in rows],
        lambda item: item.numpy().tobytes(),
        arguments={"dtype": None},
        measured={},
        stacks=True,
    )


def safetensors(folder: Path, seed: int) -> Made:
    rows = np.stack([tokens(number, seed, 4, "<i2") for number in range(RECORDS)])
    for begin, end in SHARDS:
        save_file({"x": rows[begin:end], "y": rows[:3]}, folder / f"s{begin:02}.safetensors")
    return Made(
        folder,
        [row.tobytes() for row in rows],
        lambda item: item.numpy().astype("<i2").tobytes(),
        arguments={"tensor": "x"},
        stacks=True,
    )


def megatron(folder: Path, seed: int) -> Made:
    rows = [tokens(number, seed, 1 + number % 4, "<u2") for number in range(RECORDS)]
    for begin, end in SHARDS:
        sequence_files.write(folder / f"s{begin:02}", [row.tolist() for row in rows[begin:end]])
    return Made(folder, [row.tobytes() for row in rows], lambda item: item.numpy().astype("<u2").tobytes())


def jsonl(folder: Path, seed: int) -> Made:
    lines = [
        json.dumps({"n": number, "text": text(number, seed)}, ensure_ascii=False).encode()
        for number in range(RECORDS)
    ]
    for begin, end in SHARDS:
        (folder / f"s{begin:02}.jsonl").write_bytes(b"\n".join(lines[begin:end]) + b"\n")
    return Made(folder, lines, lambda item: json.dumps(item, ensure_ascii=False).encode())


def files(folder: Path, seed: int) -> Made:
    written = {}
    for number in range(RECORDS):
        name, content = f"class{number % 3}/f{number:02}", text(number, seed).encode()
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
        written[name] = _file(content, name)
    return Made(
        folder,
        [written[name] for name in sorted(written)],
        lambda item: _file(item["content"], item["name"]),
        FILE,
        arguments={"format": "files"},
    )


def arrow(folder: Path, seed: int) -> Made:
    state = {"_data_files": [{"filename": f"s{begin:02}.arrow"} for begin, _ in SHARDS]}
    (folder / "state.json").write_text(json.dumps(state))
    for begin, end in SHARDS:
        part = _table(begin, end, seed)
        with pa.ipc.new_stream(str(folder / f"s{begin:02}.arrow"), part.schema) as writer:
            writer.write_table(part, max_chunksize=17)
    return _rows(folder, seed)


def parquet(folder: Path, seed: int) -> Made:
    for begin, end in SHARDS:
        part, path = _table(begin, end, seed), folder / f"s{begin:02}.parquet"
        pa.parquet.write_table(part, path, row_group_size=17, compression="none", use_dictionary=False)
    return _rows(folder, seed)


def mds(folder: Path, seed: int) -> Made:
    told = {
        "version": 2,
        "format": "mds",
        "column_names": ["ids", "text"],
        "column_encodings": ["ndarray:int32:3", "str"],
        "column_sizes": [12, None],
    }
    head, shards = json.dumps(told).encode(), []
    samples = [
        _sample(tokens(number, seed, 3, "<i4").tobytes(), text(number, seed)) for number in range(RECORDS)
    ]
    for begin, end in SHARDS:
        part = samples[begin:end]
        first = 4 * (len(part) + 2) + len(head)
        ends = itertools.accumulate(map(len, part), initial=first)
        content = u(4, len(part), *ends) + head + b"".join(part)
        (folder / f"s{begin:02}.mds").write_bytes(content)
        raw_data = {"basename": f"s{begin:02}.mds", "bytes": len(content), "hashes": {}}
        shards.append(told | {"raw_data": raw_data, "zip_data": None, "samples": len(part)})
    (folder / "index.json").write_text(json.dumps({"version": 2, "shards": shards}))
    return Made(folder, samples, lambda item: _sample(item["ids"].numpy().tobytes(), item["text"]), SAMPLE)


def chunks(folder: Path, seed: int) -> Made:
    whole = b"".join(
        tokens(number, seed, 4096 if number < RECORDS - 1 else 100, "<u1").tobytes()
        for number in range(RECORDS)
    )
    (folder / "a.bin").write_bytes(whole)
    cut = [whole[at : at + 4096] for at in range(0, len(whole), 4096)]
    return Made(folder / "a.bin", cut, lambda item: item.numpy().tobytes(), arguments={"format": "chunks"})


MAKERS: dict[str, Callable[[Path, int], Made]] = {
    "arrow": arrow,
    "bin": raw,
    "chunks": chunks,
    "files": files,
    "jsonl": jsonl,
    "mds": mds,
    "megatron": megatron,
    "npy": npy,
    "parquet": parquet,
    "safetensors": safetensors,
}
"""Name of the format → what writes a dataset of it. A test holds it against the library's own table."""


def make(name: str, folder: Path, seed: int = 0) -> Made:
    """Writes a dataset of a format into a new folder."""
    folder.mkdir(parents=True)
    return MAKERS[name](folder, seed)


def row_of(item: dict[str, Any]) -> bytes:
    """Returns the canonical bytes of a row of tokens and a text: chapter 40, section 7."""
    ids, words = item["ids"].numpy().astype("<i4").tobytes(), item["text"].encode()
    trailer = b"\0" + u(8, len(ids) // 4) + b"\0" + b"\0" + u(8, len(words))
    return ids + words + trailer + u(8, len(trailer))


def _table(begin: int, end: int, seed: int) -> pa.Table:
    numbers = range(begin, end)
    ids = [tokens(number, seed, 1 + number % 4, "<i4") for number in numbers]
    return pa.table(
        {
            "ids": pa.array(ids, pa.list_(pa.int32())),
            "text": pa.array([text(number, seed) for number in numbers], pa.string()),
        }
    )


def _rows(folder: Path, seed: int) -> Made:
    written = [
        row_of({"ids": _Numpy(tokens(number, seed, 1 + number % 4, "<i4")), "text": text(number, seed)})
        for number in range(RECORDS)
    ]
    return Made(folder, written, row_of, TEXT)


@dataclass(frozen=True)
class _Numpy:
    """An array that looks like a tensor."""

    array: np.ndarray[Any, Any]

    def numpy(self) -> np.ndarray[Any, Any]:
        return self.array


def _file(content: bytes, name: str) -> bytes:
    trailer = b"\0" + u(8, len(content)) + b"\0" + u(8, len(name))
    return content + name.encode() + trailer + u(8, len(trailer))


def _sample(ids: bytes, words: str) -> bytes:
    encoded = words.encode()
    return struct.pack("<I", len(encoded)) + ids + encoded
