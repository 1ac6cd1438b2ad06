"""Files that a script reads by itself, hashed when it opens them.

Under ``palm-torch run`` an unmodified script reads its own data. Each regular file it opens for reading
through Python (``np.memmap`` included) is listed with the SHA-256 it had at that moment.

What this proves: which files, with which content, the script had before it when it opened them. What it
does not: that these bytes were used, or how often, or that the same bytes came when they were read; a
mapped file may change afterwards. A file that cannot be read to its end is listed without a digest. Not
seen are files that native code opens by itself (Rust and C++ readers, ``torch.save``) and what worker
processes open; of a path relative to a descriptor (``dir_fd``) Python does not tell the folder, and the
file of that name in the working folder is listed in its place. Left out are the interpreter, the folders of
installed packages, the kernel's file systems, what palm-torch reads (it has its own account of it), and
sources whose bytes are those that the import hook compiled. Files that the script wrote itself are listed
like any other when it reads them: the host may have written to them since.
"""

from __future__ import annotations

import hashlib
import os
import site
import stat
import sys
import sysconfig
import threading
from typing import TYPE_CHECKING, Final

from palm_torch import escaping
from palm_torch.digest import SHA256, Digest
from palm_torch.hooks import auditing, importing
from palm_torch.roles import EMPTY, OPENED, Artifact, Source

if TYPE_CHECKING:
    from io import BufferedReader
    from types import FrameType

PREFIX: Final = "opened:"

MAX_FILES: Final = 1_000
"""Files that are hashed and listed; further openings are counted, and that is one entry of its own."""

MAX_NAME_CHARACTERS: Final = 150
NOT_LISTED: Final = "further openings not listed"
NOT_HASHED: Final = "(could not be hashed)"

_KERNEL: Final = ("/proc/", "/sys/", "/dev/")
_OURS: Final = "palm_torch."
_LAUNCHER: Final = "palm_torch.attesting.launch"


class OpenedFiles(auditing.Listener):
    """What one script opened for reading.

    Args:
        folder: Folder that names are relative to.
    """

    def __init__(self, folder: str) -> None:
        super().__init__({"open": self._open})
        self._folder = f"{os.path.realpath(folder)}/"
        self._lock = threading.RLock()
        self._excluded = _excluded()
        self._compiled: set[tuple[str, int, int, int, int]] = set()
        self._seen: dict[tuple[str, int, int, int, int], None] = {}
        self._found: dict[str, bytes | None] = {}
        self._further = 0

    def result(self) -> dict[str, Artifact]:
        """Returns the files as inputs of the run: role → digest."""
        with self._lock:
            listed, further = dict(self._found), self._further
        if further:
            listed[f"{further} {NOT_LISTED}"] = None
        return {PREFIX + name: _artifact(digest) for name, digest in listed.items()}

    def _open(self, path: object, mode: object, flags: object) -> None:
        name = _resolved(path)
        if name is None or name.startswith(self._excluded):
            return
        if _reads(mode, flags) and not _is_ours(sys._getframe(3)):  # noqa: SLF001 (documented)
            with self._lock:
                self._read(name)

    def _read(self, path: str) -> None:
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):  # noqa: PTH116 (an open pipe would wait)
                return
            stream = open(path, "rb", opener=_open_without_waiting)  # noqa: SIM115 (closed below)
        except (OSError, ValueError):
            return  # what cannot be opened is not opened by the script either, which is told why
        with stream:
            state = os.fstat(stream.fileno())
            key = (path, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
            if not stat.S_ISREG(state.st_mode) or key in self._seen or key in self._compiled:
                return
            if len(self._seen) >= MAX_FILES:
                self._further += 1
                return
            try:
                digest = _digest_of(stream)
            except OSError:  # the script may get further than this did
                self._seen[key] = None
                self._list(f"{self._named(path)} {NOT_HASHED}", None)
                return
        if importing.was_compiled(path, digest):
            self._compiled.add(key)
        else:
            self._seen[key] = None
            self._list(self._named(path), digest)

    def _list(self, name: str, digest: bytes | None) -> None:
        unique, number = name, 1
        while unique in self._found:
            if self._found[unique] == digest:
                return
            unique = f"{name}#{(number := number + 1)}"
        self._found[unique] = digest

    def _named(self, path: str) -> str:
        inside = path.startswith(self._folder)
        name = path.removeprefix(self._folder) if inside else os.path.basename(path)  # noqa: PTH119 (text)
        text = escaping.file_name(name)
        return text if len(text) <= MAX_NAME_CHARACTERS else f"...{text[-MAX_NAME_CHARACTERS:]}"


def _artifact(digest: bytes | None) -> Artifact:
    if digest is None:
        return Artifact(source=Source.REPORTED, kind=EMPTY, digest=None)
    return Artifact(source=Source.REPORTED, kind=OPENED, digest=Digest(SHA256, digest))


def _digest_of(stream: BufferedReader) -> bytes:
    return hashlib.file_digest(stream, "sha256").digest()


def _excluded() -> tuple[str, ...]:
    """Returns the folders of the kernel, the standard library and installed packages."""
    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    folders = {os.path.realpath(sysconfig.get_path(kind)) for kind in kinds}
    folders.add(os.path.realpath(site.getusersitepackages()))
    return (*_KERNEL, *sorted(f"{folder}/" for folder in folders))


def _resolved(path: object) -> str | None:
    """Returns the real path of what is being opened; None for descriptors."""
    if not isinstance(path, (str, bytes, os.PathLike)):
        return None
    try:
        return os.path.realpath(os.fsdecode(path))
    except (OSError, ValueError):  # ValueError: a zero byte in the path
        return None


def _reads(mode: object, flags: object) -> bool:
    """Says whether a file is opened to be read."""
    if isinstance(mode, str):
        return "r" in mode or ("+" in mode and "a" in mode)
    bits = flags if isinstance(flags, int) else os.O_RDONLY
    return bits & os.O_ACCMODE != os.O_WRONLY and not bits & os.O_TRUNC


def _is_ours(frame: FrameType | None) -> bool:
    """Says whether palm-torch itself opens a file: the nearest frame outside the standard library is ours.

    An installed package that palm-torch called, such as a dataset beneath its loader, is not; nor is what the
    launcher runs, which is the script's doing although a launcher's frame is beneath all of it.
    """
    while frame is not None:
        name, path = frame.f_globals.get("__name__", ""), frame.f_code.co_filename
        if isinstance(name, str) and name.startswith(_OURS):
            return name != _LAUNCHER
        if not path.startswith("<frozen") and not importing.in_library(path):
            return False
        frame = frame.f_back
    return False


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
