"""The canonical bytes of several rows decoded column by column: one step per column in place of one per cell.

Only rows without nulls, of numbers, strings, bytes and lists of numbers, are decoded so. Whether a row is one
of them, and where its values lie, is read from its own canonical bytes; all others are left to the decoder of
single rows, which knows every type and says what is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from palm_torch.commit import row_decoding, row_types, rows
from palm_torch.commit.row_types import Fixed, ListOf

if TYPE_CHECKING:
    import struct
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from palm_torch.commit.row_types import RowType


@dataclass(frozen=True, slots=True)
class Runs:
    """The lists of a column, one after the other.

    Attributes:
        values: Their items, in memory that nothing else holds, flat.
        counts: How many each row has.
    """

    values: np.ndarray[Any, np.dtype[Any]]
    counts: list[int]


Columns: TypeAlias = "dict[str, list[Any] | Runs]"
"""Name of a column → its values, one per row."""
Decode: TypeAlias = "Callable[[list[bytes]], Columns | None]"

_KINDS: Final = {
    **dict(zip("bhiq", ("i1", "i2", "i4", "i8"), strict=True)),
    **dict(zip("BHIQefd", ("u1", "u2", "u4", "u8", "f2", "f4", "f8"), strict=True)),
}
"""Code of the `struct` module → NumPy's name, without the order of its bytes."""


@dataclass(frozen=True, slots=True)
class _Step:
    """How one column is read.

    Attributes:
        name: Its name.
        width: Bytes of a value.
        counted: Whether the trailer says how many values there are; one otherwise.
        dtype: Element type of numbers; None for strings and bytes.
        text: Whether the bytes are UTF-8.
    """

    name: str
    width: int
    counted: bool
    dtype: np.dtype[Any] | None
    text: bool


def decoder(names: Sequence[str], types: Sequence[RowType]) -> Decode | None:
    """Returns what decodes rows by columns; None if one of them always needs the decoder of single rows.

    What it returns gives None for rows that are not all of the plain form.

    Args:
        names: Names of the columns, no two alike.
        types: Their types.
    """
    form = rows.plain_trailer(types)
    steps = [_step(name, kind) for name, kind in zip(names, types, strict=True)]
    plain = [step for step in steps if step is not None]
    return None if form is None or len(plain) != len(steps) else _Decoder(plain, form)


class _Decoder:
    """Decodes rows of some columns, whose trailers have one form."""

    def __init__(self, steps: list[_Step], form: struct.Struct) -> None:
        self._steps = steps
        self._form = form
        self._marks = form.size - row_decoding.COUNT.size
        ones = form.pack(*[(1 << 64) - 1] * (1 + sum(step.counted for step in steps)))
        self._zeros = int.from_bytes(ones, "little") ^ ((1 << 8 * form.size) - 1)
        """Bits of a trailer that say that nothing is null."""

    def __call__(self, contents: list[bytes]) -> Columns | None:
        size, unpack, zeros, read = self._form.size, self._form.unpack_from, self._zeros, int.from_bytes
        told: list[tuple[int, ...]] = []
        for content in contents:
            end = len(content) - size
            if end < 0 or read(content[end:], "little") & zeros:
                return None
            told.append(unpack(content, end))
        *following, marks = zip(*told, strict=True)
        if marks.count(self._marks) != len(marks):
            return None
        places = self._places(contents, following)
        if places is None:
            return None
        try:
            return {step.name: _values(step, contents, *places[at]) for at, step in enumerate(self._steps)}
        except UnicodeDecodeError:
            return None

    def _places(
        self, contents: list[bytes], following: Sequence[Sequence[int]]
    ) -> list[tuple[list[int], list[int], Sequence[int]]] | None:
        """Returns for each column where its values begin and end in each row, and how many they are."""
        found: list[tuple[list[int], list[int], Sequence[int]]] = []
        ends, left = [0] * len(contents), iter(following)
        for step in self._steps:
            begins, width = ends, step.width
            counts = next(left) if step.counted else ()
            ends = (
                [at + count * width for at, count in zip(begins, counts, strict=True)]
                if step.counted
                else [at + width for at in begins]
            )
            found.append((begins, ends, counts))
        size = self._form.size
        return found if ends == [len(content) - size for content in contents] else None


def numbers(contents: list[bytes], begins: list[int], ends: list[int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Copies numbers out of several records into one flat array, which nothing else holds.

    Args:
        contents: The records' canonical bytes.
        begins: Where they begin in each record, in bytes.
        ends: Where they end.
        dtype: Their type; it divides every length.
    """
    places = zip(contents, begins, ends, strict=True)
    joined = bytearray().join([memoryview(content)[begin:end] for content, begin, end in places])
    return np.frombuffer(joined, dtype) if joined else np.empty(0, dtype)


def _values(
    step: _Step, contents: list[bytes], begins: list[int], ends: list[int], counts: Sequence[int]
) -> list[Any] | Runs:
    """Returns the values of one column."""
    if step.dtype is None:
        parts = [content[begin:end] for content, begin, end in zip(contents, begins, ends, strict=True)]
        return [part.decode() for part in parts] if step.text else parts
    values = numbers(contents, begins, ends, step.dtype)
    return Runs(values, [*counts]) if step.counted else values.tolist()


def _step(name: str, kind: RowType) -> _Step | None:
    """Returns how a column is read; None if it is never plain."""
    if isinstance(kind, row_types.Variable):
        return _Step(name, 1, True, None, kind.text)
    of = kind.item if isinstance(kind, ListOf) else kind
    if not isinstance(of, Fixed) or of.code not in _KINDS:
        return None
    return _Step(name, of.width, isinstance(kind, ListOf), np.dtype(f"<{_KINDS[of.code]}"), text=False)
