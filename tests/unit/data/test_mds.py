"""MDS folders, as the library that defines them writes them: tests/vectors/mds."""

from __future__ import annotations

import importlib.util
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tables
import torch

from palm_torch.commit import row_types
from palm_torch.commit.manifest import Column
from palm_torch.data import measure, shards
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.formats import mds, mds_encodings, table
from palm_torch.errors import DataError, RecordError

GOLDEN = Path(__file__).parents[2] / "vectors" / "mds"
EXPECTED: list[dict[str, Any]] = json.loads((GOLDEN / "expected.json").read_text("ascii"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN / "plain", tmp_path / "plain"))


def shard(columns: dict[str, str], *samples: bytes, **changes: Any) -> bytes:
    sizes = [mds_encodings.named(encoding).size for encoding in columns.values()]
    told = {
        "version": 2,
        "format": "mds",
        "column_names": [*columns],
        "column_encodings": [*columns.values()],
    }
    data = json.dumps({**told, "column_sizes": sizes, **changes}).encode()
    begin = 4 * (len(samples) + 2) + len(data)
    offsets = np.cumsum([begin, *map(len, samples)]).astype("<u4")
    return struct.pack("<I", len(samples)) + offsets.tobytes() + data + b"".join(samples)


def opened(path: Path, content: bytes) -> table.Rows:
    path.write_bytes(content)
    return tables.opened(path)


