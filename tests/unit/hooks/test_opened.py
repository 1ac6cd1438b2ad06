"""Files that a script opens by itself."""

from __future__ import annotations

import base64
import hashlib
import linecache
import os
import sqlite3
import subprocess
import threading
import tokenize
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import pytest

from palm_torch.hooks import auditing, importing, installed, opened
from palm_torch.roles import OPENED, Source

if TYPE_CHECKING:
    from io import BufferedReader
    from pathlib import Path


@pytest.fixture(autouse=True)
def _traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets coverage see inside the audit hook, which Python does not trace unless told."""
    monkeypatch.setattr(auditing._audit, "__cantrace__", True, raising=False)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode() * 8)
    return tmp_path


@pytest.fixture
def files(folder: Path) -> opened.OpenedFiles:
    return opened.OpenedFiles(str(folder))


def told(files: opened.OpenedFiles) -> dict[str, bytes | None]:
    found = files.result()
    assert all(item.source is Source.REPORTED for item in found.values())
    return {
        role.removeprefix(opened.PREFIX): item.digest and item.digest.value for role, item in found.items()
    }


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def test_each_file_opened_for_reading_is_listed_once(files: opened.OpenedFiles, folder: Path) -> None:
    (folder / "below").mkdir()
    (folder / "below/c").write_bytes(b"c")
    with auditing.listen(files):
        (folder / "a").read_bytes()
        (folder / "a").read_bytes()
        np.memmap("b", dtype=np.uint8, mode="r")
        os.close(os.open(b"below/c", os.O_RDONLY))
        with pytest.raises(FileNotFoundError):
            (folder / "missing").read_bytes()
        with pytest.raises(ValueError, match="null"):
            open("a\0b")  # noqa: PTH123, SIM115 (never opened)
    (folder / "b").write_bytes(b"later")
    assert told(files) == {"a": sha(b"a" * 8), "b": sha(b"b" * 8), "below/c": sha(b"c")}
    assert {item.kind for item in files.result().values()} == {OPENED}


def test_outside_the_block_nothing_is_heard(files: opened.OpenedFiles, folder: Path) -> None:
    with auditing.listen(files):
        pass
    (folder / "a").read_bytes()
    assert told(files) == {}


def test_a_file_that_changed_is_listed_with_both_digests(files: opened.OpenedFiles, folder: Path) -> None:
    with auditing.listen(files):
        (folder / "a").read_bytes()
    (folder / "a").write_bytes(b"other")
    with auditing.listen(files):
        (folder / "a").read_bytes()
    assert told(files) == {"a": sha(b"a" * 8), "a#2": sha(b"other")}


def test_what_the_script_wrote_itself_is_listed_when_it_is_read(
    files: opened.OpenedFiles, folder: Path
) -> None:
    with auditing.listen(files):
        (folder / "new").write_bytes(b"1")
        (folder / "partial").write_bytes(b"2")
        (folder / "partial").rename("whole")
        assert told(files) == {}
        (folder / "whole").read_bytes()
        with (folder / "a").open("r+b") as stream:  # read as it was, and written to
            stream.write(b"x")
        (folder / "a").read_bytes()
        with (folder / "b").open("ab"):
            pass
        (folder / "b").read_bytes()
        with (folder / "b").open("a+b"):
            pass
        os.close(os.open("trunc", os.O_RDWR | os.O_CREAT | os.O_TRUNC))
    assert told(files) == {
        "whole": sha(b"2"),
        "a": sha(b"a" * 8),
        "a#2": sha(b"x" + b"a" * 7),
        "b": sha(b"b" * 8),
    }


def test_places_that_are_not_the_scripts_are_left_out(files: opened.OpenedFiles, folder: Path) -> None:
    with auditing.listen(files):
        for path in ("/proc/self/status", os.__file__, np.__file__, np.__file__, "/dev/urandom"):
            with open(path, "rb"):  # noqa: PTH123 (short)
                pass
        (folder / "a").stat()
        descriptor = os.open(os.devnull, os.O_RDONLY)
        os.fdopen(descriptor).close()
        os.close(os.open(folder, os.O_RDONLY))
        assert subprocess.check_output(["echo", "x"], text=True) == "x\n"  # through a pipe that is its own
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fdopen(9999)
    assert told(files) == {}
    assert "numpy" in {item.name for item in installed.vouched()}


def test_what_is_no_regular_file_is_listed_without_a_digest(files: opened.OpenedFiles, folder: Path) -> None:
    pipe = folder / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(b"x"))
    with auditing.listen(files):
        writer.start()
        assert pipe.read_bytes() == b"x"
        (folder / "comm").symlink_to("/proc/self/comm")
        (folder / "comm").read_bytes()
        (folder / "loop").symlink_to("loop")
        with pytest.raises(OSError, match="loop"):
            (folder / "loop").read_bytes()
    writer.join()
    assert {name: digest is None for name, digest in told(files).items()} == {
        "pipe (could not be hashed)": True,
        "comm": False,
        "loop (could not be hashed)": True,
    }


def test_descriptors_that_were_there_before_and_files_without_a_name(folder: Path) -> None:
    reading, writing = os.pipe()
    with (folder / "a").open("rb") as stream:
        files = opened.OpenedFiles(str(folder))
        (folder / "a").unlink()
        with auditing.listen(files):
            os.fdopen(reading, "rb").close()
            os.fdopen(stream.fileno(), "rb", closefd=False).close()
            with open(f"/dev/fd/{stream.fileno()}", "rb") as again:  # noqa: PTH123 (no path)
                assert again.read() == b"a" * 8
            own, other = os.pipe()
            os.fdopen(own, "rb").close()
    os.close(writing)
    os.close(other)
    assert told(files) == {
        f"descriptor {reading} (could not be hashed)": None,
        "a (deleted)": sha(b"a" * 8),
    }


@pytest.mark.parametrize("path", [os.devnull, "a"])
@pytest.mark.usefixtures("folder")
def test_standard_input(files: opened.OpenedFiles, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    state = os.stat(path)  # noqa: PTH116 (as the code does)
    monkeypatch.setattr(opened, "_state_of", lambda _: state)
    files.note_standard_input()
    assert told(files) == ({"(standard input)": None} if path == "a" else {})


def test_databases(files: opened.OpenedFiles, folder: Path) -> None:
    with auditing.listen(files):
        for name in (":memory:", "b.db", "file:c.db"):
            sqlite3.connect(name, uri=name.startswith("file:")).close()
        (folder / "b.db").write_bytes(b"")
        exec("connect('b.db').close()", {"__name__": "palm_torch.x", "connect": sqlite3.connect})  # noqa: S102
        assert told(files) == {"file:c.db (could not be hashed)": None}
        sqlite3.connect(b"b.db").close()
        auditing._audit("sqlite3.connect", (None,))
    assert told(files)["b.db"] == sha(b"")


def test_an_installed_file_is_excused_by_its_digest_at_its_own_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, place = folder / "real", folder / "link"
    root.mkdir()
    place.symlink_to(root)
    monkeypatch.syspath_prepend(place)
    monkeypatch.setattr(installed, "_vouched", {})
    (root / "d-1.dist-info").mkdir()
    digest = base64.urlsafe_b64encode(sha(b"{}")).rstrip(b"=").decode()
    record = f"x.json,sha256={digest},2\ny.json,sha256={digest},2\nz.json,,\nd-1.dist-info/RECORD,,\n"
    (root / "d-1.dist-info/RECORD").write_text(record)
    for name in ("x.json", "y.json", "z.json"):
        (root / name).write_bytes(b"{}")
    (folder / "mine.json").symlink_to(root / "x.json")
    (root / "w.json").symlink_to("x.json")
    files = opened.OpenedFiles(str(folder))
    with auditing.listen(files):
        for path in (place / "x.json", root / "x.json", place / "d-1.dist-info/RECORD"):
            path.read_bytes()
        assert told(files) == {}
        assert [item.name for item in installed.vouched()] == ["d"]
        (place / "z.json").read_bytes()
        (root / "y.json").write_bytes(b"[]")
        (place / "y.json").read_bytes()
        (folder / "mine.json").read_bytes()
    assert told(files) == {"real/z.json": sha(b"{}"), "real/y.json": sha(b"[]"), "real/x.json": sha(b"{}")}


def test_a_file_that_is_leased_is_listed(files: opened.OpenedFiles, folder: Path) -> None:
    def refuse(*_: object) -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with pytest.MonkeyPatch.context() as patched, auditing.listen(files):
        patched.setattr(opened, "_open_without_waiting", refuse)
        (folder / "a").read_bytes()
    assert told(files) == {"a (could not be hashed)": None}


def test_what_a_signal_handler_opens_while_another_file_is_hashed(
    files: opened.OpenedFiles, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = opened._digest_of

    def interrupted(stream: BufferedReader) -> bytes:
        if stream.name == str(folder / "a"):
            names = {"__name__": "script", "path": folder / "b"}
            exec(compile("path.read_bytes()", "/x/script.py", "exec"), names)  # noqa: S102 (a frame of its own)
        return plain(stream)

    monkeypatch.setattr(opened, "_digest_of", interrupted)
    with auditing.listen(files):
        (folder / "a").read_bytes()
    assert told(files).keys() == {"a", "b"}


def test_a_copy_in_a_worker_tells_the_run_what_it_opened(files: opened.OpenedFiles, folder: Path) -> None:
    here = opened.OpenedFiles(str(folder))
    with auditing.listen(files):
        (folder / "a").read_bytes()
    for _ in range(2):
        for name, digest in files.told():
            here.take(name, digest)
    assert told(here) == told(files) == {"a": sha(b"a" * 8)}
    assert (here.listed(), here.told()) == (1, files.told())


def test_listed_files_are_limited_too(files: opened.OpenedFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "MAX_FILES", 1)
    for number in range(4):
        files.take(f"n{number}", None)
    assert told(files) == {"n0": None, "n1": None, "2 further openings not listed": None}


def test_what_palm_torch_reads_is_left_out(files: opened.OpenedFiles, folder: Path) -> None:
    names = {"__name__": "palm_torch.data.reader", "path": folder / "a"}
    with auditing.listen(files):
        exec("path.read_bytes()", names)  # noqa: S102 (a frame of ours)
        exec("path.read_bytes()", {**names, "__name__": "palm_torchy", "path": folder / "b"})  # noqa: S102
    assert told(files).keys() == {"b"}


@pytest.mark.parametrize("below", ["palm_torch.attesting.launch", "palm_torch.data.loader"])
def test_what_a_package_opens_that_palm_torch_called_is_the_scripts(
    files: opened.OpenedFiles, folder: Path, below: str
) -> None:
    package = compile("def read():\n    path.read_bytes()\n", "/x/site-packages/pack.py", "exec")
    names = {"__name__": "pack", "path": folder / "a"}
    exec(package, names)  # noqa: S102 (a frame of a package)
    with auditing.listen(files):
        exec("read()", {"__name__": below, "read": names["read"]})  # noqa: S102 (a frame of ours)
    assert told(files) == {"a": sha(b"a" * 8)}


def test_what_the_launcher_runs_is_not_palm_torch(files: opened.OpenedFiles, folder: Path) -> None:
    names = {"__name__": "palm_torch.attesting.launch", "path": folder / "a"}
    with auditing.listen(files):
        exec("path.read_bytes()", names)  # noqa: S102 (a frame of the launcher)
    assert told(files) == {"a": sha(b"a" * 8)}


def test_sources_are_left_out_where_lines_of_what_was_compiled_are_shown(
    files: opened.OpenedFiles, folder: Path
) -> None:
    remove = importing.install()
    path = str(folder / "a")
    try:
        importing.note("script", path, b"a" * 8)
        with auditing.listen(files):
            for _ in range(2):
                linecache.clearcache()
                assert linecache.getlines(path) == ["a" * 8 + "\n"]
            assert told(files) == {}
            with tokenize.open(path):  # not for a traceback
                pass
            (folder / "a").write_bytes(b"edited")
            linecache.clearcache()
            linecache.getlines(path)
    finally:
        remove()
    assert told(files) == {"a": sha(b"a" * 8), "a#2": sha(b"edited")}


def test_names_are_printable_short_and_never_the_same(files: opened.OpenedFiles, folder: Path) -> None:
    apart = [folder.parent / f"{folder.name}-{side}" for side in "lr"]
    odd, long = folder / "line\nbreak", folder / ("x" * 200)
    odd.write_bytes(b"")
    long.write_bytes(b"")
    with auditing.listen(files):
        for number, side in enumerate(apart):
            side.mkdir()
            (side / "same").symlink_to(folder / "ab"[number])
            (side / "data").write_bytes(bytes([number]))  # written outside of what is heard below
    files = opened.OpenedFiles(str(folder))
    with auditing.listen(files):
        for path in (*(side / "data" for side in apart), apart[0] / "same", odd, long):
            path.read_bytes()
    assert told(files).keys() == {"data", "data#2", "a", "line\\u000abreak", "..." + "x" * 150}


def test_beyond_the_limit_openings_are_counted(
    files: opened.OpenedFiles, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opened, "MAX_FILES", 1)
    with auditing.listen(files):
        for name in ("a", "b", "b", "a"):
            (folder / name).read_bytes()
    assert told(files) == {"a": sha(b"a" * 8), "2 further openings not listed": None}


def test_another_process_tells_nothing(files: opened.OpenedFiles, folder: Path) -> None:
    files._process += 1
    with auditing.listen(files):
        (folder / "a").read_bytes()
    assert told(files) == {}


def test_a_file_that_cannot_be_read_to_its_end_is_listed_without_a_digest(
    files: opened.OpenedFiles, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torn(_stream: object) -> bytes:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched, auditing.listen(files):
        patched.setattr(opened, "_digest_of", torn)
        (folder / "a").read_bytes()
    with auditing.listen(files):
        (folder / "b").read_bytes()
    assert told(files) == {"a (could not be hashed)": None, "b": sha(b"b" * 8)}
    assert files.result()["opened:a (could not be hashed)"].kind == "none"


def test_a_list_asked_for_while_others_open_files_waits_for_them(
    files: opened.OpenedFiles, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashing, go_on = threading.Event(), threading.Event()
    plain = opened._digest_of

    def slow(stream: BinaryIO) -> bytes:
        hashing.set()
        assert go_on.wait(60)
        return plain(stream)

    monkeypatch.setattr(opened, "_digest_of", slow)
    found: list[dict[str, bytes | None]] = []
    with auditing.listen(files):
        reader = threading.Thread(target=(folder / "a").read_bytes)
        reader.start()
        assert hashing.wait(60)
        asker = threading.Thread(target=lambda: found.append(told(files)))
        asker.start()
        asker.join(0.2)
        waited = asker.is_alive()
        go_on.set()
        for thread in (reader, asker):
            thread.join()
    assert waited
    assert found == [{"a": sha(b"a" * 8)}]
