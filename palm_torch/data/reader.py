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
from palm_torch.data import authentic
from palm_torch.data.formats import table
from palm_torch.data.group_table import GroupScratch, GroupTable
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from palm_torch.data import shards
    from palm_torch.errors import RecordError

SCRATCH_BYTES: Final = 256 << 10
"""Scratch memory for one part of a batch: small enough to stay in a core's second-level cache."""


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
        dtype, shape, size = layout.fixed()
        part = max(1, min(records.GROUP_RECORDS, SCRATCH_BYTES // size))
        self.rows: NDArray[np.uint8] = np.empty((part, size), dtype=np.uint8)
        self.typed: NDArray[Any] = self.rows.view(dtype).reshape(part, *shape)
        whole = self.rows.reshape(-1).data
        self.slots = [whole[at * size : (at + 1) * size] for at in range(part)]
        self.hasher = blake3(key=key)
        self.groups = GroupScratch()


class RecordReader:
    """All records of a dataset of records of one length, by number.

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
        self._views = [_fixed(file) for file in files]
        self._starts = [0, *itertools.accumulate(view.records for view in self._views)]
        self.records = self._starts.pop()
        self._buffers = [view.buffer for view in self._views]
        _, _, self._size = self.layout.fixed()
        # C order is certain: the formats admit nothing else.
        self._first_rows = np.frombuffer(self._buffers[0], dtype=np.uint8).reshape(-1, self._size)
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
            authentic.check(indices, joined, self.table, work.groups, self._changed)
        self._idle.append(work)
        return joined

    def _gather(self, numbers: Sequence[int], slots: Iterable[memoryview]) -> None:
        size, starts, buffers = self._size, self._starts, self._buffers
        find = bisect.bisect_right
        for number, slot in zip(numbers, slots, strict=False):  # the last part of a batch is shorter
            shard = find(starts, number) - 1
            at = (number - starts[shard]) * size
            slot[:] = buffers[shard][at : at + size]

    def _changed(self, number: int) -> RecordError:
        shard = bisect.bisect_right(self._starts, number) - 1
        first = self._views[shard].offset + (number - self._starts[shard]) * self._size
        where = f"bytes {first} to {first + self._size - 1} of the file"
        return authentic.changed(self.files[shard].path, number, where)

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy in another process needs to open the same files."""
        return authentic.state(self.path, self.files, self._key, self.table)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Opens the files again and refuses them if they changed their form meanwhile."""
        files = authentic.reopened(state)
        RecordReader.__init__(self, state["path"], files, state["key"], state["table"])


def _fixed(file: shards.ShardFile) -> table.ShardView:
    if not isinstance(file.view, table.ShardView):
        raise DataError(f"{file.path}: expected records of one length, got {file.view.layout}")
    return file.view


def _hash(work: _Workspace, count: int, digests: list[bytes]) -> None:
    """Appends the digests of the first `count` scratch rows."""
    hasher = work.hasher
    reset, update, digest = hasher.reset, hasher.update, hasher.digest
    append = digests.append
    for slot in work.slots[:count]:
        reset()
        update(slot)
        append(digest())
