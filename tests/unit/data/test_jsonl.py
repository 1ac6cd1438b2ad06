from __future__ import annotations

import os
import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palm_torch.commit import records
from palm_torch.data import measure, shards
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.formats import line_index, table
from palm_torch.errors import DataError, RecordError

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = b'{"text": "a", "n": 1}\r\n[1, 2.5, null]\n"\xc3\xa9"'
LINES = [b'{"text": "a", "n": 1}\r', b"[1, 2.5, null]", b'"\xc3\xa9"']
VALUES = [{"text": "a", "n": 1}, [1, 2.5, None], "é"]


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    path.write_bytes(CONTENT)
    return path


def copies(path: Path, *, fresh: bool = False) -> list[bytes]:
    (file,) = shards.open_all(path, table.Wanted(fresh=fresh))
    return [file.view.copy(number) for number in range(file.view.records)]


@pytest.mark.parametrize("end", [b"", b"\n"])
@pytest.mark.parametrize("fresh", [False, True])
def test_a_record_is_a_line_without_its_line_feed(texts: Path, end: bytes, *, fresh: bool) -> None:
    texts.write_bytes(CONTENT + end)
    assert copies(texts, fresh=fresh) == LINES
    assert (texts.with_name("texts.jsonl.palm-index")).exists() == (not fresh)
    data = AttestedMmapDataset(texts)
    assert data.__getitems__([2, 0, 1, -1]) == [VALUES[2], *VALUES[:2], VALUES[2]]
    assert data.info.layout == table.Layout("jsonl")


@settings(max_examples=60)
@given(
    content=st.lists(st.sampled_from([b"\n", b"\r", b"x", b"yy\n", b"\r\n"]), max_size=30).map(b"".join),
    block=st.integers(1, 5),
)
def test_lines_are_those_of_a_plain_split(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, block: int
) -> None:
    path = tmp_path_factory.mktemp("lines") / "a.jsonl"
    path.write_bytes(content)
    expected = content.removesuffix(b"\n").split(b"\n") if content else []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_index, "_READ_BYTES", block)
        if not content or any(line in (b"", b"\r") for line in expected):
            with pytest.raises(DataError, match=r"is empty|empty shard"):
                copies(path)
        else:
            assert copies(path) == expected


def test_an_empty_line_is_named(texts: Path) -> None:
    texts.write_bytes(b"1\n2\n\r\n3\n")
    with pytest.raises(DataError, match=r"texts\.jsonl: line 3 is empty, .* sed -i"):
        copies(texts)
    assert not texts.with_name("texts.jsonl.palm-index").exists()


def test_the_index_is_kept_and_made_anew_when_the_file_changes(texts: Path) -> None:
    copies(texts)
    index = texts.with_name("texts.jsonl.palm-index")
    head = index.read_bytes()[: line_index.HEADER.size]
    assert head == line_index.HEADER.pack(line_index.MAGIC, len(CONTENT), texts.stat().st_mtime_ns)
    assert np.frombuffer(index.read_bytes()[40:], "<u8").tolist() == [0, 23, 38, 43]
    before = index.stat().st_ino
    copies(texts)
    assert index.stat().st_ino == before
    texts.write_bytes(b"1\n2\n")
    assert copies(texts) == [b"1", b"2"]
    assert len(index.read_bytes()) == 40 + 3 * 8


@pytest.mark.parametrize(
    "bent",
    [
        lambda index: index[:-8],
        lambda index: index[:-1],
        lambda index: index[:40],
        lambda index: index[:40] + bytes([1]) + index[41:],
        lambda index: index + bytes(8),
    ],
)
def test_an_index_that_cannot_be_of_the_file_is_made_anew(texts: Path, bent: object) -> None:
    copies(texts)
    index = texts.with_name("texts.jsonl.palm-index")
    index.write_bytes(bent(index.read_bytes()))  # type: ignore[operator]
    assert copies(texts) == LINES


