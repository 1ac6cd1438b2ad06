"""Files that a script reads by itself, hashed when it opens them.

Under ``palm-torch run`` an unmodified script reads its own data. Each regular file that it or a package opens
for reading through Python (``np.memmap`` and `sqlite3` included) is listed with the SHA-256 it had at that
moment. What has no digest is listed without one: pipes, devices, descriptors and a standard input that were
there before the script, and files that could not be hashed.

What this proves: which files, with which content, the script had before it when it opened them. What it does
not: that these bytes were used, or how often, or that the same bytes came when they were read; a mapped file
may change afterwards. Not seen are files that native code opens by itself (Rust and C++ readers,
``torch.save``, ``torch.jit.load``), sockets, pipes that the script makes, what processes open that are no
workers of `palm_torch.DataLoader`, and a file that comes into being between this look at it and the
script's; of a path relative to a descriptor (``dir_fd``) Python does not tell the folder, and the file of
that name in the working folder is listed in its place. Files of datasets with a salt, and what code opens
while it reads for one, are listed without a digest, which would let others test what they guess of them.
Left out are the standard library, installed files that hold what their RECORD says, the kernel's own files
under their own names, what palm-torch reads (it has its own account of it), and sources that `linecache`
shows the lines of, while their bytes are those that were compiled. Files that the script wrote itself are
listed like any other when it reads them: the host may have written to them since.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from typing import TYPE_CHECKING, Final

from palm_torch import escaping, private_files
from palm_torch.digest import SHA256, Digest
from palm_torch.hooks import accounted, auditing, importing, installed
from palm_torch.roles import EMPTY, OPENED, Artifact, Source

if TYPE_CHECKING:
    from io import BufferedReader

PREFIX: Final = "opened:"

MAX_FILES: Final = 1_000
"""Files that are hashed and listed; further openings are counted, and that is one entry of its own."""

MAX_NAME_CHARACTERS: Final = 150
NOT_LISTED: Final = "further openings not listed"
NOT_HASHED: Final = "(could not be hashed)"
PRIVATE: Final = "(private)"
STANDARD_INPUT: Final = "(standard input)"

_KERNEL: Final = ("/proc/", "/sys/")
_HARMLESS: Final = frozenset({os.makedev(1, minor) for minor in (3, 5, 7, 8, 9)})
"""Linux's numbers of ``null``, ``zero``, ``full``, ``random`` and ``urandom``."""
_TERMINALS: Final = frozenset({4, 5, *range(136, 144)})
"""Linux's major numbers of consoles and terminals."""


