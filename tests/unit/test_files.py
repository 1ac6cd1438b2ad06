"""A file is written whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from palm_torch.errors import DataError, SealError
from palm_torch.files import read_bounded, write_atomically

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
    for path in (tmp_path / "a\0b", tmp_path / "a\0b" / "file"):
        with pytest.raises(SealError, match="cannot write here: embedded null byte"):
            write_atomically(path, [b""], error=SealError)
    assert names(tmp_path) == []


def written_while_looking(tmp_path: Path) -> list[str]:
    seen: list[str] = []

    def chunks() -> Iterator[bytes]:
        yield b"half"
        seen.extend(names(tmp_path))

    write_atomically(tmp_path / "evidence.json", chunks(), error=SealError)
    assert names(tmp_path) == ["evidence.json"]
    return seen


def test_what_is_being_written_has_no_name(tmp_path: Path) -> None:
    assert written_while_looking(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, None])
def test_where_files_need_names_it_is_hidden_and_says_what_it_will_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int | None
) -> None:
    real = os.open

    def without(path: Any, flags: int, *rest: Any) -> int:
        if number is not None and flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(number, "not here")
        return real(path, flags, *rest)

    monkeypatch.setattr(os, "open", without)
    if number is None:  # no /proc
        monkeypatch.setattr(Path, "is_dir", lambda _path: False)
    (name,) = written_while_looking(tmp_path)
    assert name.startswith(".evidence.json.")
    assert name.endswith(".tmp")


def test_another_refusal_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_words: Any) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(SealError, match="cannot write here: Read-only file system"):
        write_atomically(tmp_path / "file", [b""], error=SealError)


def test_a_link_in_the_place_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"mine")
    (tmp_path / "file").symlink_to(tmp_path / "other")
    write_atomically(tmp_path / "file", [b"new"], error=SealError)
    assert (tmp_path / "other").read_bytes() == b"mine"
    assert (tmp_path / "file").read_bytes() == b"new"
    assert not (tmp_path / "file").is_symlink()


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/urandom")):
        with pytest.raises(SealError, match="cannot read the key: expected a regular file, got a pipe"):
            read_bounded(path, what="the key", max_bytes=4, error=SealError)


def test_a_file_is_read_up_to_its_limit_and_no_further(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_bounded(path, what="the key", max_bytes=5, error=SealError) == b"12345"
    with pytest.raises(SealError) as caught:
        read_bounded(path, what="the key", max_bytes=4, error=SealError)
    assert str(caught.value) == f"{path}: the key: expected at most 4 bytes, got more"


def test_of_a_large_file_no_more_is_read_than_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as stream:
        stream.truncate(16 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="the key: expected at most 4 bytes, got more"):
            read_bounded(path, what="the key", max_bytes=4, error=DataError)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 4 << 20


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    for path, reason in ((tmp_path, "Is a directory"), (Path("a\0b"), "embedded null byte")):
        with pytest.raises(SealError) as caught:
            read_bounded(path, what="the key", max_bytes=4, error=SealError)
        assert str(caught.value) == f"{path}: cannot read the key: {reason}"


def test_nothing_stays_of_a_process_that_is_killed(tmp_path: Path) -> None:
    program = """if True:
        import os, pathlib, signal, sys
        from palm_torch.errors import SealError
        from palm_torch.files import write_atomically
        def chunks():
            yield bytes(1 << 20)
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        write_atomically(pathlib.Path(sys.argv[1]), chunks(), error=SealError)
    """
    done = subprocess.run([sys.executable, "-c", program, tmp_path / "file"], check=False)
    assert done.returncode == -signal.SIGTERM
    assert names(tmp_path) == []
