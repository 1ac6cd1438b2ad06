"""Results that a later measurement may reuse: products of records that were multiplied before.

An entry says: these record digests have this product; or: a file of these bytes has this SHA-256. It is found
by the content, which is read and hashed anew, so a changed file is never taken for the one it was. Each entry
carries a tag under a key that only this user has: whoever can write to the data cannot make one up.

Layout of the file ``NAME.palm-products``: docs/measuring.md.
"""

from __future__ import annotations

import contextlib
import hmac
import os
from typing import TYPE_CHECKING, Final, Self

from blake3 import blake3

from palm_torch.commit.multiset import STATE_BYTES
from palm_torch.errors import DataError
from palm_torch.files import write_atomically

if TYPE_CHECKING:
    import io
    from pathlib import Path
    from types import TracebackType

SUFFIX: Final = ".palm-products"
NAME_BYTES: Final = 32
TAG_BYTES: Final = 32
ENTRY_BYTES: Final = NAME_BYTES + STATE_BYTES + TAG_BYTES
MAX_FILE_BYTES: Final = 1 << 30

_SHA256_BYTES: Final = 32


def block_name(digests: bytes) -> bytes:
    """Returns the name of a row of record digests: 32 bytes."""
    return blake3(digests, derive_key_context="palm-torch 2026 measure v1 block").digest()


def file_name(size_bytes: int, blocks: bytes) -> bytes:
    """Returns the name of a file that is nothing but records: 32 bytes, of size and blocks."""
    framed = size_bytes.to_bytes(8, "big") + blocks
    return blake3(framed, derive_key_context="palm-torch 2026 measure v1 file").digest()


class Products:
    """The entries at hand, and those of this measurement; used in a ``with`` block.

    Args:
        path: The file. Entries are appended as they are made, so an interrupted measurement leaves them.
        key: The user's key, 32 bytes.
    """

    def __init__(self, path: Path, key: bytes) -> None:
        self._path = path
        self._key = key
        self._known: dict[bytes, bytes] = {}
        self._used: dict[bytes, bytes] = {}
        self._open = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Reads the file that is there, and opens it for more.

        Raises:
            DataError: If it cannot be read or written.
        """
        try:
            stream = self._open.enter_context(self._path.open("ab+", buffering=0))
            self._stream: io.FileIO = stream
            self._read(stream)
        except OSError as error:
            raise DataError(f"{self._path}: cannot be kept: {error.strerror or error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the file; what was made stays for the next time."""
        with self._open:
            if os.fstat(self._stream.fileno()).st_size == 0:
                self._path.unlink(missing_ok=True)

    @property
    def names_files(self) -> bool:
        """Whether the SHA-256 of any file is known."""
        return any(not any(value[_SHA256_BYTES:]) for value in self._known.values())

    def product(self, name: bytes) -> bytes | None:
        """Returns the product of a block, 384 bytes, if it is known."""
        return self._get(name)

    def sha256(self, name: bytes) -> bytes | None:
        """Returns the SHA-256 of a file, if it is known."""
        value = self._get(name)
        return None if value is None else value[:_SHA256_BYTES]

    def keep(self, name: bytes, value: bytes) -> None:
        """Keeps a product, or the SHA-256 of a file, for the next time.

        Raises:
            DataError: If the disk refuses.
        """
        value = value.ljust(STATE_BYTES, b"\0")
        self._used[name] = value
        try:
            self._stream.write(self._entry(name, value))
        except OSError as error:
            raise DataError(f"{self._path}: cannot be kept: {error.strerror or error}") from error

    def finish(self) -> None:
        """Writes the file anew, with the entries of this measurement alone.

        Raises:
            DataError: If the disk refuses; the file stays as it is.
        """
        entries = (self._entry(name, value) for name, value in self._used.items())
        write_atomically(self._path, entries, error=DataError)

    def _read(self, stream: io.FileIO) -> None:
        stream.seek(0)
        data = stream.read(MAX_FILE_BYTES) or b""
        whole = len(data) - len(data) % ENTRY_BYTES
        if whole < len(data):
            stream.truncate(whole)  # the last entry was cut off with the process that wrote it
        for at in range(0, whole, ENTRY_BYTES):
            name = data[at : at + NAME_BYTES]
            value = data[at + NAME_BYTES : at + NAME_BYTES + STATE_BYTES]
            if hmac.compare_digest(self._tag(name, value), data[at + ENTRY_BYTES - TAG_BYTES :][:TAG_BYTES]):
                self._known[name] = value

    def _get(self, name: bytes) -> bytes | None:
        value = self._known.get(name)
        if value is not None:
            self._used[name] = value
        return value

    def _entry(self, name: bytes, value: bytes) -> bytes:
        return name + value + self._tag(name, value)

    def _tag(self, name: bytes, value: bytes) -> bytes:
        return blake3(name + value, key=self._key).digest()
