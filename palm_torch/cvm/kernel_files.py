"""The few file operations that the kernel's interface to a trusted execution environment is made of.

Everything that asks the kernel goes through this seam, so that a stand-in for the kernel can take its place.
Files of configfs and sysfs are no ordinary files: each ``write`` is one operation of the kernel, its length
says what is meant, and a file that is made smaller, sought in or created is refused.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHUNK_BYTES: Final = 65_536


class KernelFiles(Protocol):
    """File operations; each raises the OSError of the kernel, with the file's name in it."""

    def exists(self, path: Path) -> bool:
        """Returns whether something is there; a path that cannot be looked at is an error, not missing."""

    def make_directory(self, path: Path) -> None:
        """Makes a directory; configfs fills it with attribute files."""

    def remove_directory(self, path: Path) -> None:
        """Removes a directory; configfs removes its attribute files with it."""

    def read(self, path: Path, *, max_bytes: int) -> bytes:
        """Returns a file's content to its end, or one byte more than `max_bytes` of it."""

    def write(self, path: Path, data: bytes) -> int:
        """Writes to the beginning of an existing file with one ``write``; returns what the kernel took."""

    def open_for_writing(self, path: Path) -> None:
        """Opens an existing file for writing and closes it again; changes nothing."""


class LinuxFiles:
    """The operations of this machine's own kernel."""

    def exists(self, path: Path) -> bool:
        """Implements `KernelFiles.exists`."""
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def make_directory(self, path: Path) -> None:
        """Implements `KernelFiles.make_directory`."""
        path.mkdir()

    def remove_directory(self, path: Path) -> None:
        """Implements `KernelFiles.remove_directory`."""
        path.rmdir()

    def read(self, path: Path, *, max_bytes: int) -> bytes:
        """Implements `KernelFiles.read`."""
        data = bytearray()
        with _opened(path, os.O_RDONLY) as descriptor:
            while len(data) <= max_bytes and (chunk := os.read(descriptor, _CHUNK_BYTES)):
                data += chunk
        return bytes(data[: max_bytes + 1])

    def write(self, path: Path, data: bytes) -> int:
        """Implements `KernelFiles.write`."""
        with _opened(path, os.O_WRONLY) as descriptor:
            return os.write(descriptor, data)

    def open_for_writing(self, path: Path) -> None:
        """Implements `KernelFiles.open_for_writing`."""
        with _opened(path, os.O_WRONLY):
            pass


LINUX: Final = LinuxFiles()
"""This machine's own kernel."""


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    """Opens a file for the ``with`` block, and puts its name into the errors of ``read`` and ``write``."""
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        yield descriptor
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(descriptor)
