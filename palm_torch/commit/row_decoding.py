"""Reading a row's bytes again: exactly the rows that `palm_torch.commit.rows` writes, and nothing else.

Two places move forward, one in the values and one in the trailer. Nothing is allocated for a length or a
count before as many bytes were found.
"""

from __future__ import annotations

import itertools
import math
import struct
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from palm_torch.commit import row_types
from palm_torch.commit.row_types import Fixed, ListOf, RowType, Variable
from palm_torch.errors import EncodingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COUNT: Final = struct.Struct("<Q")
NO_NULLS: Final = b"\0"
SOME_NULLS: Final = b"\1"

Numbers: TypeAlias = "Callable[[Fixed, memoryview], Any]"
"""Makes the items of lists without nulls of the bytes of values of fixed width: what can be sliced."""

_TRUTHS: Final = b"\0\1"


def decode(
    names: Sequence[str], types: Sequence[RowType], data: bytes, numbers: Numbers | None
) -> tuple[Any, ...]:
    """Returns the values of a row, one per column; see `palm_torch.commit.rows.Codec.decode`.

    Raises:
        EncodingError: If these are not the canonical bytes of a row of these columns.
    """
    parts = _Parts(data)
    row = [_decode(name, column, 1, parts, numbers)[0] for name, column in zip(names, types, strict=True)]
    parts.finish()
    return tuple(row)


class _Parts:
    """The two halves of a row while it is read, each with a place."""

    __slots__ = ("_at", "_data", "_mark", "_trailer", "_values_end")

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._at = 0
        end = len(data) - COUNT.size
        size = COUNT.unpack_from(data, end)[0] if end >= 0 else 0
        if not 0 <= size <= end:
            raise EncodingError(f"row: its trailer does not fit in {len(data)} bytes")
        self._values_end = end - size
        self._trailer = self._data[end - size : end]
        self._mark = 0

    def values(self, size: int) -> memoryview:
        """Takes the next bytes of values."""
        if size > self._values_end - self._at:
            raise EncodingError(
                f"row: expected {size} bytes of values more, got {self._values_end - self._at}"
            )
        self._at += size
        return self._data[self._at - size : self._at]

    def marks(self, size: int) -> memoryview:
        """Takes the next bytes of the trailer."""
        if size > len(self._trailer) - self._mark:
            raise EncodingError(f"row: its trailer ends after {len(self._trailer)} bytes, too early")
        self._mark += size
        return self._trailer[self._mark - size : self._mark]

    def counts(self, number: int) -> tuple[int, ...]:
        """Takes lengths or counts."""
        return struct.unpack(f"<{number}Q", self.marks(COUNT.size * number))

    def nulls(self, number: int) -> list[bool] | None:
        """Takes the null marks of a vector; None if nothing is null."""
        mark = bytes(self.marks(1))
        if mark == NO_NULLS:
            return None
        bits = bytes(self.marks((number + 7) // 8))
        over = bits[-1] >> (number & 7) if number & 7 else 0
        if mark != SOME_NULLS or not any(bits) or over:
            raise EncodingError("row: null marks are not in canonical form")
        return [bool(bits[at >> 3] >> (at & 7) & 1) for at in range(number)]

    def finish(self) -> None:
        """Checks that nothing is left."""
        left = self._values_end - self._at, len(self._trailer) - self._mark
        if any(left):
            raise EncodingError(f"row: {left[0]} bytes of values and {left[1]} of the trailer are left over")


def _decode(where: str, kind: RowType, number: int, parts: _Parts, numbers: Numbers | None) -> list[Any]:
    """Takes a vector of values."""
    nulls = parts.nulls(number)
    present = _decode_present(where, kind, number - sum(nulls or ()), parts, numbers)
    if nulls is None:
        return present
    following = iter(present)
    return [None if null else next(following) for null in nulls]


def _decode_present(
    where: str, kind: RowType, number: int, parts: _Parts, numbers: Numbers | None
) -> list[Any]:
    if isinstance(kind, Fixed):
        return _unpack(where, kind, parts.values(kind.width * number))
    if isinstance(kind, Variable):
        return [_text(where, kind, parts.values(size)) for size in parts.counts(number)]
    if isinstance(kind, ListOf):
        sizes = parts.counts(number)
        items = _decode_items(where, kind.item, sum(sizes), parts, numbers)
        ends = [*itertools.accumulate(sizes)]
        return [items[end - size : end] for size, end in zip(sizes, ends, strict=True)]
    columns = [_decode(f"{where}.{name}", inner, number, parts, numbers) for name, inner in kind.fields]
    names = [name for name, _ in kind.fields]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _decode_items(
    where: str, kind: RowType, number: int, parts: _Parts, numbers: Numbers | None
) -> Sequence[Any]:
    """Takes the items of lists: as a caller wants them where they are of fixed width and none is null."""
    if numbers is None or not isinstance(kind, Fixed):
        return _decode(f"{where}[]", kind, number, parts, numbers)
    nulls = parts.nulls(number)
    raw = parts.values(kind.width * (number - sum(nulls or ())))
    if nulls is None:
        _check_truths(where, kind, raw)
        made: Sequence[Any] = numbers(kind, raw)
        return made
    following = iter(_unpack(where, kind, raw))
    return [None if null else next(following) for null in nulls]


def _unpack(where: str, kind: Fixed, raw: memoryview) -> list[Any]:
    _check_truths(where, kind, raw)
    width, number = kind.width, len(raw) // kind.width
    found = list(struct.unpack(f"<{number}{kind.code}", raw))
    if kind.is_float:
        for at, value in enumerate(found):
            if math.isnan(value):
                bits = bytes(raw[at * width : (at + 1) * width])
                found[at] = (
                    value if struct.pack("<" + kind.code, math.nan) == bits else row_types.PayloadNaN(bits)
                )
    return found


def _check_truths(where: str, kind: Fixed, raw: memoryview) -> None:
    if kind.code == "?" and bytes(raw).translate(None, _TRUTHS):
        raise EncodingError(f"{where}: expected truth values of 0 and 1, got {bytes(raw[:40])!r}")


def _text(where: str, kind: Variable, raw: memoryview) -> str | bytes:
    if not kind.text:
        return bytes(raw)
    try:
        return str(raw, "utf-8")
    except UnicodeDecodeError as error:
        raise EncodingError(f"{where}: expected UTF-8, got {bytes(raw[:40])!r}") from error
