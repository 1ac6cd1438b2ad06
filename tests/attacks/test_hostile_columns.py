"""The host rewrites offsets, indices and heads in files of columns, before and while they are read.

Whatever stands there, a row is made of bytes inside its columns, what is handed out is what was hashed, and
with a manifest it is the row that was asked for.
"""

from __future__ import annotations

import json
import mmap
import struct
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest
import tables

from palm_torch.commit import records
from palm_torch.data import measure
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.formats import row_decoder
from palm_torch.errors import DataError, RecordError

if TYPE_CHECKING:
    from pathlib import Path

IDS = [[10, 11], [20, 21], [30, 31], [40, 41]]
OFFSETS = np.array([0, 2, 4, 6, 8], "<i4").tobytes()
WORDS = ["no", "yes"]
CODES = bytes([1, 0, 1, 1])


@pytest.fixture(params=["a.arrow", "a.file.arrow"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    classes = pa.DictionaryArray.from_arrays(pa.array([*CODES], pa.uint8()), pa.array(WORDS))
    whole = pa.table({"ids": pa.array(IDS, pa.list_(pa.int32())), "class": classes})
    return tables.write(tmp_path / request.param, whole)


def rewrite(path: Path, old: bytes, new: bytes) -> None:
    """Rewrites bytes in place, so that whoever has mapped the file sees it."""
    with path.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as mapping:
        assert mapping[:].count(old) == 1
        at = mapping.find(old)
        mapping[at : at + len(old)] = new


@pytest.mark.parametrize(
    "offsets",
    [
        [0, 2, 4, 6, 2**31 - 1],
        [0, 2, 4, 6, 9],
        [0, 2, 4, 6, -1],
        [0, 2, 4, 7, 6],
        [0, 2, 4, -(2**31), 8],
    ],
)
@pytest.mark.parametrize("while_open", [False, True])
def test_offsets_out_of_the_column(path: Path, offsets: list[int], *, while_open: bool) -> None:
    data = AttestedMmapDataset(path) if while_open else None
    rewrite(path, OFFSETS, np.array(offsets, "<i4").tobytes())
    with pytest.raises(DataError, match=r"offsets lead astray|not a readable Arrow file"):
        (data or AttestedMmapDataset(path))[3]


def test_offsets_of_rows_that_are_read_at_once(tmp_path: Path) -> None:
    path = tables.write(tmp_path / "a.arrow", pa.table({"ids": pa.array(IDS, pa.list_(pa.int32()))}))
    data = AttestedMmapDataset(path)
    assert data[1]["ids"].tolist() == [20, 21]
    for offsets in ([0, 2, 9, 2, 8], [0, 2, -1, 2, 8], [0, 4, 2, 2, 8]):
        rewrite(path, OFFSETS, np.array(offsets, "<i4").tobytes())
        with pytest.raises(
            DataError, match=r"a\.arrow: row 1 of batch 0 of the file: its offsets lead astray"
        ):
            data[1]
        rewrite(path, np.array(offsets, "<i4").tobytes(), OFFSETS)
    assert data[1]["ids"].tolist() == [20, 21]


def test_offsets_of_another_row(path: Path) -> None:
    measure.measure(path)
    checked, plain = AttestedMmapDataset(path), AttestedMmapDataset(path, manifest=None)
    rewrite(path, OFFSETS, np.array([0, 0, 4, 6, 8], "<i4").tobytes())
    with pytest.raises(RecordError, match="record 1"):
        checked[1]
    assert plain[1]["ids"].tolist() == [10, 11, 20, 21]  # counted as what it is, not as record 1
    assert checked[3]["ids"].tolist() == [40, 41]


@pytest.mark.parametrize("code", [2, 255])
def test_an_index_out_of_the_dictionary(path: Path, code: int) -> None:
    data = AttestedMmapDataset(path)
    rewrite(path, CODES + bytes(4), bytes([code, *CODES[1:]]) + bytes(4))
    with pytest.raises(DataError, match=f"one of 2 values of a dictionary, got {code}"):
        data[0]
    assert data[1]["class"] == "no"


def test_a_dictionary_that_was_rewritten(path: Path) -> None:
    measure.measure(path)
    data = AttestedMmapDataset(path)
    rewrite(path, b"noyes", b"noyeS")
    with pytest.raises(RecordError, match="record 0"):
        data[0]
    assert data[1]["class"] == "no"


def test_the_head_of_a_batch_was_copied(path: Path) -> None:
    """Sizes and places of buffers were read once, when the file was opened."""
    data = AttestedMmapDataset(path)
    before = data[2]["ids"].tolist()
    content = path.read_bytes()
    with path.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as mapping:
        end = content.index(OFFSETS)
        begin = content.rindex(b"\xff\xff\xff\xff", 0, end)
        mapping[begin:end] = b"\xee" * (end - begin)
    assert data[2]["ids"].tolist() == before == [30, 31]


@pytest.mark.parametrize("seed", range(4))
def test_any_changed_byte_is_refused_or_another_row(tmp_path: Path, seed: int) -> None:
    whole, _ = tables.mixed(6)
    base = tables.write(tmp_path / "base.arrow", whole, size=3).read_bytes()
    chance = np.random.default_rng(seed)
    path = tmp_path / "a.arrow"
    for at in chance.choice(len(base), 150, replace=False).tolist():
        content = bytearray(base)
        content[at] ^= int(chance.integers(1, 256))
        path.write_bytes(content)
        try:
            rows = tables.opened(path)
            decode = row_decoder.decoder(rows.layout)
            for number in range(min(rows.records, 20)):
                decode(rows.copy(number))
        except DataError:
            continue


def test_rows_rewritten_by_another_process_are_what_was_hashed(tmp_path: Path) -> None:
    ones = tables.write(
        tmp_path / "a.arrow", pa.table({"a": pa.array([[1] * 2000] * 50, pa.list_(pa.int32()))})
    )
    data = AttestedMmapDataset(ones, manifest=None)
    code = """
        import mmap, sys
        with open(sys.argv[1], "r+b") as stream, mmap.mmap(stream.fileno(), 0) as mapping:
            at = mapping.find(b"\\1\\0\\0\\0" * 100)
            print("ready", flush=True)
            while True:
                for value in (b"\\2\\0\\0\\0", b"\\1\\0\\0\\0"):
                    mapping[at : at + 4 * 2000 * 50] = value * 2000 * 50
    """
    writer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), ones], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        reader: Any = data._items.reader  # type: ignore[attr-defined]
        kind = data.info.layout.kind
        for _ in range(20):
            copies, digests = reader.read(np.arange(50))
            told = [digests[at : at + 32] for at in range(0, len(digests), 32)]
            assert told == [records.record_digest(copy, kind=kind) for copy in copies]
    finally:
        writer.kill()
        writer.communicate()


