"""Reading a coverage map once, from its first count to its last, in little memory.

What is made of the counts on the way is worth nothing until `CoverageFile.finish` has returned the root of
the very bytes that were taken, and that root is the sealed one. Nothing is read twice, so a file that
changes meanwhile has no effect but to be refused.
"""

from __future__ import annotations

import contextlib
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from palm_torch.commit import coverage, history
from palm_torch.digest import TAGGED_SHA256, Digest
from palm_torch.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_PIECE_LEAVES: Final = 32
PIECE_RECORDS: Final = _PIECE_LEAVES * coverage.LEAF_RECORDS

_LETTERS: Final = {1: "B", 2: "H", 4: "I"}


@dataclass(frozen=True, slots=True)
class Read:
    """What a map turned out to be once all of it was read.

    Attributes:
        root: Its coverage root.
        summary: What it says at a glance.
    """

    root: Digest
    summary: coverage.Summary


class CoverageFile:
    """An open coverage map, read in order; `opened` makes it.

    Attributes:
        path: The file.
        width: Bytes per counter: 1, 2 or 4.
        records: Number of records in the map.
    """

    __slots__ = ("_left", "_log", "_stream", "_summary", "_waiting", "path", "records", "width")

    def __init__(self, path: Path, stream: BinaryIO) -> None:
        """Reads the head and compares it with the file's size; see `opened`."""
        self.path = path
        self.width, self.records = coverage.read_head(path, stream.read(coverage.HEAD_BYTES))
        size = os.fstat(stream.fileno()).st_size - coverage.HEAD_BYTES
        if size != self.width * self.records:
            raise _wrong_length(self, size)
        self._stream = stream
        self._left = self.records
        self._waiting = b""
        self._log = history.History()
        self._summary: coverage.Summary | None = None

    def take(self, number: int) -> bytes:
        """Returns the next counters, little endian, `width` bytes each.

        Raises:
            EvidenceError: If there are not as many left, or the file became shorter meanwhile.
        """
        if number > self._left:
            raise EvidenceError(f"{self.path}: expected counts of more records than {self.records}")
        part = self._stream.read(number * self.width)
        if len(part) != number * self.width:
            raise _wrong_length(self, coverage.HEAD_BYTES + len(part))
        self._left -= number
        self._summary = _with(self._summary, numbers(part, self.width))
        step = coverage.LEAF_RECORDS * self.width
        waiting = self._waiting + part
        whole = len(waiting) - len(waiting) % step if self._left else len(waiting)
        for leaf in coverage.leaves(waiting[:whole], self.width):
            self._log.append(leaf)
        self._waiting = waiting[whole:]
        return part

    def finish(self) -> Read:
        """Reads what was not taken, and returns what the whole map is.

        Raises:
            EvidenceError: If the file is not exactly a coverage map.
        """
        while self._left:
            self.take(min(self._left, PIECE_RECORDS))
        if self._stream.read(1):
            raise EvidenceError(f"{self.path}: bytes follow the last counter")
        summary = self._summary or coverage.Summary(0, 0, 0, 0)
        if (least := coverage.narrowest(summary.greatest)) != self.width:
            raise EvidenceError(f"{self.path}: expected the smallest width, {least} bytes, got {self.width}")
        return Read(Digest(TAGGED_SHA256, self._log.root()), summary)

    def inclusion_proof(self, leaf: int) -> tuple[bytes, ...]:
        """Returns the sibling hashes of a leaf in the map that was read to its end."""
        return self._log.inclusion_proof(leaf)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[CoverageFile]:
    """Opens a coverage map.

    Raises:
        EvidenceError: If the file cannot be read, or does not begin as a coverage map of its size does.
    """
    try:
        with path.open("rb") as stream:
            yield CoverageFile(path, stream)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise EvidenceError(f"{path}: cannot be read: {getattr(error, 'strerror', error)}") from error


def read(path: Path) -> Read:
    """Reads a map from beginning to end and returns what it is.

    Raises:
        EvidenceError: If the file cannot be read or is not exactly a coverage map.
    """
    with opened(path) as file:
        return file.finish()


def inclusion(path: Path, index: int) -> tuple[coverage.Inclusion, Digest]:
    """Proves how often one record was delivered; returns the proof and the root of the map that was read.

    Args:
        path: The coverage map.
        index: The record.

    Raises:
        EvidenceError: If the file cannot be read or is not exactly a coverage map, or has no such record.
    """
    with opened(path) as file:
        if not 0 <= index < file.records:
            raise EvidenceError(f"{path}: expected a record from 0 to {file.records - 1}, got {index}")
        at = index // coverage.LEAF_RECORDS
        for _ in range(at // _PIECE_LEAVES):
            file.take(PIECE_RECORDS)
        for _ in range(at % _PIECE_LEAVES):
            file.take(coverage.LEAF_RECORDS)
        around = min(coverage.LEAF_RECORDS, file.records - at * coverage.LEAF_RECORDS)
        (leaf,) = coverage.leaves(file.take(around), file.width)
        root = file.finish().root
        return coverage.Inclusion(index, file.records, leaf, file.inclusion_proof(at)), root


def numbers(counts: bytes, width: int) -> Sequence[int]:
    """Returns counters of 1, 2 or 4 bytes, little endian, as numbers."""
    if width == 1:
        return counts
    return struct.unpack(f"<{len(counts) // width}{_LETTERS[width]}", counts)


def _with(before: coverage.Summary | None, counts: Sequence[int]) -> coverage.Summary | None:
    if not counts:
        return before
    zeros = counts.count(0)
    part = coverage.Summary(sum(counts), len(counts) - zeros, min(counts), max(counts))
    if before is None:
        return part
    return coverage.Summary(
        before.delivered + part.delivered,
        before.distinct + part.distinct,
        min(before.least, part.least),
        max(before.greatest, part.greatest),
    )


def _wrong_length(file: CoverageFile, size: int) -> EvidenceError:
    return EvidenceError(
        f"{file.path}: expected {file.records} counters of {file.width} bytes each, got {size} bytes"
    )
