"""Files: opened where they are files, read within a limit, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import io
    from collections.abc import Iterable

    from palm_torch.errors import PalmTorchError

_SHARED: Final = 0o666
_OWN: Final = 0o600
_OTHERS: Final = 0o077


def open_regular(path: Path) -> io.FileIO:
    """Opens a regular file for reading, unbuffered; a pipe is refused, for its reader may wait for ever.

    Raises:
        OSError: If it cannot be opened, or is no regular file.
        ValueError: If there is a zero byte in the path.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _check_regular(os.fstat(descriptor).st_mode)
        return open(descriptor, "rb", buffering=0)  # noqa: PTH123 (a descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def read_bounded(path: Path, *, what: str, max_bytes: int, error: type[PalmTorchError]) -> bytes:
    """Reads a whole regular file of limited size.

    Args:
        path: The file.
        what: What it holds, for messages.
        max_bytes: Largest accepted size, in bytes.
        error: Class of the error to raise.

    Raises:
        PalmTorchError: Of class `error`, if the file is missing, unreadable, no regular file or larger.
    """
    data = bytearray()
    try:
        with open_regular(path) as stream:
            while len(data) <= max_bytes and (part := stream.read(max_bytes + 1 - len(data))):
                data += part
    except (OSError, ValueError) as cause:  # ValueError: a zero byte in the path
        raise error(f"{path}: cannot read {what}: {getattr(cause, 'strerror', cause)}") from cause
    if len(data) > max_bytes:
        raise error(f"{path}: {what}: expected at most {max_bytes} bytes, got more")
    return bytes(data)


def write_atomically(
    path: Path, chunks: Iterable[bytes], *, error: type[PalmTorchError], mode: int | None = None
) -> None:
    """Writes a file beside its final place, flushes it to disk and renames it over.

    It has no name until it is whole, so that nothing is left even of a process that is killed. Where the file
    system cannot do that, it has a hidden one meanwhile.

    Only a regular file is replaced, and a link that leads to one or nowhere: the link, not what it leads to.
    A folder, device, pipe or socket is refused, and so are links to these and links into ``/proc``, such as
    ``/dev/stdout``. Nothing else could be put back.

    Args:
        path: Where the file shall be.
        chunks: Its content, in pieces of any size.
        error: Class of the error to raise when the file system refuses.
        mode: Permission bits of the new file; None for those that the process gives to every file (umask).

    Raises:
        PalmTorchError: Of class `error`, naming the file; nothing half-written stays behind.
    """
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}.tmp"
    try:
        _check_replaceable(path)
        descriptor, named = _create(temporary, _SHARED if mode is None else _OWN)
    except (OSError, ValueError) as cause:  # ValueError: a zero byte in the path
        raise error(f"{path}: cannot write here: {getattr(cause, 'strerror', cause)}") from cause
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.writelines(chunks)
            stream.flush()
            if mode is not None:
                os.fchmod(descriptor, mode)
            elif not named:
                os.fchmod(descriptor, _SHARED & ~_umask())
            os.fsync(descriptor)
            if not named:  # with the folder's descriptor left out, Python would link the link itself
                os.link(f"/proc/self/fd/{descriptor}", temporary, src_dir_fd=descriptor)
        _check_replaceable(path)  # making the content may have taken an hour
        temporary.replace(path)
    except BaseException as cause:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        if isinstance(cause, OSError):
            raise error(f"{path}: could not be written: {cause.strerror}") from cause
        raise


def is_same(path: Path, other: Path) -> bool:
    """Says whether two paths lead to one file, by whatever names; a missing file is no other one."""
    try:
        return path.samefile(other)
    except (OSError, ValueError):  # whoever opens them says why
        return False


def _check_replaceable(path: Path) -> None:
    """Refuses a place where a new file would take that of something else than a file."""
    try:
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            if path.readlink().is_relative_to("/proc"):
                raise OSError(errno.EINVAL, "expected a regular file, got a link into /proc")
            status = path.stat()
    except FileNotFoundError:  # nothing there, or a link that leads nowhere
        return
    _check_regular(status.st_mode)


def _umask() -> int:
    """Returns the bits that no new file gets: `os.umask` cannot be asked without setting it for all threads.

    Linux before 6.0 forgets them for files without a name, on file systems without access control lists.
    """
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_bytes().splitlines():
            if line.startswith(b"Umask:"):
                return int(line.split()[1], 8)
    return _OTHERS


def _check_regular(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "expected a regular file, got a pipe, device or socket")


def _create(temporary: Path, mode: int) -> tuple[int, bool]:
    """Opens a new file where `temporary` would be; returns whether it has that name already."""
    with contextlib.suppress(FileNotFoundError):
        temporary.lstat()  # whether the name can be one shows now, and not when all is written
    if Path("/proc/self/fd").is_dir():
        try:
            flags = os.O_TMPFILE | os.O_WRONLY | os.O_CLOEXEC
            return os.open(temporary.parent, flags, mode), False
        except OSError as refused:
            if refused.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise
    return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), True
