"""Reading records of any length: each copied out once as its canonical bytes, hashed, and handed on.

What says where a record lies (offsets, indices) can be rewritten at any moment like the records themselves.
It is believed no further than that the copy lies in the file: what counts is the digest of what was copied.
"""

from __future__ import annotations

import bisect
import itertools
import math
from typing import TYPE_CHECKING, Any, Final

from blake3 import blake3

from palm_torch.data import authentic
from palm_torch.data.formats import table
from palm_torch.data.group_table import GroupScratch, GroupTable
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from palm_torch.data import shards
    from palm_torch.errors import RecordError

_PART_BYTES: Final = 256 << 10
"""Bytes of records that are copied and hashed before they are decoded: a second-level cache holds them."""


class _Workspace:
    """What one thread needs to read: a hasher keyed for records, scratch for the manifest's groups."""

    __slots__ = ("groups", "hasher")

    def __init__(self, key: bytes) -> None:
        self.hasher = blake3(key=key)
        self.groups = GroupScratch()


class RowReader:
    """All records of a dataset whose records differ in length, by number.

    Pickling is that of `palm_torch.data.reader.RecordReader`.

    Attributes:
        path: The dataset's file or folder.
        files: Its files, open.
        layout: What the records are.
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
        self._views = [_rows(file) for file in files]
        self._starts = [0, *itertools.accumulate(view.records for view in self._views)]
        self.records = self._starts.pop()
        self._idle: list[_Workspace] = []

    def read(
        self,
        indices: NDArray[np.int64],
        item: Callable[[bytes], Any] = bytes,
        items_of: Callable[[list[bytes]], list[Any]] | None = None,
    ) -> tuple[list[Any], bytes]:
        """Reads records by number.

        What was made of a batch counts only when this returns: the manifest is asked last. A few records at
        once are decoded while their bytes are still in the processor's cache, and let go of.

        Args:
            indices: Record numbers, each from 0 to `records` − 1, int64, [n].
            item: Makes what is handed out of a record's canonical bytes, which lie in private memory.
            items_of: Makes the same of several records at once; by `item` unless given.

        Returns:
            The items, and the records' digests, 32 bytes each.

        Raises:
            DataError: If a record does not lie in its file, or `item` refuses it; the message names it.
            RecordError: If a record's bytes are not those of the manifest.
            ManifestError: If the manifest was rewritten since it was opened.
        """
        try:
            work = self._idle.pop()
        except IndexError:
            work = _Workspace(self._key)
        digests: list[bytes] = []
        items: list[Any] = []
        try:
            if items_of is None:
                self._take(indices.tolist(), work.hasher, item, digests, items)
            else:
                self._take_parts(indices.tolist(), work.hasher, (item, items_of), digests, items)
        except DataError as error:
            self._authenticate(indices[: len(digests)], digests, work.groups)  # if it was changed, say that
            if len(digests) == len(items):
                raise
            raise type(error)(f"{self.where(int(indices[len(items)]))}: {error}") from error
        joined = self._authenticate(indices, digests, work.groups)
        self._idle.append(work)
        return items, joined

    def _take(
        self,
        numbers: list[int],
        hasher: blake3,
        item: Callable[[bytes], Any],
        digests: list[bytes],
        items: list[Any],
        room: float = math.inf,
    ) -> None:
        """Copies, hashes and decodes; where it ends early, one digest more than items tells what failed.

        It ends with the record that fills `room` bytes.
        """
        reset, update, digest = hasher.reset, hasher.update, hasher.digest
        keep, append = items.append, digests.append
        copy = self._views[0].copy if len(self._views) == 1 else self._copy
        for content in map(copy, numbers):
            reset()
            update(content)
            append(digest())
            keep(item(content))
            room -= len(content)
            if room <= 0:
                return

    def _copy(self, number: int) -> bytes:
        shard = bisect.bisect_right(self._starts, number) - 1
        return self._views[shard].copy(number - self._starts[shard])

    def _take_parts(
        self,
        numbers: list[int],
        hasher: blake3,
        items_by: tuple[Callable[[bytes], Any], Callable[[list[bytes]], list[Any]]],
        digests: list[bytes],
        items: list[Any],
    ) -> None:
        """Does what `_take` does for a part of the records after the other, each decoded at once."""
        item, items_of = items_by
        while len(items) < len(numbers):
            contents: list[bytes] = []
            try:
                self._take(numbers[len(items) :], hasher, bytes, digests, contents, _PART_BYTES)
                items += items_of(contents)
            except DataError:
                for content in contents:  # the first that cannot be decoded comes before what failed here
                    items.append(item(content))
                raise

    def _authenticate(self, indices: NDArray[np.int64], digests: list[bytes], scratch: GroupScratch) -> bytes:
        joined = b"".join(digests)
        if self.table is not None and digests:
            authentic.check(indices, joined, self.table, scratch, self._changed)
        return joined

    def where(self, number: int) -> str:
        """Says where a record lies, for messages: its file, number and place in the file."""
        shard = bisect.bisect_right(self._starts, number) - 1
        place = self._views[shard].where(number - self._starts[shard])
        return f"{self.files[shard].path}: record {number} ({place})"

    def _changed(self, number: int) -> RecordError:
        shard = bisect.bisect_right(self._starts, number) - 1
        place = self._views[shard].where(number - self._starts[shard])
        return authentic.changed(self.files[shard].path, number, place)

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy in another process needs to open the same files."""
        return authentic.state(self.path, self.files, self._key, self.table)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Opens the files again and refuses them if they changed their form meanwhile."""
        files = authentic.reopened(state)
        RowReader.__init__(self, state["path"], files, state["key"], state["table"])


def _rows(file: shards.ShardFile) -> table.Rows:
    if isinstance(file.view, table.ShardView):
        raise DataError(f"{file.path}: expected records of any length, got {file.view.layout}")
    return file.view