@pytest.mark.parametrize("offset", [0, 8, 2**32 - 1])
def test_offsets_of_samples(tmp_path: Path, offset: int) -> None:
    told = {
        "version": 2,
        "format": "mds",
        "column_names": ["a"],
        "column_encodings": ["int8"],
        "column_sizes": [1],
    }
    head = json.dumps(told).encode()
    begin = 20 + len(head)
    path = tmp_path / "a.mds"
    path.write_bytes(struct.pack("<5I", 3, begin, begin + 1, begin + 2, begin + 3) + head + b"\1\2\3")
    measure.measure(path)
    data = AttestedMmapDataset(path)
    with path.open("r+b") as stream:
        stream.seek(12)
        stream.write(struct.pack("<I", offset))
    assert data[0] == {"a": 1}
    for number in (1, 2):
        with pytest.raises(DataError, match=f"sample {number}: expected bytes within {begin} to {begin + 3}"):
            data[number]
    with path.open("r+b") as stream:
        stream.seek(12)
        stream.write(struct.pack("<I", begin + 3))
    with pytest.raises(RecordError, match="record 1"):
        data[1]


def test_a_parquet_file_rewritten_after_it_was_opened(tmp_path: Path) -> None:
    path = tables.write(tmp_path / "a.parquet", tables.plain(40), size=20)
    measure.measure(path)
    data = AttestedMmapDataset(path)
    assert data[3]["text"] == "text 3"
    other = tables.plain(60).slice(20, 40)
    content = tables.write(tmp_path / "b.parquet", other, size=20).read_bytes()
    with path.open("r+b") as stream:
        stream.write(content)
    assert data[4]["text"] == "text 4"  # its row group lies in private memory
    with pytest.raises((DataError, RecordError), match=r"a\.parquet"):
        data[30]
