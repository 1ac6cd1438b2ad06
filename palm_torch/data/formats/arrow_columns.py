"""Columns in Arrow's memory layout, read value by value as the canonical bytes of rows.

The buffers lie in a mapped file that others can rewrite at any moment, so Arrow's own accessors, which
believe the offsets that they find there, are not used for values. A column is a tree of views of its buffers
whose sizes were checked once; every offset, index and null mark is read once, bounded, and only then used;
the bytes of values are copied once, into the row.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pyarrow as pa

from palm_torch.commit import row_decoding, rows
from palm_torch.commit.row_types import Fixed
from palm_torch.data.formats import arrow_types
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

Places: TypeAlias = "Sequence[int]"
"""Places of values in a column; a `range` where they follow each other."""
Found: TypeAlias = "Sequence[int | None]"
"""The same with None for null."""
Plain: TypeAlias = "tuple[memoryview | None, memoryview, int, int]"
"""How a column without nulls is read at once: (offsets, values, bytes per value, number of values). Without
offsets, the last is how many values lie in one place of the column, or −1 for a value that is no list."""

_INDEX_CODES: Final = {
    **{"int8": "b", "int16": "h", "int32": "i", "int64": "q"},  # noqa: PIE800 (a row of the table per line)
    **{"uint8": "B", "uint16": "H", "uint32": "I", "uint64": "Q"},  # noqa: PIE800 (likewise)
}


class Column:
    """A column with values of fixed width; the other kinds refine it.

    Attributes:
        size: Number of values.
    """

    __slots__ = ("_data", "_first", "_marks", "_width", "size")

    def __init__(self, array: pa.Array, width: int | None = None) -> None:
        self.size = len(array)
        self._first = array.offset
        self._marks = None
        buffers = array.buffers()
        if array.null_count and buffers[0] is not None:
            self._marks = _view(buffers[0], (self._first + self.size + 7) // 8)
        self._width = width or 0
        if width is not None:
            begin = self._first * width
            self._data = _view(buffers[1], begin + self.size * width)[begin : begin + self.size * width]

    def plain(self) -> Plain | None:
        """Says how to read the column at once; None where that is not possible."""
        return None if self._marks is not None else (None, self._data, self._width, -1)

    def present(self, places: Places) -> tuple[Column, Found]:
        """Returns where the values lie, and None where one is null."""
        marks, first = self._marks, self._first
        if marks is None:
            return self, places
        found = [at if marks[(first + at) >> 3] >> (first + at & 7) & 1 else None for at in places]
        return self, found if None in found else places

    def values(self, places: Places, body: list[memoryview | bytes], _trailer: list[bytes]) -> None:
        """Appends values, none of which is null."""
        data, width = self._data, self._width
        if isinstance(places, range):
            body.append(data[places.start * width : places.stop * width])
        else:
            body.extend(data[at * width : (at + 1) * width] for at in places)


class _Truths(Column):
    """Truth values, a bit each."""

    __slots__ = ()

    def __init__(self, array: pa.Array) -> None:
        super().__init__(array)
        self._data = _view(array.buffers()[1], (self._first + self.size + 7) // 8)

    def plain(self) -> None:
        return None

    def values(self, places: Places, body: list[memoryview | bytes], _trailer: list[bytes]) -> None:
        data, first = self._data, self._first
        body.append(bytes(data[(first + at) >> 3] >> (first + at & 7) & 1 for at in places))


class _Bytes(Column):
    """Strings or bytes, divided by offsets."""

    __slots__ = ("_offsets",)

    def __init__(self, array: pa.Array, code: str) -> None:
        super().__init__(array)
        _, offsets, data = array.buffers()
        self._offsets = _offsets(array, offsets, code)
        self._data = _view(data, 0)

    def plain(self) -> Plain | None:
        return None if self._marks is not None else (self._offsets, self._data, 1, len(self._data))

    def values(self, places: Places, body: list[memoryview | bytes], trailer: list[bytes]) -> None:
        data, spans = self._data, _spans(self._offsets, places, len(self._data))
        trailer.append(rows.counts([end - begin for begin, end in spans]))
        if isinstance(places, range) and spans:  # they follow each other
            body.append(data[spans[0][0] : spans[-1][1]])
        else:
            body.extend(data[begin:end] for begin, end in spans)


class _BytesOfOneSize(Column):
    """Bytes of one size, which rows do not tell from bytes of any size."""

    __slots__ = ()

    def plain(self) -> Plain | None:
        return None if self._marks is not None else (None, self._data, self._width, self._width)

    def values(self, places: Places, body: list[memoryview | bytes], trailer: list[bytes]) -> None:
        trailer.append(rows.counts([self._width] * len(places)))
        super().values(places, body, trailer)


class _Lists(Column):
    """Lists, divided by offsets."""

    __slots__ = ("_items", "_offsets")

    def __init__(self, array: pa.Array, code: str) -> None:
        super().__init__(array)
        self._offsets = _offsets(array, array.buffers()[1], code)
        self._items = column(array.values)

    def plain(self) -> Plain | None:
        items = self._items.plain() if type(self._items) is Column else None
        if self._marks is not None or items is None:
            return None
        return self._offsets, items[1], items[2], self._items.size

    def values(self, places: Places, body: list[memoryview | bytes], trailer: list[bytes]) -> None:
        spans = _spans(self._offsets, places, self._items.size)
        trailer.append(rows.counts([end - begin for begin, end in spans]))
        if isinstance(places, range) and spans:
            inner: Places = range(spans[0][0], spans[-1][1])
        else:
            inner = [*itertools.chain.from_iterable(range(begin, end) for begin, end in spans)]
        append(self._items, inner, body, trailer)


class _ListsOfOneSize(Column):
    """Lists of one size."""

    __slots__ = ("_count", "_items")

    def __init__(self, array: pa.Array, count: int) -> None:
        super().__init__(array)
        self._count = count
        self._items = column(array.values)
        if self._items.size < (self._first + self.size) * count:
            raise DataError(f"expected {(self._first + self.size) * count} items, got {self._items.size}")

    def plain(self) -> Plain | None:
        items = self._items.plain() if type(self._items) is Column else None
        if self._marks is not None or items is None:
            return None
        width = self._count * items[2]
        return None, items[1][self._first * width :], width, self._count

    def values(self, places: Places, body: list[memoryview | bytes], trailer: list[bytes]) -> None:
        trailer.append(rows.counts([self._count] * len(places)))
        spans = [((self._first + at) * self._count, (self._first + at + 1) * self._count) for at in places]
        if isinstance(places, range) and spans:
            inner: Places = range(spans[0][0], spans[-1][1])
        else:
            inner = [*itertools.chain.from_iterable(range(begin, end) for begin, end in spans)]
        append(self._items, inner, body, trailer)


class _Structs(Column):
    """Structs: a column per field."""

    __slots__ = ("_fields",)

    def __init__(self, array: pa.Array) -> None:
        super().__init__(array)
        self._fields = [column(array.field(at)) for at in range(array.type.num_fields)]
        if any(field.size < self.size for field in self._fields):
            raise DataError(f"expected {self.size} values of every field of a struct")

    def plain(self) -> None:
        return None

    def values(self, places: Places, body: list[memoryview | bytes], trailer: list[bytes]) -> None:
        for field in self._fields:
            append(field, places, body, trailer)


class _Dictionary(Column):
    """Values by their place in a dictionary, which rows do not tell from the values."""

    __slots__ = ("_codes", "_words")

    def __init__(self, array: pa.Array) -> None:
        code = _INDEX_CODES[str(array.type.index_type)]
        super().__init__(array.indices, Fixed("", code).width)
        self._codes = _cast(self._data, code)
        self._words = column(array.dictionary)

    def plain(self) -> None:
        return None

    def present(self, places: Places) -> tuple[Column, Found]:
        _, found = super().present(places)
        codes, size = self._codes, self._words.size
        chosen = [codes[at] for at in found if at is not None]
        for code in chosen:
            if not 0 <= code < size:
                raise DataError(f"expected the number of one of {size} values of a dictionary, got {code}")
        words, there = self._words.present(chosen)
        following = iter(there)
        return words, [None if at is None else next(following) for at in found]


def column(array: pa.Array) -> Column:
    """Returns an array, whose type is one of rows, as a column.

    Raises:
        DataError: If its buffers are too short for its length.
    """
    array = arrow_types.stored(array)
    kind, types = array.type, pa.types
    if types.is_dictionary(kind):
        return _Dictionary(array)
    if types.is_struct(kind):
        return _Structs(array)
    if types.is_fixed_size_list(kind):
        return _ListsOfOneSize(array, kind.list_size)
    if types.is_list(kind) or types.is_large_list(kind):
        return _Lists(array, "i" if types.is_list(kind) else "q")
    if types.is_fixed_size_binary(kind):
        return _BytesOfOneSize(array, kind.byte_width)
    if types.is_boolean(kind):
        return _Truths(array)
    row_type = arrow_types.row_type(kind)
    if isinstance(row_type, Fixed):
        return Column(array, row_type.width)
    return _Bytes(array, "q" if types.is_large_string(kind) or types.is_large_binary(kind) else "i")


def append(of: Column, places: Places, body: list[memoryview | bytes], trailer: list[bytes]) -> None:
    """Appends a vector of values, as `palm_torch.commit.rows` lays it down."""
    of, found = of.present(places)
    if found is places:
        trailer.append(row_decoding.NO_NULLS)
        of.values(places, body, trailer)
    else:
        trailer.append(rows.null_marks([at is None for at in found]))
        of.values([at for at in found if at is not None], body, trailer)


def _spans(offsets: memoryview, places: Places, limit: int) -> list[tuple[int, int]]:
    """Returns where values begin and end; every offset is read once."""
    if isinstance(places, range):
        read = offsets[places.start : places.stop + 1].tolist() if len(places) else []
        spans = [*itertools.pairwise(read)]
    else:
        spans = [(offsets[at], offsets[at + 1]) for at in places]
    for begin, end in spans:
        if not 0 <= begin <= end <= limit:
            raise astray(begin, end, limit)
    return spans


def astray(begin: int, end: int, limit: int) -> DataError:
    """Returns the error for offsets that lead out of their column."""
    return DataError(f"its offsets lead astray: expected values within 0 to {limit}, got {begin} to {end}")


def _offsets(array: pa.Array, buffer: pa.Buffer | None, code: str) -> memoryview:
    width = Fixed("", code).width
    begin, end = array.offset * width, (array.offset + len(array) + 1) * width
    return _cast(_view(buffer, end if len(array) else 0)[begin:end], code)


def _cast(view: memoryview, code: str) -> memoryview:
    """Returns bytes as numbers; the code is one of whole numbers."""
    whole: Any = view
    numbers: memoryview = whole.cast(code)
    return numbers


def _view(buffer: pa.Buffer | None, least: int) -> memoryview:
    """Returns a buffer's bytes, of which there must be enough."""
    view = memoryview(b"") if buffer is None else memoryview(buffer).cast("B")
    if len(view) < least:
        raise DataError(f"expected a buffer of at least {least} bytes, got {len(view)}")
    return view
