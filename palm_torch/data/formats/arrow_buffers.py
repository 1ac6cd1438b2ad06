"""Buffers of Arrow that lie in a mapped file, which others can rewrite at any moment.

Their sizes are checked once; every offset is read once, bounded, and only then used.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, TypeAlias

from palm_torch.commit.row_types import Fixed
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

Places: TypeAlias = "Sequence[int]"
"""Places of values in a column; a `range` where they follow each other."""


def spans(offsets: memoryview, places: Places, limit: int) -> list[tuple[int, int]]:
    """Returns where values begin and end; every offset is read once."""
    if isinstance(places, range):
        read = offsets[places.start : places.stop + 1].tolist() if len(places) else []
        found = [*itertools.pairwise(read)]
    else:
        found = [(offsets[at], offsets[at + 1]) for at in places]
    for begin, end in found:
        if not 0 <= begin <= end <= limit:
            raise astray(begin, end, limit)
    return found


def within(lists: list[tuple[int, int]], places: Places) -> Places:
    """Returns the places of the items of lists; the lists follow each other where their places do."""
    if isinstance(places, range) and lists:
        return range(lists[0][0], lists[-1][1])
    return [*itertools.chain.from_iterable(range(begin, end) for begin, end in lists)]


def astray(begin: int, end: int, limit: int) -> DataError:
    """Returns the error for offsets that lead out of their column."""
    return DataError(f"its offsets lead astray: expected values within 0 to {limit}, got {begin} to {end}")


def offsets(array: pa.Array, buffer: pa.Buffer | None, code: str) -> memoryview:
    """Returns the offsets that divide an array's values: one more than there are values, if there are any."""
    width = Fixed("", code).width
    begin, end = array.offset * width, (array.offset + len(array) + 1) * width
    return cast(view(buffer, end if len(array) else 0)[begin:end], code)


def cast(content: memoryview, code: str) -> memoryview:
    """Returns bytes as numbers; the code is one of whole numbers."""
    whole: Any = content
    numbers: memoryview = whole.cast(code)
    return numbers


def view(buffer: pa.Buffer | None, least: int) -> memoryview:
    """Returns a buffer's bytes, of which there must be enough."""
    content = memoryview(b"") if buffer is None else memoryview(buffer).cast("B")
    if len(content) < least:
        raise DataError(f"expected a buffer of at least {least} bytes, got {len(content)}")
    return content
