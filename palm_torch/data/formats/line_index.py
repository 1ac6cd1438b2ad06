"""Where the lines of a text file begin: found once, and kept in a file beside it.

``NAME.palm-index`` holds offsets, which save a pass over the data whenever it is opened. They are hints:
whoever reads a line checks that it lies in the file and is a line. Size and time of the data tell only
whether the offsets are worth trying. Byte table: docs/spec/40-data.md, section 6.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from typing import IO, TYPE_CHECKING, Any, Final

import numpy as np

from palm_torch.errors import DataError
from palm_torch.files import open_regular, write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

MAGIC: Final = b"palm-torch lines v1\n\0\0\0\0"
SUFFIX: Final = ".palm-index"
HEADER: Final = struct.Struct("<24sQq")
"""Magic line, size of the data in bytes, its time of change in nanoseconds."""
OFFSET: Final = struct.Struct("<Q")

_READ_BYTES: Final = 4 << 20
_LINE_FEED: Final = 0x0A
_CARRIAGE_RETURN: Final = 0x0D


def open_index(path: Path, *, fresh: bool) -> mmap.mmap:
    """Returns the index of a file, mapped: a header, the offset of each line's first byte, and the end.

    It is taken from beside the file if it seems to be of this file, and made otherwise. In a folder that
    cannot be written it is made in an unnamed temporary file each time.

    Args:
        path: The data.
        fresh: Whether to make it in private whatever lies beside the file.

    Raises:
        DataError: If the file cannot be read, or has an empty line.
    """
    beside = path.with_name(path.name + SUFFIX)
    try:
        with open_regular(path) as stream:
            status = os.fstat(stream.fileno())
            head = HEADER.pack(MAGIC, status.st_size, status.st_mtime_ns)
            if not fresh:
                index = _kept(beside, head, status.st_size)
                if index is not None:
                    return index
                if os.access(path.parent, os.W_OK):
                    write_atomically(beside, _parts(path, stream, head), error=DataError)
                    index = _kept(beside, head, status.st_size)
                    if index is None:
                        raise DataError(f"{beside}: was rewritten as soon as it was made")
                    return index
            with tempfile.TemporaryFile() as private:
                private.writelines(_parts(path, stream, head))
                private.flush()
                return mmap.mmap(private.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise DataError(f"{path}: its lines cannot be indexed: {error.strerror or error}") from error


def lines(index: mmap.mmap) -> int:
    """Returns how many lines an index speaks of."""
    return (len(index) - HEADER.size) // OFFSET.size - 1


def _kept(beside: Path, head: bytes, size: int) -> mmap.mmap | None:
    """Returns the index beside the file, or None if there is none, or it is an older one's."""
    try:
        index = _mapped(beside)
    except FileNotFoundError:
        return None
    except ValueError:  # empty
        index = None
    if index is None or index[: len(MAGIC)] != MAGIC:
        raise DataError(f"{beside}: is no index of lines: move it away, and it will be made")
    if index[: HEADER.size] != head or len(index) % OFFSET.size or len(index) < HEADER.size + 2 * OFFSET.size:
        return None
    (first,) = OFFSET.unpack_from(index, HEADER.size)
    (last,) = OFFSET.unpack_from(index, len(index) - OFFSET.size)
    return index if first == 0 and last in (size, size + 1) else None


def _mapped(beside: Path) -> mmap.mmap:
    with open_regular(beside) as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)


def _parts(path: Path, stream: IO[bytes], head: bytes) -> Iterator[bytes]:
    """Yields header and offsets while it reads the file."""
    yield head
    yield OFFSET.pack(0)
    found, place, last = 0, 0, b"\n"
    previous: NDArray[Any] = np.array([-1])  # the line feed before
    ended_by_return = False
    while block := stream.read(_READ_BYTES):
        content = np.frombuffer(block, np.uint8)
        feeds = np.flatnonzero(content == _LINE_FEED)
        if len(feeds):
            ends = np.concatenate((previous, feeds + place))
            before = content[feeds - 1] == _CARRIAGE_RETURN
            if feeds[0] == 0:
                before[0] = ended_by_return
            lengths = np.diff(ends) - 1
            empty = (lengths == 0) | ((lengths == 1) & before)
            if empty.any():
                raise _empty(path, found + int(np.argmax(empty)))
            yield (ends[1:] + 1).astype("<u8").tobytes()
            previous = ends[-1:]
            found += len(feeds)
        place += len(block)
        last, ended_by_return = block[-1:], block[-1] == _CARRIAGE_RETURN
    if not place:
        raise DataError(f"{path}: empty shard: a dataset's file holds at least one record")
    if last != b"\n":
        if place - int(previous[0]) - 1 == 1 and last == b"\r":
            raise _empty(path, found)
        yield OFFSET.pack(place + 1)  # as if a line feed followed


def _empty(path: Path, number: int) -> DataError:
    return DataError(
        f"{path}: line {number + 1} is empty, and every line is a record: remove empty lines, for instance "
        f"with sed -i '/^\\r*$/d' {path.name}"
    )
