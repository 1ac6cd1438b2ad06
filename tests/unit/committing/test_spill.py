"""Kept activations: in memory, in a file without a name, encrypted; limits, full disks and changed disks."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

from palm_torch.committing import spill
from palm_torch.committing.spill import Kept
from palm_torch.errors import CoverageError, DataError

if TYPE_CHECKING:
    from pathlib import Path

BLOCKS = [bytes([number]) * 100 for number in range(6)]


def filled(**options: Any) -> Kept:
    kept = Kept(**{"limit_bytes": 600, **options})
    assert [kept.add(memoryview(block)) for block in BLOCKS] == list(range(6))
    return kept


def descriptor(kept: Kept) -> int:
    assert kept._file is not None
    return kept._file._descriptor


@pytest.mark.parametrize("encrypt", [False, True])
@pytest.mark.parametrize("memory_bytes", [0, 250, 600])
def test_blocks_come_back(tmp_path: Path, encrypt: bool, memory_bytes: int) -> None:  # noqa: FBT001
    kept = filled(folder=tmp_path, memory_bytes=memory_bytes, encrypt=encrypt)
    for number in (0, 5, 3, 3, 2):
        assert kept.read(number, 10, 20) == BLOCKS[number][10:20]
    on_disk = (6 - memory_bytes // 100) * (100 + 16 * encrypt)
    assert os.fstat(descriptor(kept)).st_size == on_disk


def test_blocks_in_memory_come_back() -> None:
    assert filled().read(4, 0, 100) == BLOCKS[4]


def test_the_file_has_no_name_and_no_other_reader(tmp_path: Path) -> None:
    kept = filled(folder=tmp_path, memory_bytes=0)
    status = os.fstat(descriptor(kept))
    assert (stat.S_IMODE(status.st_mode), status.st_nlink, list(tmp_path.iterdir())) == (0o600, 0, [])
    assert not os.get_inheritable(descriptor(kept))
    handle = descriptor(kept)
    del kept
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handle)


def test_the_name_goes_at_once_where_files_must_have_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refusing(path: Any, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "no")
        return real(path, flags, mode)

    monkeypatch.setattr(spill.os, "open", refusing)
    kept = filled(folder=tmp_path, memory_bytes=0)
    assert (os.fstat(descriptor(kept)).st_nlink, list(tmp_path.iterdir())) == (0, [])
    assert kept.read(1, 0, 100) == BLOCKS[1]


def test_encrypted_blocks_say_nothing_and_cannot_be_exchanged(tmp_path: Path) -> None:
    kept = filled(folder=tmp_path, memory_bytes=0, encrypt=True)
    handle = descriptor(kept)
    first, second = os.pread(handle, 116, 0), os.pread(handle, 116, 116)
    assert not set(first) <= {0}
    os.pwrite(handle, second + first, 0)
    for number in (0, 1):
        with pytest.raises(DataError, match="not what was written there"):
            kept.read(number, 0, 100)
    assert kept.read(2, 0, 100) == BLOCKS[2]


def test_a_file_that_was_cut_is_told(tmp_path: Path) -> None:
    kept = filled(folder=tmp_path, memory_bytes=0)
    os.ftruncate(descriptor(kept), 550)
    with pytest.raises(DataError, match="expected 100 bytes at 500, got 50"):
        kept.read(5, 0, 100)


def test_a_disk_that_fails_to_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    kept = filled(folder=tmp_path, memory_bytes=0)
    monkeypatch.setattr(spill.os, "pread", failing)
    with pytest.raises(DataError, match="cannot be read: Input/output error"):
        kept.read(0, 0, 1)


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, room = os.pwrite, [250]

    def filling(handle: int, data: memoryview, at: int) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real(handle, data[: room[0]], at)
        room[0] -= written
        return written

    monkeypatch.setattr(spill.os, "pwrite", filling)
    kept = Kept(limit_bytes=600, folder=tmp_path, memory_bytes=0)
    assert [kept.add(memoryview(block)) for block in BLOCKS[:2]] == [0, 1]
    with pytest.raises(CoverageError, match="No space left on device, after 250 bytes: free some"):
        kept.add(memoryview(BLOCKS[2]))
    assert kept.read(1, 0, 100) == BLOCKS[1]


@pytest.mark.parametrize("options", [{}, {"memory_bytes": 0}])
def test_the_limit_is_the_users(tmp_path: Path, options: dict[str, Any]) -> None:
    kept = filled(folder=tmp_path if options else None, **options)
    with pytest.raises(CoverageError, match=r"at most 600 bytes \(keep_bytes\), got more: allow more"):
        kept.add(memoryview(b"1"))


def test_nowhere_to_keep_is_told(tmp_path: Path) -> None:
    for folder in (tmp_path / "missing", tmp_path / "zero\0byte"):
        with pytest.raises(CoverageError, match="no file can be made in"):
            Kept(limit_bytes=1, folder=folder)
    with pytest.raises(CoverageError, match="keep_bytes: expected a positive number of bytes, got 0"):
        Kept(limit_bytes=0)
