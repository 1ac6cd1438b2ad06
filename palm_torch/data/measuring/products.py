"""Results that a later measurement may reuse: products of records that were multiplied before.

An entry says: these record digests have this product; or: a file of these bytes has this SHA-256. It is found
by the content, which is read and hashed anew, so a changed file is never taken for the one it was. Each entry
carries a tag under a key that only this user has: whoever can write to the data cannot make one up. The file
lies where others may write: it is written to only if it is this user's own, no link, and begins as it must.

Layout of the file ``NAME.palm-products``: docs/measuring.md.
"""

from __future__ import annotations

import contextlib
import hmac
import itertools
import os
import stat
from typing import IO, TYPE_CHECKING, Final, Self

from blake3 import blake3

from palm_torch.commit.multiset import STATE_BYTES
from palm_torch.errors import DataError
from palm_torch.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

SUFFIX: Final = ".palm-products"
MAGIC: Final = b"palm-torch products v1\n\0"
NAME_BYTES: Final = 32
TAG_BYTES: Final = 32
ENTRY_BYTES: Final = NAME_BYTES + STATE_BYTES + TAG_BYTES
MAX_FILE_BYTES: Final = 1 << 30

_SHA256_BYTES: Final = 32
_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MODE: Final = 0o600


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
            DataError: If it cannot be read or written, or is none of this class: then it stays as it is.
        """
        with self._saying(), contextlib.ExitStack() as opening:
            self._stream: IO[bytes] = opening.enter_context(self._opened())
            self._read(self._stream)
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the file; what was made stays for the next time."""
        with self._open:
            if os.fstat(self._stream.fileno()).st_size == len(MAGIC):
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
        with self._saying():
            self._write(self._entry(name, value))

    def finish(self) -> None:
        """Writes the file anew, with the entries of this measurement alone.

        Raises:
            DataError: If the disk refuses; the file stays as it is.
        """
        entries = (self._entry(name, value) for name, value in self._used.items())
        write_atomically(self._path, itertools.chain([MAGIC], entries), error=DataError, mode=_MODE)

    def _opened(self) -> IO[bytes]:
        """Opens the file, which is made if it is not there, and refuses what this class did not make."""
        descriptor = os.open(self._path, _FLAGS, _MODE)
        stream = os.fdopen(descriptor, "ab+", buffering=0)
        status = os.fstat(descriptor)
        own = stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1
        begin = os.pread(descriptor, len(MAGIC), 0) if own else b""
        if not own or (status.st_size and begin != MAGIC):
            stream.close()
            raise DataError(
                f"{self._path}: expected a file that measuring made for you, with one name, got mode "
                f"{status.st_mode:o} of user {status.st_uid}, {status.st_nlink} names, beginning "
                f"{begin!r}: move it away, and a new one is made"
            )
        os.fchmod(descriptor, _MODE)
        return stream

    def _read(self, stream: IO[bytes]) -> None:
        stream.seek(0)
        data = stream.read(MAX_FILE_BYTES)
        whole = len(data) - max(0, len(data) - len(MAGIC)) % ENTRY_BYTES
        if not data:
            self._write(MAGIC)
        elif whole < len(data):
            stream.truncate(whole)  # the last entry was cut off with the process that wrote it
        for at in range(len(MAGIC), whole, ENTRY_BYTES):
            name = data[at : at + NAME_BYTES]
            value = data[at + NAME_BYTES : at + NAME_BYTES + STATE_BYTES]
            if hmac.compare_digest(self._tag(name, value), data[at + ENTRY_BYTES - TAG_BYTES :][:TAG_BYTES]):
                self._known[name] = value

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._stream.write(view) :]

    @contextlib.contextmanager
    def _saying(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(f"{self._path}: cannot be kept: {error.strerror or error}") from error

    def _get(self, name: bytes) -> bytes | None:
        value = self._known.get(name)
        if value is not None:
            self._used[name] = value
        return value

    def _entry(self, name: bytes, value: bytes) -> bytes:
        return name + value + self._tag(name, value)

    def _tag(self, name: bytes, value: bytes) -> bytes:
        return blake3(name + value, key=self._key).digest()
