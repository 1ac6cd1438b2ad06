"""A file is written whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from palm_torch.errors import DataError, SealError
from palm_torch.files import is_same, read_bounded, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_with_its_content_and_mode(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, [b"one ", b"two"], error=SealError)
    assert path.read_bytes() == b"one two"
    write_atomically(path, [], error=SealError, mode=0o600)
    assert path.read_bytes() == b""
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(tmp_path) == ["file"]


@pytest.fixture
def umask() -> Iterator[Callable[[int], int]]:
    before = os.umask(0o022)
    yield os.umask
    os.umask(before)


@pytest.mark.parametrize("proc", ["/proc", None])
@pytest.mark.parametrize(("mask", "mode"), [(0o077, 0o600), (0o027, 0o640), (0o022, 0o644), (0, 0o666)])
def test_others_may_do_what_the_process_lets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: Any, proc: str | None, mask: int, mode: int
) -> None:
    if proc is None:
        monkeypatch.setattr(Path, "is_dir", lambda _path: False)
    umask(mask)
    write_atomically(tmp_path / "file", [b"data"], error=SealError)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode
    write_atomically(tmp_path / "file", [b"data"], error=SealError, mode=0o644)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o644


@pytest.mark.parametrize("said", [b"Name:\tpython\n", None])
def test_where_nobody_says_what_others_may_do_they_may_do_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: Any, said: bytes | None
) -> None:
    def status(_path: Path) -> bytes:
        if said is None:
            raise PermissionError(errno.EACCES, "hidden")
        return said

    umask(0)
    monkeypatch.setattr(Path, "read_bytes", status)
    write_atomically(tmp_path / "file", [b"data"], error=SealError)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


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
    with pytest.raises(SealError, match="cannot write here: Is a directory"):
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


def test_a_link_that_leads_nowhere_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").symlink_to(tmp_path / "missing")
    write_atomically(tmp_path / "file", [b"new"], error=SealError)
    assert (tmp_path / "file").read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


def special(folder: Path) -> dict[str, Path]:
    """Makes places that no file may take; what is not ours stands behind a link, in case one does."""
    made = {name: folder / name for name in ("pipe", "socket", "folder", "device", "stdout", "itself")}
    os.mkfifo(made["pipe"])
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(made["socket"]))
    made["folder"].mkdir()
    made["device"].symlink_to("/dev/null")
    made["stdout"].symlink_to("/proc/self/fd/1")
    made["itself"].symlink_to(made["itself"])
    return made


SPECIAL = {
    "pipe": "expected a regular file, got a pipe, device or socket",
    "socket": "expected a regular file, got a pipe, device or socket",
    "folder": "Is a directory",
    "device": "expected a regular file, got a pipe, device or socket",
    "stdout": "expected a regular file, got a link into /proc",
    "itself": "Too many levels of symbolic links",
}


@pytest.mark.parametrize("what", sorted(SPECIAL))
def test_what_is_no_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's name is short
    path = special(Path())[what]
    before = path.lstat()
    with pytest.raises(SealError) as caught:
        write_atomically(path, iter([b"never"]), error=SealError)
    assert str(caught.value) == f"{path}: cannot write here: {SPECIAL[what]}"
    assert path.lstat() == before
    assert names(tmp_path) == sorted(SPECIAL)


def test_what_came_there_meanwhile_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def slow() -> Iterator[bytes]:
        yield b"data"
        os.mkfifo(path)

    with pytest.raises(SealError) as caught:
        write_atomically(path, slow(), error=SealError)
    assert str(caught.value) == f"{path}: could not be written: {SPECIAL['pipe']}"
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert names(tmp_path) == ["file"]


def test_one_file_under_several_names(tmp_path: Path) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_bytes(b"same")
    other.write_bytes(b"same")
    (tmp_path / "hard").hardlink_to(path)
    (tmp_path / "soft").symlink_to(path)
    for name in ("file", "hard", "soft", "../" + tmp_path.name + "/file"):
        assert is_same(path, tmp_path / name)
    for name in ("other", "missing", "a\0b"):
        assert not is_same(path, tmp_path / name)
        assert not is_same(tmp_path / name, path)


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
