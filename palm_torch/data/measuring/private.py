"""What measuring keeps for one user alone: the key of reused results, and the salts of private datasets.

They lie far from the data, so that whoever publishes a dataset's folder does not publish its salt, and
whoever can write to that folder cannot forge what is reused.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from palm_torch.errors import DataError

SECRET_BYTES: Final = 32

_OTHERS: Final = 0o077


def folder() -> Path:
    """Returns ``$XDG_STATE_HOME/palm-torch``, or the same under ``~/.local/state``.

    Raises:
        DataError: If neither that variable nor a home directory is set.
    """
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():
        try:
            state = Path.home() / ".local" / "state"
        except RuntimeError as error:
            raise DataError(f"nowhere to keep secrets: {error}; set XDG_STATE_HOME") from error
    return state / "palm-torch"


def new_salt(dataset: Path) -> tuple[Path, bytes]:
    """Makes a salt and keeps it in a file for this user alone.

    Args:
        dataset: The dataset it is for; the file is named after it.

    Returns:
        The file, and its 32 random bytes.

    Raises:
        DataError: If it cannot be written.
    """
    salt = secrets.token_bytes(SECRET_BYTES)
    path = folder() / "salts" / f"{dataset.absolute().name}-{secrets.token_hex(8)}.salt"
    try:
        _write(path, salt)
    except OSError as error:
        raise DataError(f"{path}: the salt cannot be kept: {error.strerror or error}") from error
    return path, salt


def reuse_key() -> bytes:
    """Returns this user's key for results that may be reused; makes one where there is none.

    Raises:
        DataError: If it cannot be kept, or others can read it.
    """
    path = folder() / "measure.key"
    try:
        if not os.path.lexists(path):
            fresh = path.with_name(f".measure-{secrets.token_hex(8)}.key")
            _write(fresh, secrets.token_bytes(SECRET_BYTES))
            try:
                os.link(fresh, path)  # of two processes that start at once, one wins
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        return _read(path)
    except OSError as error:
        raise DataError(f"{path}: the key cannot be kept: {error.strerror or error}") from error


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(descriptor)


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        status = os.fstat(descriptor)
        private = stat.S_ISREG(status.st_mode) and not status.st_mode & _OTHERS
        key = stream.read(SECRET_BYTES + 1)
    if not private or status.st_uid != os.geteuid() or len(key) != SECRET_BYTES:
        raise DataError(
            f"{path}: expected a file of {SECRET_BYTES} bytes that only you can read, got mode "
            f"{stat.S_IMODE(status.st_mode):04o} of user {status.st_uid}: delete it, and a new one is made"
        )
    return key
