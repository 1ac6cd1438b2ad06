"""Where the ranks of one machine meet: a Unix socket in a folder of this user's alone.

Its name follows from what torchrun told every rank. The folder lies where the system keeps one for each user,
which nobody else can take first; where there is none, in the folder for temporary files.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from palm_torch.errors import CoverageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_torch.attesting.ranks import Place

FOLDER: Final = Path("/tmp")  # noqa: S108 (the folder made in it is private, and checked)

MAX_FOLDER_BYTES: Final = 40
"""The name of a socket has at most 107 bytes."""

_OTHERS: Final = 0o077


def path(place: Place, number: int) -> Path:
    """Returns the name under which the ranks of a machine meet, the same in each of them.

    Args:
        place: The place of one of them.
        number: Which session of the process it is.
    """
    name = f"{place.name.hex()[:32]}-{place.machine}-{number}"
    own = os.environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(own) and len(os.fsencode(own)) <= MAX_FOLDER_BYTES and _is_private(Path(own)):  # noqa: PTH117 (text, maybe none)
        return Path(own) / "palm-torch" / name
    return FOLDER / f"palm-torch-{os.geteuid()}" / name


@contextlib.contextmanager
def listening(path: Path, number: int) -> Iterator[socket.socket]:
    """Listens for other ranks; the folder is made if it is not there.

    Args:
        path: What `path` returned.
        number: How many ranks may wait at once.

    Raises:
        CoverageError: If others can enter the folder.
    """
    _private(path.parent)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()  # of a run that was killed, under the same name
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        try:
            stream.bind(str(path))
            stream.listen(number)
            yield stream
        finally:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


def connected(path: Path) -> socket.socket:
    """Returns a connection to the rank that listens.

    Raises:
        CoverageError: If others can enter the folder.
        OSError: If nobody listens.
    """
    _check_private(path.parent)
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        stream.connect(str(path))
    except BaseException:
        stream.close()
        raise
    return stream


def _private(folder: Path) -> None:
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    _check_private(folder)


def _check_private(folder: Path) -> None:
    """Checks that a folder is this user's alone: whoever could write there could pose as a rank.

    Raises:
        CoverageError: If it is not.
        FileNotFoundError: If it is not there.
    """
    if not _is_own(folder.lstat()):
        raise CoverageError(
            f"{folder}: expected a folder of user {os.geteuid()} that nobody else can enter (mode 0700), "
            "where the ranks of a machine meet: move it away"
        )


def _is_private(folder: Path) -> bool:
    try:
        return _is_own(folder.lstat())
    except OSError:
        return False


def _is_own(found: os.stat_result) -> bool:
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & _OTHERS
