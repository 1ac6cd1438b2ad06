"""Columns in Arrow's memory layout, read value by value as the canonical bytes of rows.

The buffers lie in a mapped file that others can rewrite at any moment, so Arrow's own accessors, which
believe the offsets that they find there, are not used for values. A column is a tree of views of its buffers
whose sizes were checked once; every offset, index and null mark is read once, bounded, and only then used;
the bytes of values are copied once, into the row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import pyarrow as pa

from palm_torch.commit import row_decoding, rows
from palm_torch.commit.row_types import Fixed
from palm_torch.data.formats import arrow_buffers, arrow_types
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_torch.data.formats.arrow_buffers import Places

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
            self._marks = arrow_buffers.view(buffers[0], (self._first + self.size + 7) // 8)
        self._width = width or 0
        if width is not None:
            begin, end = self._first * width, (self._first + self.size) * width
            self._data = arrow_buffers.view(buffers[1], end)[begin:end]

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

    def check(self, places: Places) -> None:
        """Refuses values, none of which is null, that have bytes and are none: strings that are not UTF-8."""


class _Truths(Column):
    """Truth values, a bit each."""

    __slots__ = ()

    def __init__(self, array: pa.Array) -> None:
        super().__init__(array)
        self._data = arrow_buffers.view(array.buffers()[1], (self._first + self.size + 7) // 8)

    def plain(self) -> None:
        return None

    def values(self, places: Places, body: list[memoryview | bytes], _trailer: list[bytes]) -> None:
        data, first = self._data, self._first
        body.append(bytes(data[(first + at) >> 3] >> (first + at & 7) & 1 for at in places))


class _Bytes(Column):
    """Strings or bytes, divided by offsets."""

    __slots__ = ("_is_text", "_offsets")

    def __init__(self, array: pa.Array, code: str, *, is_text: bool) -> None:
        super().__init__(array)
        self._is_text = is_text
        _, offsets, data = array.buffers()
        self._offsets = arrow_buffers.offsets(array, offsets, code)
        self._data = arrow_buffers.view(data, 0)

    def plain(self) -> Plain | None:
        return None if self._marks is not None else (self._offsets, self._data, 1, len(self._data))

    def values(self, places: Places, body: list[memoryview | bytes], trailer: list[bytes]) -> None:
        data, spans = self._data, arrow_buffers.spans(self._offsets, places, len(self._data))
        trailer.append(rows.counts([end - begin for begin, end in spans]))
        if isinstance(places, range) and spans:  # they follow each other
            body.append(data[spans[0][0] : spans[-1][1]])
        else:
            body.extend(data[begin:end] for begin, end in spans)

    def check(self, places: Places) -> None:
        if self._is_text:
            data = self._data
            for begin, end in arrow_buffers.spans(self._offsets, places, len(data)):
                try:
                    str(data[begin:end], "utf-8")
                except UnicodeDecodeError as error:
                    raise DataError(f"a string is not UTF-8: {bytes(data[begin:end])[:40]!r}") from error


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
        self._offsets = arrow_buffers.offsets(array, array.buffers()[1], code)
        self._items = column(array.values)

    def plain(self) -> Plain | None:
        items = self._items.plain() if type(self._items) is Column else None
        if self._marks is not None or items is None:
            return None
        return self._offsets, items[1], items[2], self._items.size

    def values(self, places: Places, body: list[memoryview | bytes], trailer: list[bytes]) -> None:
        spans = arrow_buffers.spans(self._offsets, places, self._items.size)
        trailer.append(rows.counts([end - begin for begin, end in spans]))
        append(self._items, arrow_buffers.within(spans, places), body, trailer)

    def check(self, places: Places) -> None:
        spans = arrow_buffers.spans(self._offsets, places, self._items.size)
        check(self._items, arrow_buffers.within(spans, places))


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
        append(self._items, self._inner(places), body, trailer)

    def check(self, places: Places) -> None:
        check(self._items, self._inner(places))

    def _inner(self, places: Places) -> Places:
        first, count = self._first, self._count
        spans = [((first + at) * count, (first + at + 1) * count) for at in places]
        return arrow_buffers.within(spans, places)


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

    def check(self, places: Places) -> None:
        for field in self._fields:
            check(field, places)


class _Dictionary(Column):
    """Values by their place in a dictionary, which rows do not tell from the values."""

    __slots__ = ("_codes", "_words")

    def __init__(self, array: pa.Array) -> None:
        code = _INDEX_CODES[str(array.type.index_type)]
        super().__init__(array.indices, Fixed("", code).width)
        self._codes = arrow_buffers.cast(self._data, code)
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
    code = "q" if types.is_large_string(kind) or types.is_large_binary(kind) else "i"
    return _Bytes(array, code, is_text=types.is_string(kind) or types.is_large_string(kind))


def append(of: Column, places: Places, body: list[memoryview | bytes], trailer: list[bytes]) -> None:
    """Appends a vector of values, as `palm_torch.commit.rows` lays it down."""
    of, found = of.present(places)
    if found is places:
        trailer.append(row_decoding.NO_NULLS)
        of.values(places, body, trailer)
    else:
        trailer.append(rows.null_marks([at is None for at in found]))
        of.values([at for at in found if at is not None], body, trailer)


def check(of: Column, places: Places) -> None:
    """Refuses values that have canonical bytes and yet are none: strings that are not UTF-8.

    Raises:
        DataError: If there is one.
    """
    of, found = of.present(places)
    of.check(places if found is places else [at for at in found if at is not None])
