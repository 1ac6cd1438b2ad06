"""Rows of columns as bytes: one encoding per row, values first, what divides them last.

    row      = values ‖ trailer ‖ u64(length of the trailer)
    values   = the columns' values in order, joined without anything between them
    trailer  = per column, in the same order: null marks, lengths and counts

A column of a row is a vector of one value, a list a vector of its items, and every vector is written alike:
first which values are null, then, of the others, lengths or counts (trailer) and bytes (values). Integers are
little endian. Large values therefore lie at the beginning, where hashing them is fastest.
Specification: docs/spec/40-data.md, section 7.
"""

from __future__ import annotations

import itertools
import math
import struct
from typing import TYPE_CHECKING, Any

from palm_torch.commit import row_decoding, row_types
from palm_torch.commit.row_types import Fixed, ListOf, RowType, Variable
from palm_torch.errors import EncodingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_torch.commit.manifest import Column


class Codec:
    """Encodes and decodes the rows of one dataset.

    Values in Python: bool, int, float, str and bytes, None for null, a list or a tuple for a list, a mapping
    for a struct. Times are the integers that count them.

    Args:
        columns: Names and types.

    Raises:
        EncodingError: If the columns are not well formed.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self.types: tuple[RowType, ...] = row_types.check_columns(columns)
        self._names = tuple(column.name for column in columns)

    def encode(self, row: Sequence[Any]) -> bytes:
        """Returns the canonical bytes of a row.

        Args:
            row: One value per column, in order.

        Raises:
            EncodingError: If a value is not exactly one of its column's type.
        """
        if len(row) != len(self.types):
            raise EncodingError(f"row: expected {len(self.types)} values, got {len(row)}")
        values: list[bytes] = []
        trailer: list[bytes] = []
        for name, column, value in zip(self._names, self.types, row, strict=True):
            _encode(name, column, [value], values, trailer)
        return joined(values, trailer)

    def decode(self, data: bytes, *, numbers: row_decoding.Numbers | None = None) -> tuple[Any, ...]:
        """Returns the values of a row; accepts exactly what `encode` makes.

        Args:
            data: The canonical bytes.
            numbers: Makes the items of lists of fixed width that have no nulls; Python values unless given.

        Returns:
            One value per column, in order.

        Raises:
            EncodingError: If these are not the canonical bytes of a row of these columns.
        """
        return row_decoding.decode(self._names, self.types, data, numbers)


def joined(values: Sequence[bytes | memoryview], trailer: Sequence[bytes]) -> bytes:
    """Returns a row made of its parts."""
    return b"".join([*values, *trailer, row_decoding.COUNT.pack(sum(map(len, trailer)))])


def null_marks(nulls: Sequence[bool]) -> bytes:
    """Returns the null marks of a vector: a zero byte, or a one and a bit per value, the lowest first."""
    if not any(nulls):
        return row_decoding.NO_NULLS
    bits = bytearray((len(nulls) + 7) // 8)
    for at, null in enumerate(nulls):
        bits[at >> 3] |= null << (at & 7)
    return row_decoding.SOME_NULLS + bits


def counts(numbers: Sequence[int]) -> bytes:
    """Returns lengths or counts as they stand in the trailer."""
    return struct.pack(f"<{len(numbers)}Q", *numbers)


def plain_trailer(types: Sequence[RowType]) -> struct.Struct | None:
    """Returns the form of the trailer, and its length, of rows without nulls; None where it is not fixed.

    Its fields are the lengths of strings and bytes and the counts of lists, in order, and the length of the
    trailer. It has one where columns are of fixed width, strings, bytes, or lists of values of fixed width.
    """
    form = "<"
    for column in types:
        if isinstance(column, Fixed):
            form += "x"
        elif isinstance(column, Variable):
            form += "xQ"
        elif isinstance(column, ListOf) and isinstance(column.item, Fixed):
            form += "xQx"
        else:
            return None
    return struct.Struct(form + "Q")


def _encode(
    where: str, kind: RowType, vector: Sequence[Any], values: list[bytes], trailer: list[bytes]
) -> None:
    """Appends a vector of values."""
    trailer.append(null_marks([value is None for value in vector]))
    present = [value for value in vector if value is not None]
    if isinstance(kind, Fixed):
        values.append(b"".join(_pack(where, kind, value) for value in present))
    elif isinstance(kind, Variable):
        encoded = [_bytes(where, kind, value) for value in present]
        trailer.append(counts([len(one) for one in encoded]))
        values.extend(encoded)
    elif isinstance(kind, ListOf):
        for value in present:
            if not isinstance(value, (list, tuple)):
                raise _wrong(where, kind, value)
        trailer.append(counts([len(value) for value in present]))
        _encode(f"{where}[]", kind.item, [*itertools.chain.from_iterable(present)], values, trailer)
    else:
        names = {name for name, _ in kind.fields}
        for value in present:
            if not isinstance(value, dict) or value.keys() != names:
                raise _wrong(where, kind, value)
        for name, inner in kind.fields:
            _encode(f"{where}.{name}", inner, [value[name] for value in present], values, trailer)


def _pack(where: str, kind: Fixed, value: Any) -> bytes:  # noqa: ANN401 (any value may be handed in)
    """Returns the bytes of one value, which must be exactly a value of the type."""
    if isinstance(value, row_types.PayloadNaN):
        if not _is_nan(kind, value.bits):
            raise _wrong(where, kind, value)
        return value.bits
    wanted = float if kind.is_float else int
    if not isinstance(value, wanted) or isinstance(value, bool) != (kind.code == "?"):
        raise _wrong(where, kind, value)
    try:
        packed = struct.pack("<" + kind.code, value)
    except (struct.error, OverflowError) as error:
        raise _wrong(where, kind, value) from error
    if kind.is_float and not math.isnan(value) and struct.unpack("<" + kind.code, packed) != (value,):
        raise _wrong(where, kind, value)
    return packed


def _is_nan(kind: Fixed, bits: bytes) -> bool:
    return kind.is_float and len(bits) == kind.width and math.isnan(struct.unpack("<" + kind.code, bits)[0])


def _bytes(where: str, kind: Variable, value: Any) -> bytes:  # noqa: ANN401 (any value may be handed in)
    if not isinstance(value, str if kind.text else bytes):
        raise _wrong(where, kind, value)
    try:
        return value.encode() if isinstance(value, str) else bytes(value)
    except UnicodeEncodeError as error:
        raise EncodingError(f"{where}: expected Unicode text, got {value[:40]!r}") from error


def _wrong(where: str, kind: RowType, value: Any) -> EncodingError:  # noqa: ANN401 (any value may be handed in)
    return EncodingError(f"{where}: expected a value of {kind}, got {type(value).__name__} {value!r:.80}")
