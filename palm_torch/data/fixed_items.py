"""Items of records of one length: the reader's scratch memory turned into tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from palm_torch.data import stacking
from palm_torch.data.formats import table
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from palm_torch.data.reader import RecordReader
    from palm_torch.data.stacking import Record

_NUMPY_NAMES: Final = {
    getattr(torch, name): name for name in sorted(table.ELEMENT_TYPES) if hasattr(torch, name)
}
TORCH_TYPES: Final = {name: dtype for dtype, name in _NUMPY_NAMES.items()}
"""Element type by its numpy name → torch's."""


class FixedItems:
    """What a dataset hands out where all records have one length.

    Args:
        reader: Reads the records.
        dtype: Element type of the tensors; None keeps the stored one.
        targets: Whether an item is the pair (record without its last element, record without its first).

    Attributes:
        reader: As given.
        stackable: Whether a batch can be read into one tensor.

    Raises:
        DataError: If the type cannot hold the stored elements, or records are not flat and targets are
            wanted.
    """

    def __init__(self, reader: RecordReader, dtype: torch.dtype | None, *, targets: bool) -> None:
        self.reader = reader
        self._dtype = dtype
        self._targets = targets
        stored, self._shape, _ = reader.layout.fixed()
        self._bits = _bit_type(reader.layout.dtype, dtype)
        self._numpy_dtype = stored if self._bits is not None else working_dtype(stored, dtype)
        self.stackable = (
            self._bits is None
            and bool(self._shape)
            and self._numpy_dtype.name in (TORCH_TYPES if dtype is None else [_NUMPY_NAMES.get(dtype)])
        )
        if targets and len(self._shape) != 1:
            raise DataError(
                f"{reader.path}: targets=True shifts flat records by one element, got rows of shape "
                f"{self._shape}"
            )

    def stacked(self, wanted: NDArray[np.int64]) -> tuple[Sequence[Record], bytes]:
        """Reads into the tensors that the default collate function would stack the records into."""
        length, *rest = self._shape
        columns = (slice(None, -1), slice(1, None)) if self._targets else (slice(None),)
        dtype = self._dtype or TORCH_TYPES[self._numpy_dtype.name]
        tensors = [stacking.empty((len(wanted), length - len(columns) + 1, *rest), dtype) for _ in columns]
        arrays = [tensor.numpy() for tensor in tensors]

        def keep(before: int, rows: NDArray[Any]) -> None:
            for array, column in zip(arrays, columns, strict=True):
                np.copyto(array[before : before + len(rows)], rows[:, column], casting="same_kind")

        digests = self.reader.read(wanted, keep)
        return stacking.Stacked(tensors), digests

    def singly(self, wanted: NDArray[np.int64]) -> tuple[Sequence[Record], bytes]:
        """Reads into blocks of a few records: small ones are reused, large ones mapped anew every time."""
        items: list[Record] = []

        def keep(_before: int, scratch: NDArray[Any]) -> None:
            rows = torch.from_numpy(scratch.astype(self._numpy_dtype))
            if self._bits is not None:
                rows = rows.view(self._bits)
            if self._dtype is not None and rows.dtype != self._dtype:
                rows = rows.to(self._dtype)
            if self._targets:
                items.extend(zip(rows[:, :-1].unbind(0), rows[:, 1:].unbind(0), strict=True))
            else:
                items.extend(rows.unbind(0))

        digests = self.reader.read(wanted, keep)
        return items, digests


def _bit_type(stored: str | None, dtype: torch.dtype | None) -> torch.dtype | None:
    """Returns torch's type for stored elements that NumPy lacks, or None if it has them."""
    if stored not in table.BIT_TYPES:
        return None
    if dtype is not None and not dtype.is_floating_point and not dtype.is_complex:
        raise _lossy(stored, dtype)
    bits: torch.dtype = getattr(torch, stored)
    return bits


def _lossy(stored: str, dtype: torch.dtype | None) -> DataError:
    return DataError(
        f"stored elements are {stored}, and {dtype} cannot hold them without loss: pass "
        "dtype=None to keep the stored type, or a type that can"
    )


def working_dtype(stored: np.dtype[Any], dtype: torch.dtype | None) -> np.dtype[Any]:
    """Returns the type records are converted to in numpy; torch converts to types numpy lacks.

    Raises:
        DataError: If elements would lose something.
    """
    name = None if dtype is None else _NUMPY_NAMES.get(dtype)
    if name is not None and not np.can_cast(stored, name, "same_kind"):
        raise _lossy(stored.name, dtype)
    return stored if name is None else np.dtype(name)
