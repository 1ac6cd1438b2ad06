"""Where a verifier's store may lie: nobody else can put another folder, file or journal in its place.

Every folder on the way counts: who can write to one can rename what lies in it, and put a link to an empty
folder there instead. A sticky bit keeps others from renaming what is not theirs, so a folder of one's own
below ``/tmp`` will do; it does not keep them from adding a journal beside the store, so for the folder of
the store itself it does not help.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from palm_torch.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

MODE: Final = 0o600
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def check_folders(path: Path) -> None:
    """Checks that nobody but this user and the superuser could replace a store, or write beside it.

    Args:
        path: The store's file, which need not be there.

    Raises:
        InputError: If the folder or one above it is missing, a link, somebody else's, or open to others;
            the message names it.
    """
    folder = path.absolute().parent
    _check_folder(path, folder, sticky=False)
    for above in folder.parents:
        _check_folder(path, above, sticky=True)


def check_file(path: Path, *, max_bytes: int) -> None:
    """Checks that a store is a file of this user alone, making an empty one if there is none.

    Args:
        path: The store's file.
        max_bytes: Largest size.

    Raises:
        InputError: If it is a link or no regular file, somebody else's, open to others, or too large.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, MODE)
        try:
            status = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise _unusable(path, error) from error
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or mode != MODE:
        raise InputError(
            f"{path}: a store of seen evidence is a regular file of your own with mode 0600, "
            f"got mode {mode:04o} of user {status.st_uid}"
        )
    if status.st_size > max_bytes:
        raise InputError(f"{path}: expected at most {max_bytes} bytes, got {status.st_size}")


def _check_folder(path: Path, folder: Path, *, sticky: bool) -> None:
    try:
        status = os.lstat(folder)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise _unusable(path, error) from error
    if stat.S_ISLNK(status.st_mode):
        raise InputError(
            f"{path}: a store of seen evidence is named without links on the way; {folder} is one: give the "
            f"path itself, {os.path.realpath(path)}"
        )
    mode = stat.S_IMODE(status.st_mode)
    open_to_others = mode & _OTHERS_WRITE and not (sticky and mode & stat.S_ISVTX)
    if status.st_uid not in (0, os.geteuid()) or open_to_others:
        raise InputError(
            f"{path}: a store of seen evidence lies in a folder of your own where nobody else may write, nor "
            f"in one above it; got {folder} with mode {mode:04o} of user {status.st_uid}: use another, or "
            "chmod go-w it"
        )


def _unusable(path: Path, error: OSError | ValueError) -> InputError:
    reason = getattr(error, "strerror", error)
    return InputError(f"{path}: cannot be opened as a store of seen evidence: {reason}")
