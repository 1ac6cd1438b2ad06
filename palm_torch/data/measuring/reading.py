"""Digesting the records of a unit: each byte is read once into private memory, and hashed there.

Where records lie in a row, the file's SHA-256 and the records' digests are taken of the same bytes in the
same memory. Rows are copied out by their format, so the SHA-256 of their file is of a read of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from blake3 import blake3

from palm_torch.data.formats import table
from palm_torch.data.measuring.units import block_records
from palm_torch.errors import DataError
from palm_torch.files import open_regular

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future

    from palm_torch.data.measuring.units import Unit
    from palm_torch.data.shards import ShardFile

ROOM_BYTES: Final = 1 << 20
"""Bytes read at a time: they stay in a core's second-level cache while both hashes take them."""
ROOM_RECORDS: Final = 4096


@dataclass(frozen=True, slots=True)
class Block:
    """Digests of consecutive records of one file: number of the first in the file, and n × 32 bytes."""

    first: int
    digests: bytes


@dataclass(frozen=True, slots=True)
class FileDigest:
    """Plain SHA-256 of a whole file."""

    sha256: bytes


class Digester:
    """Digests units of one dataset.

    Args:
        files: The dataset's files, open.
        key: The record key.
    """

    def __init__(self, files: Sequence[ShardFile], key: bytes) -> None:
        self.files = files
        self._hasher = blake3(key=key)

    def run(self, unit: Unit) -> Iterator[Block | FileDigest]:
        """Yields the unit's blocks in order, then the file's digest if the unit asks for it.

        Raises:
            DataError: If the file cannot be read, or is not as long as it was when it was opened.
        """
        file = self.files[unit.shard]
        view = file.view
        if not isinstance(view, table.ShardView) and file.path.is_dir():  # one row of records in many files
            yield from self._rows(view, unit)
            return
        with _unchanged(file) as stream:
            if isinstance(view, table.ShardView):
                yield from self._in_a_row(file, view, unit, stream)
                return
            if unit.hash_file:
                whole = hashlib.sha256()
                _hash_next(file, stream, whole.update, file.size_bytes)
                yield FileDigest(whole.digest())
            yield from self._rows(view, unit)

    def _in_a_row(
        self, file: ShardFile, view: table.ShardView, unit: Unit, stream: io.FileIO
    ) -> Iterator[Block | FileDigest]:
        _, _, size = view.layout.fixed()
        together = max(1, min(ROOM_RECORDS, ROOM_BYTES // size))
        whole = _WholeFile(aside=unit.aside) if unit.hash_file else None
        with contextlib.ExitStack() as stack:
            rooms = [_Room(size, together) for _ in range(2 if unit.aside else 1)]
            if whole is not None:
                stack.callback(whole.close)
                _hash_head(file, stream, whole.now, view)
            else:
                stream.seek(view.offset + unit.first * size)
            turn = 0
            end, step = unit.first + unit.count, block_records(view.layout)
            for first in range(unit.first, end, step):
                count = min(step, end - first)
                found: list[bytes] = []
                for start in range(0, count, together):
                    room = rooms[turn := (turn + 1) % len(rooms)]
                    if whole is not None:
                        whole.wait(room)
                    part = room.fill(file, stream, min(together, count - start))
                    if whole is not None:
                        whole.later(room, part)
                    self._digest(room.slots[: min(together, count - start)], found)
                yield Block(first, b"".join(found))
            if whole is not None:
                whole.wait(*rooms)
                _hash_next(file, stream, whole.now, file.size_bytes - stream.tell())
                yield FileDigest(whole.digest())

    def _digest(self, slots: Sequence[memoryview], found: list[bytes]) -> None:
        hasher = self._hasher
        reset, update, digest, append = hasher.reset, hasher.update, hasher.digest, found.append
        for slot in slots:
            reset()
            update(slot)
            append(digest())

    def _rows(self, view: table.Rows, unit: Unit) -> Iterator[Block]:
        hasher, copy = self._hasher, view.copy
        reset, update, digest = hasher.reset, hasher.update, hasher.digest
        end, step = unit.first + unit.count, block_records(view.layout)
        for first in range(unit.first, end, step):
            if isinstance(view, table.Checked):
                view.check(first, min(step, end - first))
            found: list[bytes] = []
            append = found.append
            for number in range(first, min(first + step, end)):
                reset()
                update(copy(number))
                append(digest())
            yield Block(first, b"".join(found))


class _Room:
    """Private memory for some records: all of it, and one view per record."""

    __slots__ = ("slots", "whole")

    def __init__(self, size: int, together: int) -> None:
        self.whole = memoryview(bytearray(size * together))
        self.slots = [self.whole[at : at + size] for at in range(0, len(self.whole), size)]

    def fill(self, file: ShardFile, stream: io.FileIO, count: int) -> memoryview:
        """Reads the next `count` records of the file."""
        part = self.whole[: count * len(self.slots[0])]
        filled = 0
        while filled < len(part):
            got = stream.readinto(part[filled:])
            if not got:
                raise _changed(file, stream.tell())
            filled += got
        return part


class _WholeFile:
    """SHA-256 of a file's bytes as they are read, by this thread or by one beside it."""

    def __init__(self, *, aside: bool) -> None:
        self._hash = hashlib.sha256()
        self.now: Callable[[memoryview], None] = self._hash.update
        self._beside = ThreadPoolExecutor(1) if aside else None
        self._pending: dict[int, Future[None]] = {}

    def later(self, room: _Room, part: memoryview) -> None:
        """Takes the next bytes, which stay as they are until `wait` returned for their room."""
        if self._beside is None:
            self.now(part)
        else:
            self._pending[id(room)] = self._beside.submit(self.now, part)

    def wait(self, *rooms: _Room) -> None:
        """Waits until what lies in these rooms was taken."""
        for room in rooms:
            pending = self._pending.pop(id(room), None)
            if pending is not None:
                pending.result()

    def digest(self) -> bytes:
        """Returns the 32 bytes."""
        return self._hash.digest()

    def close(self) -> None:
        """Ends the thread."""
        if self._beside is not None:
            self._beside.shutdown()


@contextlib.contextmanager
def _unchanged(file: ShardFile) -> Iterator[io.FileIO]:
    """Opens a file, which must have the length it had, now and after it was read."""
    try:
        with open_regular(file.path) as stream:
            _check_length(file, stream)
            yield stream
            _check_length(file, stream)
    except OSError as error:
        raise DataError(f"{file.path}: cannot be read: {error.strerror or error}") from error


def _check_length(file: ShardFile, stream: io.FileIO) -> None:
    size = os.fstat(stream.fileno()).st_size
    if size != file.size_bytes:
        raise _changed(file, size)


def _changed(file: ShardFile, size: int) -> DataError:
    return DataError(
        f"{file.path}: its length changed while it was measured: expected {file.size_bytes} bytes, got {size}"
    )


def _hash_head(
    file: ShardFile, stream: io.FileIO, take: Callable[[memoryview], None], view: table.ShardView
) -> None:
    """Hashes what lies before the records; it must begin with the very bytes that say where they lie."""
    read = bytearray()

    def both(part: memoryview) -> None:
        take(part)
        read.extend(part)

    _hash_next(file, stream, both, len(view.head))
    if read != view.head:
        raise DataError(
            f"{file.path}: its header changed while it was measured: what was opened as {view.layout} is "
            "another file now; measure again when nothing writes to it"
        )
    _hash_next(file, stream, take, view.offset - len(view.head))


def _hash_next(file: ShardFile, stream: io.FileIO, take: Callable[[memoryview], None], count: int) -> None:
    """Hashes the next `count` bytes."""
    room = memoryview(bytearray(min(count, ROOM_BYTES)))
    while count:
        got = stream.readinto(room[: min(count, len(room))])
        if not got:
            raise _changed(file, stream.tell())
        take(room[:got])
        count -= got