class OpenedFiles(auditing.Listener):
    """What one script opened for reading.

    Args:
        folder: Folder that names are relative to.
    """

    def __init__(self, folder: str) -> None:
        super().__init__({"open": self._open, "sqlite3.connect": self._connect})
        self._folder = f"{os.path.realpath(folder)}/"
        self._records = accounted.Records()
        self._inherited = _open_descriptors()
        self._vouched: set[tuple[object, ...]] = set()
        self._seen: dict[tuple[object, ...], None] = {}
        self._found: dict[str, bytes | None] = {}
        self._places: dict[str, str] = {}
        self._told: dict[tuple[str, bytes | None], None] = {}
        self._further = 0

    def result(self) -> dict[str, Artifact]:
        """Returns the files as inputs of the run: role → digest."""
        with self._lock:
            listed, further = self._without_private(), self._further
        if further:
            listed[f"{further} {NOT_LISTED}"] = None
        return {PREFIX + name: _artifact(digest) for name, digest in listed.items()}

    def note_standard_input(self) -> None:
        """Lists standard input, if it is no terminal and can bring something: Python tells of no reading."""
        if (state := _state_of(0)) is not None and not _is_harmless(state):
            self.take(STANDARD_INPUT, None)

    def listed(self) -> int:
        """Returns how many entries `told` has."""
        return len(self._told)

    def told(self) -> tuple[tuple[str, bytes | None], ...]:
        """Returns what was listed, in order, as `take` takes it in another process."""
        return tuple(self._told)

    def take(self, name: str, digest: bytes | None, place: str | None = None) -> None:
        """Lists a file by its name and SHA-256; without one if there is none.

        Args:
            name: Its name.
            digest: Its SHA-256.
            place: Where it lies, without links, if it was opened in this process: it may turn out to be
                private.
        """
        with self._lock:
            if (name, digest) in self._told:
                return
            if len(self._found) >= MAX_FILES + 1:
                self._told.setdefault((NOT_LISTED, None))
                self._further += 1
                return
            self._told[name, digest] = None
            unique, number = name, 1
            while self._found.setdefault(unique, digest) != digest:
                unique = f"{name}#{(number := number + 1)}"
            if place is not None:
                self._places[unique] = place

    # What the interpreter tells ---------------------------------------------------------------------------

    def _open(self, path: object, mode: object, flags: object) -> None:
        frame = sys._getframe(3)  # noqa: SLF001 (documented)
        if not _reads(mode, flags) or accounted.is_ours(frame):
            return
        if isinstance(path, int):
            self._read_descriptor(path)
        elif (given := _absolute(path)) is not None:
            self._read(given, traceback=accounted.is_for_a_traceback(frame))

    def _connect(self, database: object) -> None:
        if accounted.is_ours(sys._getframe(3)):  # noqa: SLF001 (documented)
            return
        given = _absolute(database)
        if given is None or database in ("", ":memory:"):
            return
        name = os.fsdecode(database)  # type: ignore[arg-type]  # `_absolute` took it
        if name.startswith("file:"):
            self._list_without(name)
        else:
            self._read(given)

    # ------------------------------------------------------------------------------------------------------

    def _read_descriptor(self, number: int) -> None:
        state = _state_of(number)
        if state is None or _is_harmless(state):
            return
        if stat.S_ISREG(state.st_mode):
            link = f"/proc/self/fd/{number}"
            try:
                self._hash(link, os.readlink(link))  # noqa: PTH115 (text)
            except OSError:
                self._list_without(f"descriptor {number}")
        elif (state.st_dev, state.st_ino) in self._inherited:
            self._list_without(f"descriptor {number}")

    def _read(self, given: str, *, traceback: bool = False) -> None:
        if importing.in_library(given):
            return
        real = given
        try:
            real = os.path.realpath(given)
            state = os.stat(given)  # noqa: PTH116 (text; an open pipe would wait)
            if _is_harmless(state) or (given.startswith(_KERNEL) and real.startswith(_KERNEL)):
                return
            if stat.S_ISREG(state.st_mode):
                self._hash(given, real, traceback=traceback)
            else:
                self._list_without(real)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return  # the script is told the same: there is no such file
        except OSError:  # the script may get further than this did
            self._list_without(real)

    def _hash(self, path: str, real: str, *, traceback: bool = False) -> None:
        with open(path, "rb", opener=_open_without_waiting) as stream, self._lock:
            state = os.fstat(stream.fileno())
            if not stat.S_ISREG(state.st_mode):
                self._list_without(real)
                return
            key = (real, state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
            if key in self._seen:
                return
            record = self._records.find(real if path.startswith(_KERNEL) else path, real)
            if record is not None and key in self._vouched:
                return
            if record is None and not traceback and len(self._seen) >= MAX_FILES:
                self._told.setdefault((NOT_LISTED, None))
                self._further += 1
                return
            digest = _digest_of(stream)
            if record is not None and record[1] == digest:
                self._vouched.add(key)
                installed.vouch(record[0])
            elif not (traceback and importing.was_compiled(importing.resolved(path), digest)):
                self._seen[key] = None
                if private_files.is_being_read():
                    private_files.keep([real])
                if private_files.is_private(real):
                    self.take(f"{self._named(real)} {PRIVATE}", None)
                else:
                    self.take(self._named(real), digest, real)

    def _without_private(self) -> dict[str, bytes | None]:
        """Returns what was found, without the digests of files that turned out to be private since."""
        private = [name for name, place in self._places.items() if private_files.is_private(place)]
        listed = {name: digest for name, digest in self._found.items() if name not in private}
        for name in private:
            unique, number = f"{name} {PRIVATE}", 1
            while listed.setdefault(unique, None) is not None:
                unique = f"{name} {PRIVATE}#{(number := number + 1)}"
        return listed

    def _list_without(self, path: str) -> None:
        self.take(f"{self._named(path)} {NOT_HASHED}", None)

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


def _absolute(path: object) -> str | None:
    """Returns the path of what is being opened, links left as they are; None for what is no path."""
    if not isinstance(path, (str, bytes, os.PathLike)):
        return None
    try:
        return os.path.abspath(os.fsdecode(path))  # noqa: PTH100 (text)
    except FileNotFoundError:  # the working folder is gone, and with it what is in it
        return None


def _reads(mode: object, flags: object) -> bool:
    """Says whether a file is opened to be read."""
    if isinstance(mode, str):
        return "r" in mode or ("+" in mode and "a" in mode)
    bits = flags if isinstance(flags, int) else os.O_RDONLY
    return bits & os.O_ACCMODE != os.O_WRONLY and not bits & os.O_TRUNC


def _is_harmless(state: os.stat_result) -> bool:
    """Says whether nothing comes from a file that anybody chose: a folder, ``/dev/null``, a terminal, ..."""
    if stat.S_ISDIR(state.st_mode):
        return True
    if not stat.S_ISCHR(state.st_mode):
        return False
    return state.st_rdev in _HARMLESS or os.major(state.st_rdev) in _TERMINALS


def _state_of(descriptor: int) -> os.stat_result | None:
    try:
        return os.fstat(descriptor)
    except (OSError, OverflowError):
        return None


def _open_descriptors() -> frozenset[tuple[int, int]]:
    """Returns device and inode of all that this process has open."""
    states = (_state_of(int(name)) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208 (names only)
    return frozenset((state.st_dev, state.st_ino) for state in states if state is not None)


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
