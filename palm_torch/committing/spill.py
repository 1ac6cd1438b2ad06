"""Kept activations: what was copied out of a model, within a limit, for openings later on.

Blocks lie in memory up to a limit, then in a file that only this process can reach: it has mode 0600 and no
name, so nothing of it is left when the process ends. If asked for, blocks are encrypted with AES-GCM under a
key that is made here and never leaves this object, so that a disk that is read later says nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
import weakref
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from palm_torch.errors import CoverageError, DataError

if TYPE_CHECKING:
    from pathlib import Path

MEMORY_BYTES: Final = 64 << 20
"""What is kept in memory before a file is used, in bytes."""

_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32
_NO_NAMELESS: Final = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)


class Kept:
    """Numbered blocks of bytes; several threads may add.

    Args:
        limit_bytes: Most bytes kept, in memory and on disk together.
        folder: Where the file is made; None to keep everything in memory.
        encrypt: Whether blocks in the file are encrypted.
        memory_bytes: With a folder: most bytes kept in memory.

    Raises:
        CoverageError: If no file can be made there, or the limit is not positive.
    """

    def __init__(
        self,
        *,
        limit_bytes: int,
        folder: Path | None = None,
        encrypt: bool = False,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        if limit_bytes < 1:
            raise CoverageError(f"keep_bytes: expected a positive number of bytes, got {limit_bytes}")
        self._limit_bytes = limit_bytes
        self._memory_bytes = limit_bytes if folder is None else memory_bytes
        self._file = None if folder is None else _PrivateFile(folder)
        self._cipher = AESGCM(secrets.token_bytes(_KEY_BYTES)) if encrypt else None
        self._lock = threading.Lock()
        self._blocks: list[bytes | tuple[int, int]] = []
        self._nbytes = 0
        self._last: tuple[int, bytes] = (-1, b"")  # the block that was decrypted last

    def add(self, data: memoryview) -> int:
        """Keeps a copy of a block and returns its number.

        Raises:
            CoverageError: If the limit is reached, or the disk is full or fails.
        """
        with self._lock:
            total, number = self._nbytes + len(data), len(self._blocks)
            if total > self._limit_bytes:
                raise CoverageError(
                    f"kept activations: expected at most {self._limit_bytes} bytes (keep_bytes), got more: "
                    "allow more, tap fewer layers, or keep none and open from the tensors themselves"
                )
            if self._file is None or total <= self._memory_bytes:
                self._blocks.append(bytes(data))
            elif self._cipher is None:
                self._blocks.append((self._file.append(data), len(data)))
            else:  # the number, used once under this key, is the nonce
                sealed = self._cipher.encrypt(number.to_bytes(_NONCE_BYTES, "big"), data, None)
                self._blocks.append((self._file.append(memoryview(sealed)), len(sealed)))
            self._nbytes = total
            return number

    def read(self, number: int, start: int, stop: int) -> bytes:
        """Returns a part of a block; whoever opens it compares what it hashes to.

        Raises:
            DataError: If the file does not hold what was written to it.
        """
        with self._lock:
            block = self._blocks[number]
            if isinstance(block, bytes) or self._file is None:
                return bytes(block[start:stop])
            at, length = block
            if self._cipher is None:
                return self._file.read(at + start, stop - start)
            if self._last[0] != number:
                try:
                    sealed = self._file.read(at, length)
                    plain = self._cipher.decrypt(number.to_bytes(_NONCE_BYTES, "big"), sealed, None)
                except InvalidTag as error:
                    raise DataError(
                        f"{self._file}: not what was written there: somebody changed it"
                    ) from error
                self._last = (number, plain)
            return self._last[1][start:stop]


class _PrivateFile:
    """A file without a name that grows; it goes with this object.

    Args:
        folder: On which disk.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self._descriptor = _open_nameless(folder)
        except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
            raise CoverageError(
                f"keep: no file can be made in {folder}: {getattr(error, 'strerror', error)}; name a folder"
            ) from error
        self._nbytes = 0
        weakref.finalize(self, os.close, self._descriptor)

    def __str__(self) -> str:
        """Returns what it is, for messages."""
        return f"kept activations in {self._folder}"

    def append(self, data: memoryview) -> int:
        """Writes at the end, and returns where that was."""
        at, written = self._nbytes, 0
        try:
            while written < len(data):
                written += os.pwrite(self._descriptor, data[written:], at + written)
        except OSError as error:
            raise CoverageError(
                f"{self}: {error.strerror}, after {at + written} bytes: free some, keep them in another "
                "folder, or keep none and open from the tensors themselves"
            ) from error
        self._nbytes += len(data)
        return at

    def read(self, at: int, length: int) -> bytes:
        """Reads what was written."""
        try:
            data = os.pread(self._descriptor, length, at)
        except OSError as error:
            raise DataError(f"{self}: cannot be read: {error.strerror}") from error
        if len(data) != length:
            raise DataError(f"{self}: expected {length} bytes at {at}, got {len(data)}: somebody cut it")
        return data


def _open_nameless(folder: Path) -> int:
    """Opens a new file that has no name, or none any more."""
    try:
        return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as refused:
        if refused.errno not in _NO_NAMELESS:
            raise
    path = folder / f".palm-torch-{secrets.token_hex(16)}.kept"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    return descriptor