def shown(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        value = value.numpy()
    if isinstance(value, np.ndarray):
        return [value.dtype.name, list(value.shape), value.tobytes().hex()]
    return value.hex() if isinstance(value, bytes) else value


def test_samples_are_what_the_library_reads(folder: Path) -> None:
    files = shards.open_all(folder, table.Wanted())
    assert [file.name for file in files] == ["shard.00000.mds", "shard.00001.mds"]
    data = AttestedMmapDataset(folder)
    items = [{name: shown(value) for name, value in data[at].items()} for at in range(len(data))]
    for item, expected in zip(items, EXPECTED, strict=True):
        assert str(item.pop("decimal")) == expected["decimal"]
        assert item == {name: value for name, value in expected.items() if name != "decimal"}


def test_a_record_is_the_exact_bytes_of_a_sample(folder: Path) -> None:
    content = (folder / "shard.00000.mds").read_bytes()
    copies = tables.copies(tables.opened(folder / "shard.00000.mds"))
    assert content.endswith(b"".join(copies))
    assert [column.type for column in measure.measure(folder).columns or ()][:2] == [
        "mds:ndarray",
        "mds:bytes",
    ]


def test_a_changed_sample_is_named(folder: Path) -> None:
    measure.measure(folder)
    data = AttestedMmapDataset(folder)
    with (folder / "shard.00000.mds").open("r+b") as stream:
        stream.seek(-1, 2)
        stream.write(b"!")
    assert len(data[3]) == 12
    with pytest.raises(RecordError, match=r"shard\.00000\.mds: record 4 \(bytes \d+ to 3658 of the file\)"):
        data[4]


def test_compressed_shards_are_refused_and_say_what_to_do() -> None:
    with pytest.raises(DataError, match=r"only compressed: decompress it .*compression=None"):
        shards.open_all(GOLDEN / "zipped", table.Wanted())


def test_pickles_are_refused() -> None:
    with pytest.raises(DataError, match="pickles are code and are never run"):
        shards.open_all(GOLDEN / "pickled", table.Wanted())


def test_an_unpacked_shard_beside_the_compressed_one_is_read(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(GOLDEN / "zipped", tmp_path / "z"))
    size = json.loads((folder / "index.json").read_text())["shards"][0]["raw_data"]["bytes"]
    columns, sample = {"text": "str"}, struct.pack("<I", 1) + b"a"
    pad = "x" * (size - len(shard(columns, sample, pad="")))
    (folder / "shard.00000.mds").write_bytes(shard(columns, sample, pad=pad))
    assert AttestedMmapDataset(folder)[0] == {"text": "a"}


@pytest.mark.parametrize("encoding", ["pil", "jpeg", "png", "jpeg_array", "list[png]"])
def test_images_are_bytes(tmp_path: Path, encoding: str) -> None:
    found = opened(tmp_path / "a.mds", shard({"i": encoding, "n": "int8"}, struct.pack("<I", 3) + b"png\xfe"))
    assert mds.decoder(found.layout)(found.copy(0)) == {"i": b"png", "n": -2}


@pytest.mark.parametrize(
    ("encoding", "value", "expected"),
    [
        ("ndarray:int16", b"\x04\x02\x01\x00\x02\x00", ["int16", [2], "01000200"]),
        ("ndarray", b"\x21\x09\x02\x00\x01\x00" + bytes(8), ["int32", [2, 1], "00" * 8]),
        ("ndarray:uint8:2,2", b"abcd", ["uint8", [2, 2], "61626364"]),
        ("str_float", b"1.5", 1.5),
        ("json", b'{"a": [1]}', {"a": [1]}),
    ],
)
def test_values(encoding: str, value: bytes, expected: object) -> None:
    assert shown(mds_encodings.named(encoding).decode(b"??" + value + b"??", 2, 2 + len(value))) == expected


@pytest.mark.parametrize(
    ("encoding", "value"),
    [
        ("ndarray", b""),
        ("ndarray", b"\x07\x04\x01\x00"),
        ("ndarray:int32", b"\x04\x02" + bytes(7)),
        ("ndarray:int32", b"\x04\x00"),
        ("ndarray:int32", b"\x00" + bytes(4)),
        ("ndarray:int32", b"\x0f" + b"\xff" * 24),
        ("str", b"\xff"),
        ("json", b"{"),
        ("json", b"[" * 100_000),
        ("str_int", b"1.0"),
        ("str_int", b"9" * 5000),
        ("str_float", b"a"),
        ("str_decimal", b"a"),
    ],
)
def test_a_malformed_value_is_an_error_of_its_column(tmp_path: Path, encoding: str, value: bytes) -> None:
    found = opened(tmp_path / "a.mds", shard({"v": encoding}, struct.pack("<I", len(value)) + value))
    with pytest.raises(DataError, match="MDS sample: column 'v'"):
        mds.decoder(found.layout)(found.copy(0))


@pytest.mark.parametrize(
    "sample", [b"", b"\1\0\0", struct.pack("<I", 5) + b"abc", struct.pack("<I", 2) + b"abc"]
)
def test_lengths_that_lie_are_refused(tmp_path: Path, sample: bytes) -> None:
    found = opened(tmp_path / "a.mds", shard({"v": "bytes"}, sample))
    with pytest.raises(DataError, match="MDS sample: expected"):
        mds.decoder(found.layout)(found.copy(0))


@pytest.mark.parametrize("name", ["", "int128", "str\n", "pkl", "ndarray:", "ndarray:object"])
@pytest.mark.parametrize("shape", ["", ":", ":0", ":-1", ":99999,99999"])
def test_unknown_encodings_are_refused(name: str, shape: str) -> None:
    with pytest.raises(DataError, match="encoding"):
        mds_encodings.named(name + shape)
    with pytest.raises(DataError, match="encoding"):
        mds_encodings.named("ndarray:int32" + (shape or "x"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"version": 1}, "not an MDS shard of version 2"),
        ({"format": "csv"}, "not an MDS shard"),
        ({"column_sizes": [8]}, "expected values of None bytes, got 8"),
        ({"column_sizes": []}, "expected values of None bytes, got 0"),
        ({"column_names": ["a", "b"]}, "expected a name, an encoding and a size"),
        ({"column_names": [1]}, "expected a name"),
        ({"column_encodings": [None]}, "expected a name"),
        ({"column_names": ["a", "a"], "column_encodings": ["str"] * 2, "column_sizes": [None] * 2}, "twice"),
    ],
)
def test_columns_that_are_malformed_are_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=rf"a\.mds: .*{told}"):
        opened(tmp_path / "a.mds", shard({"a": "str"}, struct.pack("<I", 0), **changes))


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty shard"),
        (b"\1", "do not fit"),
        (bytes(8), "empty shard"),
        (b"\xff\xff\xff\xff" + bytes(8), "do not fit in 12 bytes"),
        (struct.pack("<III", 1, 4, 12), "begins at byte 4"),
        (struct.pack("<III", 1, 99, 12), "begins at byte 99"),
        (struct.pack("<III", 1, 13, 13) + b"{", "not a JSON document"),
        (struct.pack("<III", 1, 14, 14) + b"[]", "expected a JSON object"),
    ],
)
def test_what_is_no_shard_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    with pytest.raises(DataError, match=told):
        opened(tmp_path / "a.mds", content)


