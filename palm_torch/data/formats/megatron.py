"""Megatron-LM's token files: ``NAME.bin`` with the elements, ``NAME.idx`` with where each sequence lies.

A record is one sequence: its elements' bytes as they lie in the ``.bin`` file. The index is read where it
lies, and is believed no further than that: every look-up is held against the size of the ``.bin`` file again.
Byte table: docs/spec/40-data.md, section 6.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

import numpy as np

from palm_torch.data.formats import table
from palm_torch.errors import DataError

if TYPE_CHECKING:
    import mmap
    from pathlib import Path

MAGIC: Final = b"MMIDIDX\x00\x00"
VERSION: Final = 1
DTYPES: Final = {
    1: "uint8",
    2: "int8",
    3: "int16",
    4: "int32",
    5: "int64",
    6: "float64",
    7: "float32",
    8: "uint16",
}
"""Code of an element type in the index → its numpy name."""

_HEADER: Final = struct.Struct("<9sQBQQ")
_BOUNDS: Final = struct.Struct("<qq")
_LENGTH_BYTES: Final = 4
_POINTER_BYTES: Final = 8
_PART: Final = 1 << 20
_DATA: Final = ".bin"
_INDEX: Final = ".idx"


class Sequences:
    """One open pair of files; see `palm_torch.data.formats.table.Rows`.

    Attributes:
        layout: The element type; sequences have any length.
        records: Number of sequences.
        size_bytes: Size of the ``.bin`` file.
    """

    __slots__ = ("_data", "_index", "_last", "_pointers", "_width", "layout", "path", "records", "size_bytes")

    def __init__(self, path: Path, data: mmap.mmap, index: mmap.mmap, dtype: str, records: int) -> None:
        self.path = path
        self.layout = table.Layout("megatron", dtype)
        self.records = records
        self.size_bytes = len(data)
        self._data = data
        self._index = index
        self._last = records - 1
        self._width = np.dtype(dtype).itemsize
        self._pointers = _HEADER.size + _LENGTH_BYTES * records

    def copy(self, number: int) -> bytes:
        """Returns a sequence's bytes, copied once out of the ``.bin`` file.

        Raises:
            DataError: If the index now says that it lies elsewhere than in the file.
        """
        start, end = self._bounds(number)
        if 0 <= start <= end <= self.size_bytes and not (end - start) % self._width:
            return self._data[start:end]
        raise DataError(
            f"{self.path}: sequence {number}: the index says bytes {start} to {end - 1} of a file of "
            f"{self.size_bytes}: it was rewritten; restore {self.path.with_suffix(_INDEX)}"
        )

    def where(self, number: int) -> str:
        """Says where the index puts a sequence."""
        start, end = self._bounds(number)
        return f"bytes {start} to {end - 1} of the file, by its index"

    def _bounds(self, number: int) -> tuple[int, int]:
        """Reads where a sequence begins and the next one does: they lie one after the other."""
        place = self._pointers + _POINTER_BYTES * number
        if number < self._last:
            return _BOUNDS.unpack_from(self._index, place)
        last = self._index[place : place + _POINTER_BYTES]
        return int.from_bytes(last, "little", signed=True), self.size_bytes


def find(path: Path) -> list[tuple[str, Path]] | None:
    """Returns the ``.bin`` files of a dataset of pairs, or None where there are none.

    Args:
        path: A ``.bin`` or ``.idx`` file, what both names begin with, or a folder of pairs.

    Raises:
        DataError: If some files of a folder have an index and others have none.
    """
    if path.is_dir():
        found = sorted(
            (item for item in path.iterdir() if item.suffix == _DATA and not item.name.startswith(".")),
            key=lambda item: item.name.encode("utf-8", "surrogateescape"),
        )
        alone = [item for item in found if not item.with_suffix(_INDEX).is_file()]
        if alone and len(alone) < len(found):
            raise DataError(
                f"{alone[0]}: has no {_INDEX} file beside it, and others in the folder have one: a dataset "
                "has files of one format; restore it, or pass format='bin' to read all as raw elements"
            )
        return None if alone or not found else [(item.name, item) for item in found]
    if path.suffix in (_DATA, _INDEX):
        data, index = path.with_suffix(_DATA), path.with_suffix(_INDEX)
    else:
        data, index = (path.with_name(path.name + suffix) for suffix in (_DATA, _INDEX))
        if path.exists():
            return None
    return [(data.name, data)] if data.is_file() and index.is_file() else None


@table.register("megatron", find=find, by_suffix=False)
def open_megatron(path: Path, wanted: table.Wanted) -> Sequences:
    """Opens a ``.bin`` file with the index beside it, which decides the type and must agree with `wanted`.

    Raises:
        DataError: If a file is missing or empty, the index is none, of another version, truncated or
            extended, or its sequences are not the whole ``.bin`` file, one after the other.
    """
    beside = path.with_suffix(_INDEX)
    if not beside.is_file():
        raise DataError(f"{beside}: no such file: Megatron's {path.name} is read by the index beside it")
    index, data = table.map_file(beside), table.map_file(path)
    if len(index) < _HEADER.size:
        raise DataError(f"{beside}: expected an index of at least {_HEADER.size} bytes, got {len(index)}")
    magic, version, code, sequences, documents = _HEADER.unpack_from(index)
    if magic != MAGIC or version != VERSION:
        raise DataError(
            f"{beside}: expected an index that begins {MAGIC!r}, version {VERSION}, got {magic!r}, version "
            f"{version}"
        )
    dtype = DTYPES.get(code)
    if dtype is None:
        raise DataError(f"{beside}: expected the code of an element type, 1 to {max(DTYPES)}, got {code}")
    if wanted.dtype not in (None, dtype):
        raise DataError(f"{path}: expected elements of type {wanted.dtype}, got {dtype} in the index")
    if wanted.record_length is not None:
        raise DataError(
            f"{path}: record_length={wanted.record_length}: the index beside the file says where sequences "
            "begin and end; pass format='bin' to cut the file into records of one length instead"
        )
    expected = _HEADER.size + 12 * sequences + 8 * documents
    if sequences and len(index) == expected + sequences:
        raise DataError(
            f"{beside}: the index has a mode per sequence (multimodal data), which this format does not hand "
            "on: read it with your own dataset, inside palm_torch.AttestedDataset"
        )
    if len(index) != expected or not sequences:
        raise DataError(
            f"{beside}: expected {expected} bytes for {sequences} sequences and {documents} document bounds, "
            f"got {len(index)}"
        )
    opened = Sequences(path, data, index, dtype, sequences)
    _check_whole(beside, path, index, opened)
    return opened


def _check_whole(beside: Path, path: Path, index: mmap.mmap, opened: Sequences) -> None:
    """Checks that sequences lie one after the other and fill the file: early, and for the message's sake."""
    width, records = np.dtype(opened.layout.dtype).itemsize, opened.records
    place = 0
    for begin in range(0, records, _PART):
        count = min(_PART, records - begin)
        lengths = np.frombuffer(index, "<i4", count, _HEADER.size + 4 * begin).astype(np.int64)
        pointers = np.frombuffer(index, "<i8", count, _HEADER.size + 4 * records + 8 * begin)
        ends = place + np.cumsum(lengths * width)
        starts = np.concatenate(([place], ends[:-1]))
        wrong = (lengths < 0) | (pointers != starts)
        if wrong.any():
            at = int(np.argmax(wrong))
            raise DataError(
                f"{beside}: sequence {begin + at}: expected it at byte {starts[at]}, where the one before it "
                f"ends, got {lengths[at]} elements at byte {pointers[at]}"
            )
        place = int(ends[-1])
    if place != opened.size_bytes:
        raise DataError(
            f"{path}: expected {place} bytes, as the sequences of {beside.name} add up to, got "
            f"{opened.size_bytes}"
        )
