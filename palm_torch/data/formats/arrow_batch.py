"""The rows of one record batch: columns beside each other, read across.

Rows without nulls, of numbers, strings, bytes and lists of numbers, are what training data mostly is. They
take a shorter way: a slice per column, one trailer of fixed form, and one copy that joins them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from palm_torch.commit import rows
from palm_torch.data.formats import arrow_buffers, arrow_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import pyarrow as pa


Pack: TypeAlias = "Callable[..., bytes]"


class Batch:
    """Some rows that lie together: a record batch, or a row group.

    Attributes:
        plans: How each column is read at once, if every one of them can be; else empty.
    """

    __slots__ = ("_columns", "plans")

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._columns = [arrow_columns.column(array) for array in batch.columns]
        plans = [one.plain() for one in self._columns]
        self.plans = tuple(plan for plan in plans if plan is not None)
        if len(self.plans) != len(plans):
            self.plans = ()

    def row(self, place: int) -> bytes:
        """Returns the canonical bytes of a row, whatever its columns are.

        Raises:
            DataError: If an offset or an index leads out of its column.
        """
        body: list[memoryview | bytes] = []
        trailer: list[bytes] = []
        for one in self._columns:
            arrow_columns.append(one, range(place, place + 1), body, trailer)
        return rows.joined(body, trailer)

    def check(self, places: range) -> None:
        """Refuses rows with a string that is not UTF-8.

        Raises:
            DataError: If there is one.
        """
        for one in self._columns:
            arrow_columns.check(one, places)


def plain_row(plans: Sequence[arrow_columns.Plain], place: int, pack: Pack, marks: int) -> bytes:
    """Returns the canonical bytes of a row without nulls.

    Args:
        plans: How its columns are read.
        place: Which row of the batch.
        pack: Makes the trailer of counts and of its length.
        marks: That length in bytes, without the last eight.

    Raises:
        DataError: If an offset leads out of its column.
    """
    parts: list[memoryview | bytes] = []
    counts: list[int] = []
    for offsets, data, width, limit in plans:
        if offsets is not None:
            begin, end = offsets[place], offsets[place + 1]
            if not 0 <= begin <= end <= limit:
                raise arrow_buffers.astray(begin, end, limit)
            counts.append(end - begin)
            parts.append(data[begin * width : end * width])
        else:
            parts.append(data[place * width : (place + 1) * width])
            if limit >= 0:
                counts.append(limit)
    parts.append(pack(*counts, marks))
    return b"".join(parts)
