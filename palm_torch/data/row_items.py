"""Items of records of any length: decoded from the very bytes that were hashed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np
import torch

from palm_torch.data import fixed_items
from palm_torch.data.formats import row_columns, table
from palm_torch.errors import DataError, prefixed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from palm_torch.data.row_reader import RowReader


class RowItems:
    """What a dataset hands out where records differ in length.

    Numbers of a type become a flat tensor, to which `dtype` and `targets` apply. Every other record is what
    its format decodes, its arrays as tensors; these are neither converted nor shifted.

    Args:
        reader: Reads the records.
        dtype: Element type of the tensors; None keeps the stored one.
        targets: Whether an item is the pair (record without its last element, record without its first).

    Attributes:
        reader: As given.
        stackable: False: a batch of them is a list.

    Raises:
        DataError: If the type cannot hold the stored elements, or records are no numbers and targets are
            wanted.
    """

    stackable = False

    def __init__(self, reader: RowReader, dtype: torch.dtype | None, *, targets: bool) -> None:
        self.reader = reader
        self._dtype = dtype
        self._targets = targets
        self._item = self._numbers() if reader.layout.dtype is not None else self._decoded()
        self._columns = None if reader.layout.dtype is not None else _columns_of(reader.layout)
        self._items_of = None if self._columns is None else self._together

    def singly(self, wanted: NDArray[np.int64]) -> tuple[Sequence[Any], bytes]:
        """Reads records and decodes them; raises what `RowReader.read` does."""
        return self.reader.read(wanted, self._item, self._items_of)

    def _numbers(self) -> Callable[[bytes], Any]:
        stored = np.dtype(self.reader.layout.dtype)
        with prefixed(str(self.reader.path)):
            working, dtype = fixed_items.working_dtype(stored, self._dtype), self._dtype
        read, wrap = np.frombuffer, torch.from_numpy
        checks = fixed_items.may_wrap(stored, working)

        def plain(content: bytes) -> torch.Tensor:
            if checks and content and read(content, np.int64).min() < 0:
                raise DataError(fixed_items.TOO_GREAT)
            return wrap(read(content, stored).astype(working))

        def converted(content: bytes) -> torch.Tensor:
            return plain(content).to(dtype)

        item = plain if dtype in (None, fixed_items.TORCH_TYPES.get(working.name)) else converted
        if not self._targets:
            return item

        def shifted(content: bytes) -> tuple[torch.Tensor, torch.Tensor]:
            tensor = item(content)
            return tensor[:-1], tensor[1:].clone()  # a loop may write to either

        return shifted

    def _decoded(self) -> Callable[[bytes], Any]:
        layout = self.reader.layout
        if self._targets:
            raise DataError(
                f"{self.reader.path}: targets=True shifts flat records of numbers by one element, got "
                f"{layout}"
            )
        make = table.FORMATS[layout.format].decoder
        if make is None:
            raise DataError(f"{self.reader.path}: nothing decodes {layout}")
        decode = make(layout)
        return lambda content: _owned(decode(content))

    def _together(self, contents: list[bytes]) -> list[Any]:
        """Decodes several rows at once; those that are not plain, one by one."""
        few = self._columns is None or len(contents) < _FEW
        columns = None if few or self._columns is None else self._columns(contents)
        if columns is None:
            return [self._item(content) for content in contents]
        names = tuple(columns)
        cells = [
            _cells(column) if type(column) is row_columns.Runs else column for column in columns.values()
        ]
        return [dict(zip(names, row, strict=False)) for row in zip(*cells, strict=True)]

    def __getstate__(self) -> dict[str, Any]:
        """Returns the arguments: functions that decode do not travel."""
        return {"reader": self.reader, "dtype": self._dtype, "targets": self._targets}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Makes it anew."""
        RowItems.__init__(self, state["reader"], state["dtype"], targets=state["targets"])


_FEW: Final = 8
"""Number of records below which one at a time is quicker."""
_PLAIN: Final = frozenset({str, bytes, int, float, bool, type(None)})
"""Types of values that are handed out as they are."""
_NATIVE: Final = {
    stored: np.dtype(name)
    for name in fixed_items.TORCH_TYPES
    for stored in (np.dtype(name).newbyteorder("<"), np.dtype(name).newbyteorder(">"))
}
"""Element types of arrays, in both byte orders → the one that tensors take."""


def _columns_of(layout: table.Layout) -> row_columns.Decode | None:
    """Returns what decodes several records of a format at once, if something does."""
    together = table.FORMATS[layout.format].together
    return None if together is None else together(layout)


def _cells(column: row_columns.Runs) -> Sequence[Any]:
    """Returns the lists of a column as tensors, or arrays where torch lacks their type, in one block."""
    native = _NATIVE.get(column.values.dtype)
    if native is None:
        return np.split(column.values, np.cumsum(column.counts)[:-1])
    return torch.split(torch.from_numpy(column.values.astype(native, copy=False)), column.counts)


def _owned(value: Any) -> Any:  # noqa: ANN401 (whatever a format decodes)
    """Returns a value with tensors in place of arrays, each in memory of its own."""
    kind = type(value)
    if kind is dict:
        for name, part in value.items():
            if type(part) not in _PLAIN:
                value[name] = _owned(part)
        return value
    if kind is list:
        nested = bool(value) and type(value[0]) in (dict, list, np.ndarray)
        return [_owned(part) for part in value] if nested else value
    if kind is np.ndarray:
        array = cast("NDArray[Any]", value)
        native = _NATIVE.get(array.dtype)
        if native is array.dtype:  # quicker than a conversion that changes nothing
            return torch.from_numpy(array.copy())
        return array.copy() if native is None else torch.from_numpy(array.astype(native))
    return value
