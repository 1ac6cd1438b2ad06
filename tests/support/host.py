"""The host, as a process of its own: it rewrites files when it is told to, or all the time."""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

EVENTS = frozenset({"open", "mmap.__new__", "os.scandir", "os.listdir", "os.rename", "os.chmod"})
"""Audit events at which files are looked at or made."""
_watchers: list[Callable[[], None]] = []

_OBEYING = textwrap.dedent("""
    import json, os, sys
    for line in sys.stdin:
        changes, way = json.loads(line)
        for path, content in changes:
            content = bytes.fromhex(content)
            if way == "in place":
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
                os.pwrite(descriptor, content, 0)
                if os.fstat(descriptor).st_size > len(content):
                    os.ftruncate(descriptor, len(content))
                os.close(descriptor)
            else:
                with open(path + ".new", "wb") as stream:
                    stream.write(content)
                os.replace(path + ".new", path)
        print("done", flush=True)
""")

_RESTLESS = textwrap.dedent("""
    import itertools, json, os, random, sys
    chance = random.Random(1)
    told = json.loads(sys.stdin.readline())
    pairs = [(os.open(path, os.O_WRONLY), bytes.fromhex(a), bytes.fromhex(b)) for path, a, b in told]
    print("begun", flush=True)
    while True:
        descriptor, honest, other = chance.choice(pairs)
        begin = chance.randrange(len(honest))
        end = begin + chance.choice([1, 8, 64, 4096])
        for content in (other, honest):
            os.pwrite(descriptor, content[begin:end], begin)
""")


@contextlib.contextmanager
def watching(watcher: Callable[[], None]) -> Iterator[None]:
    """Calls a function just before this process opens, maps, lists or renames anything."""
    _install()
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.clear()


@functools.cache
def _install() -> None:
    sys.addaudithook(_audit)  # for good: hooks cannot be taken away


def _audit(event: str, _arguments: tuple[Any, ...]) -> None:
    if _watchers and event in EVENTS:
        watcher = _watchers.pop()  # what it does itself is no moment
        watcher()
        _watchers.append(watcher)


class Host:
    """A process that writes files as it is told, and says when it has."""

    def __init__(self) -> None:
        command = [sys.executable, "-I", "-S", "-c", _OBEYING]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def write(self, changes: dict[Path, bytes], *, way: str = "in place") -> None:
        """Writes these files, in place (whoever has them mapped sees it) or as new files of their names."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        told = [[str(path), content.hex()] for path, content in changes.items()]
        self._process.stdin.write(json.dumps([told, way]).encode() + b"\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == b"done\n"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


class RestlessHost:
    """A process that writes pieces of other files over these and back, as fast as it can.

    Args:
        pairs: Path → its honest content and another of the same size.
    """

    def __init__(self, pairs: dict[Path, tuple[bytes, bytes]]) -> None:
        command = [sys.executable, "-I", "-S", "-c", _RESTLESS]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._told = [[str(path), a.hex(), b.hex()] for path, (a, b) in pairs.items()]

    def __enter__(self) -> Self:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(self._told).encode() + b"\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == b"begun\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
