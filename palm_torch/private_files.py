"""Which files hold private data: whoever sees a plain digest of one can test what he guesses of it.

Datasets that are given a salt say here which files they lie in, and when they call code that may open files
of theirs. What lists files by their digests asks here before.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_kept: Final[set[PurePath]] = set()
"""Files and folders, without links; they stay private when the dataset is closed."""
_lock: Final = threading.Lock()
_readers: Final[list[int]] = [0]


def keep(paths: Iterable[str | os.PathLike[str]]) -> None:
    """Lists files as private from now on; of a folder all that lies in it."""
    _kept.update(PurePath(os.path.realpath(path)) for path in paths)


@contextlib.contextmanager
def reading() -> Iterator[None]:
    """Has every file that is opened in the ``with`` block taken for private, by whichever thread.

    Code that reads a private dataset may do so with threads of its own.
    """
    with _lock:
        _readers[0] += 1
    try:
        yield
    finally:
        with _lock:
            _readers[0] -= 1


def is_being_read() -> bool:
    """Says whether somebody is in a block of `reading`."""
    return _readers[0] > 0


def is_private(real: str) -> bool:
    """Says whether a file is private, given its path without links."""
    path = PurePath(real)
    return path in _kept or any(folder in _kept for folder in path.parents)
