"""Reading records: copied out of the mapping once, hashed in the copy, and the copy handed on.

This is the innermost loop of the library. What others can rewrite at any moment (the mapped files) is
touched by one copy per record and never again; the digest, the comparison with the manifest and the
values that training sees all come from that copy. Bounded scratch memory is reused, so that the bytes
are still in the processor's cache when they are hashed and converted.
"""

from __future__ import annotations

import bisect
import itertools
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from blake3 import blake3

from palm_torch.commit import records
from palm_torch.data import shards
from palm_torch.data.group_table import GroupScratch, GroupTable
from palm_torch.errors import DataError, ManifestError, RecordError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from palm_torch.data.formats import table

SCRATCH_BYTES: Final = 256 << 10
"""Scratch memory for one part of a batch: small enough to stay in a core's second-level cache."""

_EVERY: Final = np.arange(records.GROUP_RECORDS)


class _Workspace:
    """What one thread needs to read a part of a batch.

    Attributes:
        rows: Scratch, uint8, [part, record_bytes].
        typed: The same memory as elements, [part, *record shape].
        slots: One writable view of bytes per row.
        hasher: Keyed for records.
        groups: Scratch for the manifest's groups.
    """

    __slots__ = ("groups", "hasher", "rows", "slots", "typed")

    def __init__(self, layout: table.Layout, key: bytes) -> None:
        part = max(1, min(records.GROUP_RECORDS, SCRATCH_BYTES // layout.record_bytes))
        self.rows: NDArray[np.uint8] = np.empty((part, layout.record_bytes), dtype=np.uint8)
        self.typed: NDArray[Any] = self.rows.view(np.dtype(layout.dtype)).reshape(part, *layout.shape)
        whole = self.rows.reshape(-1).data
        size = layout.record_bytes
        self.slots = [whole[at * size : (at + 1) * size] for at in range(part)]
        self.hasher = blake3(key=key)
        self.groups = GroupScratch()


class RecordReader:
    """All records of a dataset, by number.

    Pickling sends paths and private digests; the copy opens the files again and checks that they still
    have the sizes and layout they had.

    Attributes:
        path: The dataset's file or folder.
        files: Its files, open.
        layout: How a record lies in them.
        records: Number of records.
        table: The authenticated record digests, or None without a manifest.
    """

    def __init__(
        self, path: Path, files: list[shards.ShardFile], key: bytes, table: GroupTable | None
    ) -> None:
        self.path = path
        self.files = files
        self.layout = files[0].view.layout
        self.table = table
        self._key = key
        self._starts = [0, *itertools.accumulate(file.view.records for file in files)]
        self.records = self._starts.pop()
        self._buffers = [file.view.buffer for file in files]
        # C order is certain: the formats admit nothing else.
        self._first_rows = np.frombuffer(self._buffers[0], dtype=np.uint8).reshape(
            -1, self.layout.record_bytes
        )
        self._idle: list[_Workspace] = []

    def read(self, indices: NDArray[np.int64], keep: Callable[[int, NDArray[Any]], None]) -> bytes:
        """Reads records by number.

        Args:
            indices: Record numbers, each from 0 to `records` − 1, int64, [n].
            keep: Called with the number of records before, and scratch memory with the next records,
                [part, *record shape]; it has to take what it needs before it returns.

        Returns:
            The digests, 32 bytes each.

        Raises:
            RecordError: If a record's bytes are not those of the manifest.
            ManifestError: If the manifest was rewritten since it was opened.
        """
        digests: list[bytes] = []
        try:
            work = self._idle.pop()
        except IndexError:
            work = _Workspace(self.layout, self._key)
        part = len(work.slots)
        for start in range(0, len(indices), part):
            numbers = indices[start : start + part]
            count = len(numbers)
            if len(self._buffers) == 1:
                np.take(self._first_rows, numbers, axis=0, out=work.rows[:count], mode="clip")
            else:
                self._gather(numbers.tolist(), work.slots)
            _hash(work, count, digests)
            keep(start, work.typed[:count])
        joined = b"".join(digests)
        if self.table is not None:
            self._authenticate(indices, joined, work.groups, self.table)
        self._idle.append(work)
        return joined

    def _gather(self, numbers: Sequence[int], slots: Iterable[memoryview]) -> None:
        size, starts, buffers = self.layout.record_bytes, self._starts, self._buffers
        find = bisect.bisect_right
        for number, slot in zip(numbers, slots, strict=False):  # the last part of a batch is shorter
            shard = find(starts, number) - 1
            at = (number - starts[shard]) * size
            slot[:] = buffers[shard][at : at + size]

    def _authenticate(
        self, indices: NDArray[np.int64], digests: bytes, scratch: GroupScratch, table: GroupTable
    ) -> None:
        """Compares record digests with the manifest's, whose groups are copied out and checked first.

        Up to 64 records at once: a call of `GroupTable.group` per record would cost a third of the
        budget. What goes wrong is looked at again and named record by record.
        """
        for start in range(0, len(indices), records.GROUP_RECORDS):
            numbers = indices[start : start + records.GROUP_RECORDS]
            expected = digests[start * 32 : (start + records.GROUP_RECORDS) * 32]
            groups, rows = numbers >> 6, _EVERY[: len(numbers)]
            new = groups[1:] != groups[:-1]
            if not new.all():  # neighbours lie in one group: check it once
                rows = np.concatenate(([0], np.cumsum(new)))
                groups = groups[np.concatenate(([True], new))]
            if not table.take(groups, scratch) or scratch.digests[rows, numbers & 63].tobytes() != expected:
                self._authenticate_singly(numbers.tolist(), expected, table)

    def _authenticate_singly(self, numbers: Sequence[int], digests: bytes, table: GroupTable) -> None:
        for at, number in enumerate(numbers):
            expected = table.group(number >> 6)
            if not expected.startswith(digests[at * 32 : at * 32 + 32], (number & 63) * 32):
                raise self._changed(number)

    def _changed(self, number: int) -> RecordError:
        shard = bisect.bisect_right(self._starts, number) - 1
        within = number - self._starts[shard]
        size, view = self.layout.record_bytes, self.files[shard].view
        first = view.offset + within * size
        return RecordError(
            f"{self.files[shard].path}: record {number} (bytes {first} to {first + size - 1} of the file) is "
            "not the record the manifest was made of: the file was changed, or another salt was given; "
            "restore the file, or run `palm-torch measure` again if the change is meant"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy in another process needs to open the same files."""
        return {
            "path": self.path,
            "key": self._key,
            "table": self.table,
            "layout": self.layout,
            "sizes": [(file.name, file.size_bytes) for file in self.files],
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Opens the files again and refuses them if they changed their form meanwhile."""
        layout: table.Layout = state["layout"]
        files = reopen(state["path"], layout)
        if [(file.name, file.size_bytes) for file in files] != state["sizes"]:
            kind = DataError if state["table"] is None else ManifestError
            raise kind(f"{state['path']}: the dataset's files changed while it was on its way to a worker")
        RecordReader.__init__(self, state["path"], files, state["key"], state["table"])


def reopen(path: Path, layout: table.Layout) -> list[shards.ShardFile]:
    """Opens a dataset whose layout is known.

    Raises:
        DataError: If the files have another layout now.
    """
    files = shards.open_all(path, shards.wanted_for(layout))
    if files[0].view.layout != layout:
        raise DataError(f"{path}: expected {layout}, got {files[0].view.layout}")
    return files


def _hash(work: _Workspace, count: int, digests: list[bytes]) -> None:
    """Appends the digests of the first `count` scratch rows."""
    hasher = work.hasher
    reset, update, digest = hasher.reset, hasher.update, hasher.digest
    append = digests.append
    for slot in work.slots[:count]:
        reset()
        update(slot)
        append(digest())
