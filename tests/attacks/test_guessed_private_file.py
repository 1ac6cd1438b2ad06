"""Somebody has the manifest or evidence of private data and guesses it: nothing says that he is right."""

from __future__ import annotations

import hashlib
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import palm_torch
from palm_torch import private_files
from palm_torch.commit import manifest_file, records
from palm_torch.data import measure
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.generic import AttestedDataset
from palm_torch.data.shard_writer import ShardWriter
from palm_torch.data.stream import AttestedIterableDataset
from palm_torch.data.windows import AttestedWindows
from palm_torch.errors import DataError
from palm_torch.hooks import auditing, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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
        lambda: AttestedWindows(tokens, 4, salt=salt),
        lambda: ShardWriter(private.parent / "d", format="jsonl", salt=salt),
    ]
    for door in doors:
        with pytest.raises(DataError, match=r"salt: expected (bytes|at least 16 bytes)"):
            door()
    assert not private.with_name("people.jsonl.palm-manifest").exists()


def opened_by(script: Callable[[], object], folder: Path) -> dict[str, bytes | None]:
    """Returns what evidence lists of the files that a script opens, by name."""
    files = opened.OpenedFiles(str(folder))
    with auditing.listen(files):
        script()
    return {
        role.removeprefix(opened.PREFIX): None if item.digest is None else item.digest.value
        for role, item in files.result().items()
    }


class Folder:
    """A dataset of a script's own, which opens each file itself."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> bytes:
        return self.paths[index].read_bytes()

    def __iter__(self) -> Iterator[bytes]:
        return (path.read_bytes() for path in self.paths)


@pytest.mark.parametrize("salt", [None, SALT])
def test_evidence_lists_no_digest_of_a_file_that_a_salted_dataset_lies_in(
    tmp_path: Path, private: Path, salt: bytes | None
) -> None:
    (tmp_path / "linked").symlink_to(private)
    (tmp_path / "folder").mkdir()
    inside = tmp_path / "folder/a.txt"
    inside.write_bytes(RECORD)
    tokens = tmp_path / "a.bin"
    tokens.write_bytes(bytes(64))

    def script() -> None:
        private.read_bytes()  # nobody knows yet that it is private
        datasets = [
            AttestedMmapDataset(private, salt=salt),
            AttestedMmapDataset(tmp_path / "folder", format="files", salt=salt),
            AttestedWindows(tokens, 4, salt=salt),
        ]
        with ShardWriter(tmp_path / "written", format="jsonl", salt=salt) as writer:
            writer.write({"name": "Ada"})
        for path in (tmp_path / "linked", inside, tokens, *(tmp_path / "written").glob("*.jsonl")):
            path.read_bytes()
        del datasets

    listed = opened_by(script, tmp_path)
    names = ["a.bin", "folder/a.txt", "people.jsonl", "written/shard-00000.jsonl"]
    if salt is None:
        assert sorted(listed) == names
        assert None not in listed.values()
    else:
        assert listed == {f"{name} (private)": None for name in names}


@pytest.mark.parametrize("salt", [None, SALT])
def test_nor_of_one_that_code_opens_for_a_salted_dataset(
    tmp_path: Path, private: Path, salt: bytes | None
) -> None:
    paths = [private, tmp_path / "b", tmp_path / "c"]
    for path in paths[1:]:
        path.write_bytes(RECORD)
    data: Any = AttestedDataset(Folder(paths), salt=salt)
    stream: Any = AttestedIterableDataset(Folder(paths[2:]), salt=salt)
    listed = opened_by(lambda: (data[0], data.__getitems__([1]), list(stream)), tmp_path)
    assert sorted(listed) == [name + (" (private)" if salt else "") for name in ("b", "c", "people.jsonl")]
    assert (set(listed.values()) == {None}) == (salt is not None)
    later = opened_by((tmp_path / "b").read_bytes, tmp_path)
    assert (later == {"b (private)": None}) == (salt is not None)  # a file of the dataset, whoever opens it


def test_no_file_loses_its_place_to_one_that_turns_out_to_be_private(tmp_path: Path, private: Path) -> None:
    alike = [tmp_path / f"people.jsonl (private){more}" for more in ("", "#2")]

    def script() -> None:
        for path in (private, *alike):
            path.write_bytes(path.name.encode())
            path.read_bytes()
        private_files.keep([private])

    listed = opened_by(script, tmp_path)
    assert listed.pop("people.jsonl (private)#3") is None
    assert listed == {path.name: hashlib.sha256(path.name.encode()).digest() for path in alike}


def test_a_copy_in_a_worker_knows_it_too(
    private: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = [pickle.dumps(AttestedMmapDataset(private, salt=salt, manifest=None)) for salt in (None, SALT)]
    for copy, known in zip(copies, (False, True), strict=True):
        monkeypatch.setattr(private_files, "_kept", set())
        pickle.loads(copy)  # noqa: S301 (our own)
        assert private_files.is_private(str(private)) == known
    measure.measure(private, salt=SALT)
    assert list(opened_by(private.read_bytes, tmp_path)) == ["people.jsonl (private)"]
