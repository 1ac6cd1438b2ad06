"""The operations of this machine's own kernel, on ordinary files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from palm_torch.cvm import kernel_files
from palm_torch.cvm.kernel_files import LINUX

if TYPE_CHECKING:
    from pathlib import Path


def test_files_are_read_to_their_end_or_their_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100_000))
    assert LINUX.read(path, max_bytes=100_000) == bytes(100_000)
    assert len(LINUX.read(path, max_bytes=99_999)) == 100_000
    assert len(LINUX.read(path, max_bytes=10)) == 11


def test_a_write_goes_over_the_beginning_and_cuts_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abcdef")
    LINUX.open_for_writing(path)
    assert LINUX.write(path, b"xy") == 2
    assert path.read_bytes() == b"xycdef"


def test_nothing_is_made_but_directories(tmp_path: Path) -> None:
    for operation in (
        lambda path: LINUX.write(path, b"x"),
        LINUX.open_for_writing,
        LINUX.remove_directory,
        lambda path: LINUX.read(path, max_bytes=1),
    ):
        with pytest.raises(FileNotFoundError) as failure:
            operation(tmp_path / "missing")
        assert str(failure.value.filename) == str(tmp_path / "missing")
    LINUX.make_directory(tmp_path / "made")
    assert LINUX.exists(tmp_path / "made")
    LINUX.remove_directory(tmp_path / "made")
    assert not LINUX.exists(tmp_path / "made")


def test_what_cannot_be_looked_at_is_not_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    assert not LINUX.exists(tmp_path / "file" / "below")

    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(kernel_files.os, "lstat", refuse)
    with pytest.raises(PermissionError):
        LINUX.exists(tmp_path)


def test_errors_of_reading_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError) as failure:
        LINUX.read(tmp_path, max_bytes=1)
    assert failure.value.filename == str(tmp_path)
