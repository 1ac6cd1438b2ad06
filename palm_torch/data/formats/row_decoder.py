"""Items made of the canonical bytes of rows: a dictionary of column → value.

Strings, bytes, numbers, truth values and null are Python's; a list of numbers is a NumPy array that shares
the record's bytes, or a list with None where some are null; other lists are lists, structs dictionaries.
Times are the integers that count them; their unit stands in the column's type.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from palm_torch.commit import row_decoding, row_types, rows
from palm_torch.commit.row_types import Fixed, ListOf
from palm_torch.data.formats import row_columns
from palm_torch.errors import DataError, EncodingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from palm_torch.commit.row_types import RowType
    from palm_torch.data.formats import table

_KINDS: Final = {
    **dict(zip("?bhiq", ("b1", "i1", "i2", "i4", "i8"), strict=True)),
    **dict(zip("BHIQefd", ("u1", "u2", "u4", "u8", "f2", "f4", "f8"), strict=True)),
}
"""Code of the `struct` module → NumPy's name, without the order of its bytes."""
_NUMBER: Final = 0
_TEXT: Final = 1
_BYTES: Final = 2
_LIST: Final = 3


def decoder(layout: table.Layout) -> Callable[[bytes], dict[str, Any]]:
    """Returns what makes an item of a row's canonical bytes.

    Raises:
        DataError: If the layout has no columns of rows.
    """
    if layout.columns is None:
        raise DataError(f"{layout} have no columns")
    try:
        codec = rows.Codec(layout.columns)
    except EncodingError as error:
        raise DataError(f"{layout}: {error}") from error
    names = tuple(column.name for column in layout.columns)

    def decode(data: bytes) -> dict[str, Any]:
        try:
            return dict(zip(names, codec.decode(data, numbers=_array), strict=True))
        except EncodingError as error:
            raise DataError(f"row of {layout}: {error}") from error

    form = rows.plain_trailer(codec.types)
    return decode if form is None or _has_truths(codec.types) else _plain(names, codec.types, form, decode)


def together(layout: table.Layout) -> row_columns.Decode | None:
    """Returns what decodes several rows at once, or None if a column's type needs them one by one."""
    columns = layout.columns or ()
    return row_columns.decoder([column.name for column in columns], row_types.check_columns(columns))


def _plain(
    names: Sequence[str],
    types: Sequence[RowType],
    form: struct.Struct,
    otherwise: Callable[[bytes], dict[str, Any]],
) -> Callable[[bytes], dict[str, Any]]:
    """Returns a faster decoder for rows without nulls; all others, and what is malformed, it hands on."""
    steps = [(name, *_step(kind)) for name, kind in zip(names, types, strict=True)]
    size, unpack, frombuffer = form.size, form.unpack_from, np.frombuffer
    ones = form.pack(*[(1 << 64) - 1] * len(form.unpack(bytes(size))))
    zeros = int.from_bytes(ones, "little") ^ (
        (1 << 8 * size) - 1
    )  # where the trailer says that nothing is null
    marks = size - row_decoding.COUNT.size

    def decode(data: bytes) -> dict[str, Any]:
        end = len(data) - size
        if end < 0 or int.from_bytes(data[end:], "little") & zeros:
            return otherwise(data)
        following = iter(unpack(data, end))
        item: dict[str, Any] = {}
        at = 0
        for name, way, width, read in steps:
            begin = at
            count = next(following) if way else 1
            at += count * width
            if at > end:
                return otherwise(data)
            if way == _LIST:
                item[name] = frombuffer(data, read, count, begin)
            elif way == _TEXT:
                try:
                    item[name] = data[begin:at].decode()
                except UnicodeDecodeError:
                    return otherwise(data)
            else:
                item[name] = data[begin:at] if way else read(data, begin)[0]
        return item if at == end and next(following) == marks else otherwise(data)

    return decode


def _step(kind: RowType) -> tuple[int, int, Any]:
    """Returns how a column of a plain row is read: the way, bytes per value, and with what."""
    if isinstance(kind, row_types.Variable):
        return _TEXT if kind.text else _BYTES, 1, None
    of = kind.item if isinstance(kind, ListOf) else kind
    if not isinstance(of, Fixed):
        raise DataError(f"expected a type of plain rows, got {kind}")
    if isinstance(kind, ListOf):
        return _LIST, of.width, _dtype(of.code)
    return _NUMBER, of.width, struct.Struct("<" + of.code).unpack_from


def _dtype(code: str) -> np.dtype[Any]:
    return np.dtype(f"<{_KINDS[code]}")


def _array(kind: Fixed, raw: memoryview) -> NDArray[Any]:
    return np.frombuffer(raw, _dtype(kind.code))


def _has_truths(types: Sequence[RowType]) -> bool:
    """Tells whether truth values are among the columns: their bytes have to be looked at."""
    return any(
        "?" in (getattr(kind, "code", ""), getattr(getattr(kind, "item", None), "code", "")) for kind in types
    )
