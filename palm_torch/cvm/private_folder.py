"""Where simulated machines keep their keys: a folder for one user alone, made whole or not at all.

Two processes that start at once agree on one content: each writes a folder of its own, the first to rename
it into place wins, and the other reads the winner's.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from palm_torch.errors import AttesterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MAX_FILE_BYTES: Final = 65_536
_DIRECTORY_MODE: Final = 0o700
_FILE_MODE: Final = 0o600
_OTHERS: Final = 0o077


def make(directory: Path, contents: Callable[[], Mapping[str, bytes]]) -> None:
    """Makes a folder with the files given, where there is none.

    Args:
        directory: The folder; its parents are made where they are missing.
        contents: What returns its files, name → bytes; called only if there is no folder.

    Raises:
        OSError: If it cannot be written.
    """
    if os.path.lexists(directory):
        return
    files = contents()
    directory.parent.mkdir(parents=True, exist_ok=True, mode=_DIRECTORY_MODE)
    temporary = Path(tempfile.mkdtemp(prefix=".simulated-", dir=directory.parent))
    try:
        for name, data in files.items():
            _write(temporary / name, data)
        try:
            temporary.rename(directory)
        except OSError:
            if not os.path.lexists(directory):  # not lost to another process: a real failure
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check(directory: Path) -> None:
    """Checks that a folder is one, and is private to this user.

    Raises:
        AttesterError: If it is not.
        OSError: If it cannot be looked at.
    """
    _check_private(directory, os.lstat(directory), stat.S_ISDIR)


def read(path: Path) -> bytes:
    """Returns the content of a file in the folder, which must be private to this user, and no link.

    Raises:
        AttesterError: If it is not.
        OSError: If it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        _check_private(path, os.fstat(descriptor), stat.S_ISREG)
        return stream.read(_MAX_FILE_BYTES)


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(descriptor)


def _check_private(path: Path, status: os.stat_result, is_kind: Callable[[int], bool]) -> None:
    if not is_kind(status.st_mode):
        raise AttesterError(f"simulated TEE: {path} is not what it should be; move it away")
    if status.st_uid != os.geteuid():
        raise AttesterError(
            f"simulated TEE: {path} belongs to user {status.st_uid}, expected {os.geteuid()}; "
            f"its keys are not ours to use"
        )
    if status.st_mode & _OTHERS:
        raise AttesterError(
            f"simulated TEE: {path} is open to others (mode {stat.S_IMODE(status.st_mode):04o}); "
            f"expected no access but the owner's: delete the folder, and a new root will be made"
        )
