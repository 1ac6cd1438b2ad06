"""`ShardWriter`: what is read back is what was written, or nothing is there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from palm_torch.commit import manifest_file, multiset, records
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.measure import check, measure
from palm_torch.data.shard_writer import ShardWriter
from palm_torch.digest import sha256_file
from palm_torch.errors import DataError, RecordError, SessionError

if TYPE_CHECKING:
    from pathlib import Path

TOKENS = [list(range(at, at + 4)) for at in range(7)]


def written(path: Path, items: Any = TOKENS, **options: Any) -> ShardWriter:
    with ShardWriter(path, **options) as writer:
        writer.write_all(items)
    return writer


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    writer = written(tmp_path / "a" / "train", record_length=4)
    data = AttestedMmapDataset(tmp_path / "a" / "train")
    assert [item.tolist() for item in data] == TOKENS
    assert data.manifest == writer.manifest


def test_the_manifest_is_what_measuring_the_files_gives(tmp_path: Path) -> None:
    made = written(tmp_path / "d", shard_bytes=20).manifest
    assert made is not None
    assert len(made.shards) == 4
    (tmp_path / "d" / "manifest.palm-manifest").unlink()
    assert measure(tmp_path / "d", record_length=4) == made
    assert check(tmp_path / "d") == made


def test_the_manifest_is_that_of_ten_naive_lines(tmp_path: Path) -> None:
    made = written(tmp_path / "d").manifest
    assert made is not None
    digests = [records.record_digest(np.array(item, "<u2").tobytes()) for item in TOKENS]
    naive = multiset.MultisetHash()
    naive.add_many(b"".join(digests))
    assert made.multiset.state == naive.state.hex()
    assert made.shards[0].sha256 == sha256_file(tmp_path / "d" / "shard-00000.bin")
    assert manifest_file.read(tmp_path / "d" / "manifest.palm-manifest") == made


@pytest.mark.parametrize(
    "record",
    [np.ones((2, 3), np.float32), torch.ones(2, 3), np.ones((2, 3), ">f4"), np.ones((3, 2), "<f4").T],
)
def test_arrays_keep_shape_and_type(tmp_path: Path, record: Any) -> None:
    written(tmp_path / "d", [record] * 3, format="npy", shard_bytes=48)
    assert np.load(tmp_path / "d" / "shard-00000.npy").shape == (2, 2, 3)
    data = AttestedMmapDataset(tmp_path / "d", dtype=None)
    assert len(data) == 3
    assert data[2].tolist() == np.asarray(record).tolist()
    assert data[2].dtype == torch.float32


def test_lines_are_json_with_sorted_keys_or_the_bytes_given(tmp_path: Path) -> None:
    written(tmp_path / "d", [{"b": 1, "a": "é"}, [1], b'{"c" :2}'], format="jsonl")
    text = (tmp_path / "d" / "shard-00000.jsonl").read_text()
    assert text == '{"a":"é","b":1}\n[1]\n{"c" :2}\n'
    assert list(AttestedMmapDataset(tmp_path / "d")) == [json.loads(line) for line in text.splitlines()]


def test_a_salted_dataset_needs_its_salt(tmp_path: Path) -> None:
    written(tmp_path / "d", salt=b"a secret of salt")
    assert len(AttestedMmapDataset(tmp_path / "d", salt=b"a secret of salt")) == 7
    with pytest.raises(DataError):
        AttestedMmapDataset(tmp_path / "d")


def test_a_record_larger_than_a_shard_has_one_of_its_own(tmp_path: Path) -> None:
    made = written(tmp_path / "d", shard_bytes=1).manifest
    assert made is not None
    assert [shard.records for shard in made.shards] == [1] * 7


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ([1, 2, 3], r"record 0: expected elements of shape \[4\], got \[3\]"),
        ([1, 2, 3, 70_000], "record 0: 70000 is no uint16"),
        ([1, 2, 3, -1], "record 0: -1 is no uint16"),
        (np.array([1, 2, 3, -1], np.int16), "record 0: -1 is no uint16"),
        ([1, 2, 3, 0.5], "record 0: 0.5 is no uint16"),
        ([1, 2, 3, float("nan")], "record 0: nan is no uint16"),
        ("text", "record 0: expected numbers, got an array of"),
        ([[1], [1, 2]], "record 0: expected numbers"),
    ],
)
def test_what_is_no_record_is_refused_and_nothing_stays(tmp_path: Path, record: Any, says: str) -> None:
    with pytest.raises(DataError, match=says), ShardWriter(tmp_path / "d", record_length=4) as writer:
        writer.write(record)
    assert list(tmp_path.iterdir()) == []


def test_unsigned_numbers_do_not_become_negative_ones(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="65535 is no int16"):
        written(tmp_path / "d", [np.array([65535], np.uint16)], dtype="int16")


@pytest.mark.parametrize("record", [b"", b"a\nb", {1: object()}, float("nan"), object()])
def test_what_is_no_line_is_refused(tmp_path: Path, record: Any) -> None:
    with pytest.raises(DataError, match="record 0: expected"):
        written(tmp_path / "d", [record], format="jsonl")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"format": "parquet"}, "expected one of bin, npy, jsonl to write"),
        ({"format": "jsonl", "record_length": 3}, "lines have neither"),
        ({"record_length": 0}, "expected at least 1 element"),
        ({"dtype": "text"}, "expected one of"),
        ({"shard_bytes": 0}, "shard_bytes: expected at least 1"),
        ({"name": "a.b"}, "without a dot"),
        ({"name": ""}, "1 to 100 printable characters"),
    ],
)
def test_arguments_that_cannot_be(tmp_path: Path, options: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        ShardWriter(tmp_path / "d", **options)


def test_a_name_like_a_file_is_asked_about(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the path is that of a folder"):
        ShardWriter(tmp_path / "train.bin")


def test_no_record_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no record was written"):
        written(tmp_path / "d", [])
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_raises_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), ShardWriter(tmp_path / "d", shard_bytes=8) as writer:
        writer.write_all([*TOKENS, [1 // 0]])
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_written_over(tmp_path: Path) -> None:
    written(tmp_path / "d")
    for path in (tmp_path / "d", tmp_path / "d" / "shard-00000.bin"):
        with pytest.raises(DataError, match=r"expected no file and no full folder there|without a dot"):
            written(path)
    (tmp_path / "empty").mkdir()
    assert len(AttestedMmapDataset(written(tmp_path / "empty")._path)) == 7


def test_a_writer_is_used_once_and_inside_its_block(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path / "d")
    with pytest.raises(SessionError, match="the writer is new"):
        writer.write(TOKENS[0])
    with writer:
        writer.write(TOKENS[0])
    with pytest.raises(SessionError, match="the writer is written"):
        writer.write(TOKENS[0])
    with pytest.raises(SessionError, match="used once"), writer:
        pass


def test_what_the_caller_changes_later_was_not_written(tmp_path: Path) -> None:
    record = np.arange(4, dtype=np.uint16)
    with ShardWriter(tmp_path / "d") as writer:
        writer.write(record)
        record[:] = 9
    assert AttestedMmapDataset(tmp_path / "d")[0].tolist() == [0, 1, 2, 3]


def test_a_shard_rewritten_on_the_disk_shows(tmp_path: Path) -> None:
    written(tmp_path / "d")
    shard = tmp_path / "d" / "shard-00000.bin"
    shard.write_bytes(bytes(shard.stat().st_size))
    with pytest.raises(RecordError):
        AttestedMmapDataset(tmp_path / "d")[3]


@pytest.mark.parametrize(
    ("record", "options"),
    [
        ([[1, 2], [3, 4]], {}),
        (np.array(3), {"format": "npy"}),
        (b"  ", {"format": "jsonl"}),
        (b"\xff{", {"format": "jsonl"}),
        (b"abc", {"format": "jsonl"}),
        (b'{"a":1,"a":2}', {"format": "jsonl"}),
        ({1: "a", "1": "b"}, {"format": "jsonl"}),
    ],
)
def test_what_nobody_could_read_is_not_written(tmp_path: Path, record: Any, options: Any) -> None:
    with pytest.raises(DataError, match="record 0"):
        written(tmp_path / "d", [record], **options)
    assert list(tmp_path.iterdir()) == []
