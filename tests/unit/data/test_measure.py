from __future__ import annotations

import errno
import hashlib
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from recording import LENGTH, RECORDS

from palm_torch import files
from palm_torch.commit import history, manifest_file, multiset, records
from palm_torch.data import measure
from palm_torch.data import shards as shards_module
from palm_torch.data.measuring import reading, units, writing
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST = "manifest.palm-manifest"


@pytest.mark.parametrize("salt", [None, b"a secret of salt"])
def test_manifest_is_that_of_a_plain_loop(tokens: Path, rows: np.ndarray, salt: bytes | None) -> None:
    made = measure.measure(tokens, record_length=LENGTH, salt=salt)
    digests = [records.record_digest(row.tobytes(), salt=salt) for row in rows]
    product = multiset.MultisetHash()
    product.add_many(b"".join(digests))
    groups = [records.group_digests(b"".join(digests[at : at + 64])) for at in range(0, RECORDS, 64)]
    assert made.digests_root.value == history.root_of(groups)
    assert (made.multiset.state, made.multiset.count) == (product.state.hex(), RECORDS)
    assert (made.format, made.dtype, made.record_shape, made.record_bytes) == ("bin", "uint16", (LENGTH,), 32)
    assert made.salted == (salt is not None)
    for shard, size in zip(made.shards, (40, 41, 42), strict=True):
        content = (tokens / shard.name).read_bytes()
        assert (shard.bytes, shard.records) == (len(content), size)
        if salt is None:
            assert shard.sha256.value == hashlib.sha256(content).digest()
        else:
            assert shard.sha256 is None
    with manifest_file.ManifestFile.open(tokens / MANIFEST) as file:
        assert file.manifest == made
        assert file.mapping[file.offset :] == b"".join(digests)
        assert file.group_digests() == b"".join(groups)


def test_resharding_keeps_the_multiset(tokens: Path, rows: np.ndarray, tmp_path: Path) -> None:
    rows[::-1].tofile(tmp_path / "one.bin")
    one = measure.measure(tmp_path / "one.bin", record_length=LENGTH)
    assert one.multiset == measure.measure(tokens, record_length=LENGTH).multiset
    assert one.digest != measure.measure(tokens, record_length=LENGTH).digest


def test_npy_header_is_part_of_the_file_but_not_of_a_record(tmp_path: Path) -> None:
    array = np.arange(200, dtype=np.float32).reshape(50, 4)
    np.save(tmp_path / "a.npy", array)
    made = measure.measure(tmp_path / "a.npy")
    assert made.shards[0].sha256.value == hashlib.sha256((tmp_path / "a.npy").read_bytes()).digest()
    with manifest_file.ManifestFile.open(tmp_path / "a.npy.palm-manifest") as file:
        assert file.mapping[file.offset : file.offset + 32] == records.record_digest(array[0].tobytes())


def test_progress_ends_at_the_total(tokens: Path) -> None:
    seen = []
    measure.measure(tokens, record_length=LENGTH, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (RECORDS * 32, RECORDS * 32)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_parts_need_not_end_with_a_group(tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measure.measure(tokens, record_length=LENGTH)
    monkeypatch.setattr(units, "BLOCK_RECORDS", 7)
    monkeypatch.setattr(reading, "ROOM_BYTES", 100)
    assert measure.measure(tokens, record_length=LENGTH) == whole


def leftovers(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir() if not item.name.startswith("part-"))


@pytest.mark.parametrize("before", [None, b"an older manifest"])
def test_disk_full_at_the_end_leaves_what_was_there(
    tokens: Path, monkeypatch: pytest.MonkeyPatch, before: bytes | None
) -> None:
    if before:
        (tokens / MANIFEST).write_bytes(before)

    def full(_descriptor: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(DataError, match=r"palm-manifest.*No space left"):
        measure.measure(tokens, record_length=LENGTH)
    assert leftovers(tokens) == ([MANIFEST] if before else [])
    assert not before or (tokens / MANIFEST).read_bytes() == before


def test_disk_full_while_digests_are_kept(tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(writing.os, "pwrite", full)
    with pytest.raises(DataError, match=r"palm-manifest.*No space left.*nothing was left behind"):
        measure.measure(tokens, record_length=LENGTH)
    assert leftovers(tokens) == []


def test_interrupted(tokens: Path) -> None:
    def interrupt(_done: Any, _total: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure.measure(tokens, record_length=LENGTH, progress=interrupt)
    assert leftovers(tokens) == []


@pytest.mark.parametrize("more", [32, 7])
def test_file_that_grows_while_it_is_measured(
    tokens: Path, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    opened = shards_module.open_all

    def then_grow(path: Path, wanted: Any) -> Any:
        found = opened(path, wanted)
        with (tokens / "part-0.bin").open("ab") as stream:
            stream.write(bytes(more))
        return found

    monkeypatch.setattr(shards_module, "open_all", then_grow)
    with pytest.raises(DataError, match=r"part-0.bin: its length changed .*expected 1280 bytes, got 1"):
        measure.measure(tokens, record_length=LENGTH)
    assert leftovers(tokens) == []


def test_file_that_vanishes_while_it_is_measured(tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = shards_module.open_all

    def then_remove(path: Path, wanted: Any) -> Any:
        found = opened(path, wanted)
        (tokens / "part-1.bin").unlink()
        return found

    monkeypatch.setattr(shards_module, "open_all", then_remove)
    with pytest.raises(DataError, match=r"part-1\.bin: cannot be read"):
        measure.measure(tokens, record_length=LENGTH)


@pytest.mark.parametrize("record_length", [None, 7])
def test_bad_data_makes_no_manifest(tokens: Path, record_length: int | None) -> None:
    with pytest.raises(DataError):
        measure.measure(tokens, record_length=record_length)
    assert leftovers(tokens) == []


def test_file_name_that_no_manifest_can_hold(tokens: Path) -> None:
    (tokens / "part-0.bin").rename(tokens / "part\\0.bin")
    with pytest.raises(DataError, match="no manifest can be written"):
        measure.measure(tokens, record_length=LENGTH)