def test_columns_that_change_between_shards_are_refused(folder: Path) -> None:
    path = folder / "shard.00001.mds"
    content = path.read_bytes().replace(b'"str_int"', b'"str    "').replace(b'"str    "', b'"str"    ')
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"shard\.00001\.mds: expected mds rows"):
        AttestedMmapDataset(folder)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda told: told.update(version=1), "version 2"),
        (lambda told: told.update(shards=[1]), "version 2"),
        (lambda told: told.update(shards=[]), "names no files"),
        (lambda told: told["shards"][0].update(format="json"), "format 'mds', got 'json'"),
        (lambda told: told["shards"][0].update(raw_data=None), "format 'mds'"),
        (lambda told: told["shards"][0]["raw_data"].update(basename="../a.mds"), "inside the folder"),
        (lambda told: told["shards"][0]["raw_data"].update(basename=None), "inside the folder"),
        (lambda told: told["shards"][0]["raw_data"].update(basename="b.mds"), "no such file"),
        (lambda told: told["shards"][0]["raw_data"].update(basename="shard.00001.mds"), "named twice"),
        (lambda told: told["shards"][0]["raw_data"].update(bytes=1), "expected 1 bytes, as index.json says"),
        (lambda told: told["shards"][0]["raw_data"].pop("bytes"), "expected None bytes"),
    ],
)
def test_an_index_that_lies_is_refused(folder: Path, change: Any, told: str) -> None:
    index = folder / mds.INDEX_NAME
    content = json.loads(index.read_text())
    change(content)
    index.write_text(json.dumps(content))
    with pytest.raises(DataError, match=told):
        AttestedMmapDataset(folder)


def test_an_index_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / mds.INDEX_NAME).write_text('{"pages": []}')
    assert mds.find(tmp_path) is None


@pytest.mark.parametrize("number", [-1, 5])
def test_there_are_no_other_samples(folder: Path, number: int) -> None:
    with pytest.raises(DataError, match=f"no record {number}: there are 5"):
        tables.opened(folder / "shard.00000.mds").copy(number)


@pytest.mark.skipif(
    importlib.util.find_spec("streaming") is None, reason="mosaicml-streaming is not installed"
)
def test_the_library_of_today_writes_what_is_read(tmp_path: Path) -> None:
    from streaming import MDSWriter

    with MDSWriter(columns={"text": "str", "ids": "ndarray:int32"}, out=str(tmp_path / "d")) as writer:
        writer.write({"text": "é", "ids": np.arange(3, dtype=np.int32)})
    item = AttestedMmapDataset(tmp_path / "d")[0]
    assert (item["text"], item["ids"].tolist()) == ("é", [0, 1, 2])


MANY = {"ids": "ndarray:int32:3", "text": "str", "raw": "bytes", "score": "float32"}


def sample(number: int) -> bytes:
    text, raw = (f"é {number}" * (number % 4)).encode(), bytes(number % 3)
    ids = np.arange(3, dtype="<i4") + number
    return struct.pack("<2I", len(text), len(raw)) + ids.tobytes() + text + raw + struct.pack("<f", number)


def test_samples_decoded_by_columns_are_those_decoded_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "shard.00000.mds"
    path.write_bytes(shard(MANY, *map(sample, range(20))))
    data = AttestedMmapDataset(path, manifest=None)
    for number, item in enumerate(data.__getitems__(list(range(20)))):
        alone = data[number]
        assert item.keys() == alone.keys() == MANY.keys()
        assert item["ids"].dtype == torch.int32
        assert torch.equal(item["ids"], alone["ids"])
        assert [item[name] for name in ("text", "raw", "score")] == [
            alone[name] for name in ("text", "raw", "score")
        ]
        assert item["score"] == number


@pytest.mark.parametrize(
    "broken",
    [b"", sample(5)[:-1], sample(5) + b"\0", struct.pack("<2I", 1, 0) + bytes(12) + b"\xff" + bytes(4)],
)
def test_a_malformed_sample_is_named_among_many(tmp_path: Path, broken: bytes) -> None:
    path = tmp_path / "shard.00000.mds"
    samples = [*map(sample, range(11)), broken, *map(sample, range(8))]
    path.write_bytes(shard(MANY, *samples))
    with pytest.raises(DataError, match="record 11"):
        AttestedMmapDataset(path, manifest=None).__getitems__(list(range(20)))


@pytest.mark.parametrize("encoding", ["ndarray", "ndarray:int32", "ndarray:int32:2,2"])
def test_arrays_of_other_forms_are_decoded_one_by_one(encoding: str) -> None:
    column = Column("a", row_types.FOREIGN_PREFIX + encoding)
    assert mds.together(table.Layout("mds", columns=(column,))) is None
