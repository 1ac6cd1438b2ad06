"""A file is written whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from palm_torch.errors import DataError, SealError
from palm_torch.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_with_its_content_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, [b"one ", b"two"], error=SealError)
    assert path.read_bytes() == b"one two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    write_atomically(path, [], error=SealError, mode=0o600)
    assert path.read_bytes() == b""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(tmp_path) == ["file"]


def broken() -> Iterator[bytes]:
    yield b"half"
    raise KeyboardInterrupt


def test_what_is_interrupted_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, broken(), error=SealError)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [SealError, DataError])
def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Any) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    path = tmp_path / "file"
    with pytest.raises(error, match=f"{path}: could not be written: No space left on device"):
        write_atomically(path, [b"data"], error=error)
    assert names(tmp_path) == []


def test_a_temporary_file_that_vanished_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def vanish(self: Path, _target: Any) -> None:
        self.unlink()
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr(Path, "replace", vanish)
    with pytest.raises(SealError, match="could not be written: No such file"):
        write_atomically(tmp_path / "file", [b"data"], error=SealError)


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(SealError, match="cannot write here: No such file or directory"):
        write_atomically(tmp_path / "missing" / "file", [b""], error=SealError)
    with pytest.raises(SealError, match="could not be written: Is a directory"):
        write_atomically(tmp_path, [b""], error=SealError)
    with pytest.raises(SealError, match="cannot write here: File name too long"):
        write_atomically(tmp_path / ("x" * 300), [b""], error=SealError)
    assert names(tmp_path) == []
