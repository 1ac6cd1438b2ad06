"""Somebody has the manifest of private data and guesses the data: nothing there says that he is right."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
import pytest

import palm_torch
from palm_torch.commit import manifest_file, records
from palm_torch.data import measure
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.generic import AttestedDataset
from palm_torch.data.shard_writer import ShardWriter
from palm_torch.data.stream import AttestedIterableDataset
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

SALT = b"s" * 32
RECORD = b'{"name": "Ada", "salary": 5000}'


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    path = tmp_path / "people.jsonl"
    path.write_bytes(RECORD + b"\n")
    return path


def tells(published: bytes, content: bytes, record: bytes) -> bool:
    """Whether a guess can be tested: a digest of it that takes no secret stands there."""
    guesses = {hashlib.sha256(content).digest(), records.record_digest(record)}
    return any(guess in published or guess.hex().encode() in published for guess in guesses)


@pytest.mark.parametrize("incremental", [False, True])
def test_neither_the_file_nor_a_record_can_be_guessed(private: Path, *, incremental: bool) -> None:
    content = private.read_bytes()
    beside = {"manifest": private.with_name("people.jsonl.palm-manifest")}
    if incremental:
        beside["products"] = private.with_name("people.jsonl.palm-products")
    measure.measure(private, incremental=incremental)
    assert tells(beside["manifest"].read_bytes(), content, RECORD)
    made = measure.measure(private, salt=SALT, incremental=incremental)
    assert [shard.sha256 for shard in made.shards] == [None]
    for path in beside.values():
        assert not tells(path.read_bytes(), content, RECORD)
    measure.check(private, salt=SALT)


def test_a_file_of_nothing_but_records(tmp_path: Path, private: Path) -> None:
    tokens = private.with_name("a.bin")
    tokens.write_bytes(bytes(range(64)))
    for _ in range(2):  # the second time its products are known
        measure.measure(tokens, record_length=16, salt=SALT, incremental=True)
        for suffix in ("manifest", "products"):
            published = (tmp_path / f"a.bin.palm-{suffix}").read_bytes()
            assert not tells(published, bytes(range(64)), bytes(range(32)))


def test_what_is_written_with_a_salt(tmp_path: Path) -> None:
    with ShardWriter(tmp_path / "d", format="jsonl", salt=SALT) as writer:
        writer.write({"name": "Ada"})
    (shard,) = (tmp_path / "d").glob("*.jsonl")
    content = shard.read_bytes()
    (target,) = (tmp_path / "d").glob("*.palm-manifest")
    assert manifest_file.read(target).salted
    assert not tells(target.read_bytes(), content, content[:-1])


@pytest.mark.parametrize("salt", [b"", b"short", "a text of 16 or more"])
def test_a_salt_that_hides_nothing_is_refused_wherever_one_is_taken(private: Path, salt: bytes) -> None:
    tokens = private.with_name("a.bin")
    np.arange(64, dtype=np.uint16).tofile(tokens)
    inner = [1, 2, 3]
    doors = [
        lambda: measure.measure(private, salt=salt),
        lambda: AttestedMmapDataset(private, salt=salt),
        lambda: AttestedDataset(inner, salt=salt),
        lambda: AttestedIterableDataset(inner, salt=salt),
        lambda: palm_torch.memmap(tokens, salt=salt),
        lambda: palm_torch.AttestedWindows(tokens, 4, salt=salt),
        lambda: ShardWriter(private.parent / "d", format="jsonl", salt=salt),
    ]
    for door in doors:
        with pytest.raises(DataError, match=r"salt: expected (bytes|at least 16 bytes)"):
            door()
    assert not private.with_name("people.jsonl.palm-manifest").exists()