@pytest.mark.parametrize("content", [b"", b"my own notes"])
def test_a_file_of_that_name_that_is_no_index_is_not_overwritten(texts: Path, content: bytes) -> None:
    index = texts.with_name("texts.jsonl.palm-index")
    index.write_bytes(content)
    with pytest.raises(DataError, match="is no index of lines"):
        copies(texts)
    assert index.read_bytes() == content


def test_folder_that_cannot_be_written(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert copies(texts) == LINES
    assert [item.name for item in texts.parent.iterdir()] == ["texts.jsonl"]


def test_disk_full_while_lines_are_indexed(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"palm-index: could not be written: No space left"):
        copies(texts)
    monkeypatch.setattr(line_index.tempfile, "TemporaryFile", full)
    with pytest.raises(DataError, match=r"texts\.jsonl: its lines cannot be indexed: No space left"):
        copies(texts, fresh=True)
    assert [item.name for item in texts.parent.iterdir()] == ["texts.jsonl"]


def test_an_index_rewritten_as_soon_as_it_was_made(texts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path, *_: object, **__: object) -> None:
        path.write_bytes(line_index.MAGIC)

    monkeypatch.setattr(line_index, "write_atomically", write)
    with pytest.raises(DataError, match="was rewritten as soon as"):
        copies(texts)


def test_manifest_pickling_and_a_changed_line(texts: Path) -> None:
    measured = measure.measure(texts)
    assert (measured.format, measured.dtype, measured.columns, measured.record_bytes) == (
        ("jsonl", None, None, None)
    )
    data = AttestedMmapDataset(texts)
    again = pickle.loads(pickle.dumps(data))  # noqa: S301 (bytes this test made)
    assert [again[number] for number in range(3)] == VALUES
    assert data.info.table.group(0)[32:64] == records.record_digest(LINES[1])
    with texts.open("r+b") as stream:
        stream.seek(24)
        stream.write(b"9")
    with pytest.raises(RecordError, match=r"record 1 \(line 2, bytes 23 to 36 of the file, by its index\)"):
        data.__getitems__([0, 1])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"{", "is not JSON"),
        (b"nul", "is not JSON"),
        (b"1 2", "is not JSON: Extra data"),
        (b"\xff", "is not JSON: 'utf-8'"),
        (b"\xef\xbb\xbf1", "is not JSON"),
        (b"NaN", "NaN is no number there"),
        (b'[{"x": -Infinity}]', "-Infinity is no number"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "key 'c' occurs twice"),
        (b"[" * 100_000, "is not JSON"),
        (b"1" * 5000, "is not JSON"),
    ],
)
def test_a_line_that_is_not_json_is_named(texts: Path, line: bytes, says: str) -> None:
    texts.write_bytes(b"1\n" + line + b"\n")
    data = AttestedMmapDataset(texts)
    assert data[0] == 1
    with pytest.raises(DataError, match=rf"texts\.jsonl: record 1 \(line 2.*{says}"):
        data.__getitems__([0, 1])


def test_a_changed_line_that_is_no_longer_json_is_a_changed_line(texts: Path) -> None:
    measure.measure(texts)
    data = AttestedMmapDataset(texts)
    with texts.open("r+b") as stream:
        stream.write(b"x")
    with pytest.raises(RecordError, match="line 1"):
        data[0]


@pytest.mark.parametrize("arguments", [{"record_length": 2}, {"token_dtype": "int32"}, {"targets": True}])
def test_arguments_of_numbers(texts: Path, arguments: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"lines of text|targets=True"):
        AttestedMmapDataset(texts, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("number", ["1e999", "-1E309", "[0.5, 1e+400]", "9" * 309 + ".0"])
def test_number_that_is_too_large_is_no_infinity(tmp_path: Path, number: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(f"{number}\n[1.5, 1e308, -0.0, 1e-999]\n")
    data = AttestedMmapDataset(path, manifest=None)
    with pytest.raises(DataError, match="is too large for a number of 64 bits"):
        data[0]
    assert data[1] == [1.5, 1e308, 0.0, 0.0]
