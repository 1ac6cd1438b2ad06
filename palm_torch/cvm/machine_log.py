"""The machine's list of what extended RTMR[3] since it was started: one file, a digest in hex on each line.

RTMR[3] outlives the program that extended it, so whoever comes next has to say what is in it already. The
register itself tells whether the list is right: replayed, it must give the register's value.

A digest is written down before the register is extended with it. A program that dies in between leaves a
last line that the register knows nothing of, or half a line; both are told by replaying, and taken back.
The other order would leave a register that nothing explains until the machine is started again.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch.cvm import eventlog, quote
from palm_torch.errors import AttesterError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

MAX_DIGESTS: Final = 100_000
"""Longest list, in digests: as many as the event log of one run may have."""

LINE_BYTES: Final = 2 * quote.REGISTER_BYTES + 1

_MAX_BYTES: Final = MAX_DIGESTS * LINE_BYTES
_LINE: Final = re.compile(rb"[0-9a-f]{96}\n")
_FILE_MODE: Final = 0o644
_OTHERS_WRITE: Final = 0o022


@dataclass(frozen=True, slots=True)
class Lines:
    """The list as it was found.

    Attributes:
        digests: Those of whole lines, 48 bytes each.
        torn: Whether half a line follows them.
    """

    digests: tuple[bytes, ...]
    torn: bool

    def explain(self, after_boot: bytes, register: bytes, *, path: Path) -> tuple[bytes, ...]:
        """Returns the digests that did extend the register: all, or all but a last one never carried out.

        Args:
            after_boot: The register as the boot left it, 48 bytes.
            register: What it holds now, 48 bytes.
            path: Where the list lies, for messages.

        Raises:
            AttesterError: If neither leads to the register.
        """
        before = replayed(after_boot, self.digests[:-1])
        value = replayed(before, self.digests[-1:])
        if value == register:
            return self.digests
        if before == register and not self.torn:
            return self.digests[:-1]
        raise AttesterError(
            f"RTMR[3] holds {register.hex()}, but {path} and the boot log replay to {value.hex()}: something "
            f"else has extended it, or the list was changed; evidence from this machine would be rejected: "
            f"start it again, and let nothing but palm-torch extend RTMR[3]"
        )


class MachineLog:
    """The file, opened by the one session that may write it.

    Args:
        path: The file; made if it is missing.

    Raises:
        AttesterError: If it cannot be opened, is not a plain file of this user's, or others may write it.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        with _told(path, "opened"):
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(path, flags, _FILE_MODE)
        self._open = True
        try:
            check_own(path, os.fstat(self._descriptor))
        except BaseException:
            self.close()
            raise

    def read(self) -> Lines:
        """Returns what stands in the file.

        Raises:
            AttesterError: If it cannot be read, is too long or holds a line that nothing here writes.
        """
        with _told(self.path, "read"):
            size = os.fstat(self._descriptor).st_size
            data = os.pread(self._descriptor, min(size, _MAX_BYTES + 1), 0)
        return parse(data, path=self.path)

    def keep(self, count: int) -> None:
        """Cuts the file after its first `count` lines.

        Raises:
            AttesterError: If it cannot be cut.
        """
        with _told(self.path, "written"):
            os.ftruncate(self._descriptor, count * LINE_BYTES)
            os.fsync(self._descriptor)

    def append(self, digest: bytes, *, count: int) -> None:
        """Writes a digest down after the first `count` lines, and through to the disk.

        If it fails, part of the line may be there; the next one overwrites it.

        Raises:
            AttesterError: If the file is full or cannot be written.
        """
        if count >= MAX_DIGESTS:
            raise AttesterError(
                f"{self.path}: holds {MAX_DIGESTS} digests, the most it may; start the machine again"
            )
        line = digest.hex().encode("ascii") + b"\n"
        with _told(self.path, "written"):
            written = os.pwrite(self._descriptor, line, count * LINE_BYTES)
            os.fsync(self._descriptor)
        if written != len(line):
            raise AttesterError(f"{self.path}: took {written} of {len(line)} bytes: is its file system full?")

    def close(self) -> None:
        """Closes the file; may be called again."""
        if self._open:
            self._open = False
            os.close(self._descriptor)


def read_beside(path: Path) -> Lines:
    """Returns what stands in the file, for a session that does not write it; nothing where there is none.

    Raises:
        AttesterError: If it is there but cannot be read, or holds a line that nothing here writes.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return Lines(digests=(), torn=False)
    except OSError as error:
        raise _failed(path, "opened", error) from error
    with _told(path, "read"), open(descriptor, "rb") as stream:  # noqa: PTH123 (a descriptor is no path)
        data = stream.read(_MAX_BYTES + 1)
    return parse(data, path=path)


def parse(data: bytes, *, path: Path) -> Lines:
    """Parses the content of the file at `path`.

    Raises:
        AttesterError: If it is too long, or a whole line is not 96 lower-case hex digits.
    """
    if len(data) > _MAX_BYTES:
        raise AttesterError(f"{path}: expected at most {MAX_DIGESTS} lines, got more")
    whole, rest = divmod(len(data), LINE_BYTES)
    lines = [data[at * LINE_BYTES : (at + 1) * LINE_BYTES] for at in range(whole)]
    for number, line in enumerate(lines, start=1):
        if not _LINE.fullmatch(line):
            raise AttesterError(f"{path}: line {number}: expected 96 hex digits, got {line[:40]!r}")
    return Lines(digests=tuple(bytes.fromhex(line[:-1].decode("ascii")) for line in lines), torn=bool(rest))


def replayed(after_boot: bytes, digests: Sequence[bytes]) -> bytes:
    """Returns what RTMR[3] holds after the boot and these digests, 48 bytes."""
    value = after_boot
    for digest in digests:
        value = eventlog.extended(value, digest)
    return value


def check_own(path: Path, status: os.stat_result) -> None:
    """Checks that a file or directory is this user's and that nobody else may write it.

    Raises:
        AttesterError: If it is not so.
    """
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        raise AttesterError(f"{path}: is not what it should be; move it away")
    if status.st_uid != os.geteuid():
        raise AttesterError(f"{path}: belongs to user {status.st_uid}, expected {os.geteuid()}")
    if status.st_mode & _OTHERS_WRITE:
        raise AttesterError(
            f"{path}: others may write it (mode {stat.S_IMODE(status.st_mode):04o}): "
            f"what it says could be anybody's; start the machine again, or set its mode right"
        )


@contextlib.contextmanager
def _told(path: Path, done: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _failed(path, done, error) from error


def _failed(path: Path, done: str, error: OSError) -> AttesterError:
    return AttesterError(
        f"{path}: could not be {done}: {error.strerror or error}; the list of what extended RTMR[3] lies "
        f"there, and without it evidence of this machine cannot be checked"
    )
