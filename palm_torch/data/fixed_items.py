"""Items of records of one length: the reader's scratch memory turned into tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from palm_torch.data import stacking
from palm_torch.data.formats import table
from palm_torch.errors import DataError, prefixed

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
        with prefixed(str(reader.path)):
            self._bits = _bit_type(reader.layout.dtype, dtype)
            self._numpy_dtype = stored if self._bits is not None else working_dtype(stored, dtype)
        self._checks = self._bits is None and may_wrap(stored, self._numpy_dtype)
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

    def _fitting(self, scratch: NDArray[Any], first: int, wanted: NDArray[np.int64]) -> NDArray[Any]:
        """Returns the records that were read, once it is certain that none of their elements wraps around.

        Raises:
            DataError: If one would; the message names the record.
        """
        if self._checks and scratch.view(np.int64).min() < 0:
            at = int(np.flatnonzero((scratch.view(np.int64) < 0).reshape(len(scratch), -1).any(axis=1))[0])
            raise DataError(f"{self.reader.path}: record {wanted[first + at]}: {TOO_GREAT}")
        return scratch

    def stacked(self, wanted: NDArray[np.int64]) -> tuple[Sequence[Record], bytes]:
        """Reads into the tensors that the default collate function would stack the records into."""
        length, *rest = self._shape
        columns = (slice(None, -1), slice(1, None)) if self._targets else (slice(None),)
        dtype = self._dtype or TORCH_TYPES[self._numpy_dtype.name]
        tensors = [stacking.empty((len(wanted), length - len(columns) + 1, *rest), dtype) for _ in columns]
        arrays = [tensor.numpy() for tensor in tensors]

        def keep(before: int, scratch: NDArray[Any]) -> None:
            rows = self._fitting(scratch, before, wanted)
            for array, column in zip(arrays, columns, strict=True):
                np.copyto(array[before : before + len(rows)], rows[:, column], casting="same_kind")

        digests = self.reader.read(wanted, keep)
        return stacking.Stacked(tensors), digests

    def singly(self, wanted: NDArray[np.int64]) -> tuple[Sequence[Record], bytes]:
        """Reads into blocks of a few records: small ones are reused, large ones mapped anew every time."""
        items: list[Record] = []

        def keep(before: int, scratch: NDArray[Any]) -> None:
            rows = torch.from_numpy(self._fitting(scratch, before, wanted).astype(self._numpy_dtype))
            if self._bits is not None:
                rows = rows.view(self._bits)
            if self._dtype is not None and rows.dtype != self._dtype:
                rows = rows.to(self._dtype)
            if self._targets:
                shifted = rows[:, 1:].clone()  # in memory of its own: a loop may write to either half
                items.extend(zip(rows[:, :-1].unbind(0), shifted.unbind(0), strict=True))
            else:
                items.extend(rows.unbind(0))

        digests = self.reader.read(wanted, keep)
        return items, digests


def _bit_type(stored: str | None, dtype: torch.dtype | None) -> torch.dtype | None:
    """Returns torch's type for stored elements that NumPy lacks, or None if it has them."""
    if stored not in table.BIT_TYPES:
        return None
    if dtype is not None and not dtype.is_floating_point and not dtype.is_complex:
        raise _refused(stored, dtype)
    bits: torch.dtype = getattr(torch, stored)
    return bits


def _refused(stored: str, dtype: torch.dtype | None) -> DataError:
    return DataError(
        f"stored elements are {stored}, and not all of their values fit into {dtype}: pass dtype=None to "
        "keep the stored type, or a type that holds them, and convert in the loop what is known to fit"
    )


TOO_GREAT: Final = (
    "an element of uint64 is 2^63 or more, and torch.int64 cannot hold it: pass dtype=None to keep the "
    "stored type"
)
"""What is wrong with a record whose elements would wrap around."""


def working_dtype(stored: np.dtype[Any], dtype: torch.dtype | None) -> np.dtype[Any]:
    """Returns the type records are converted to in numpy; torch converts to types numpy lacks.

    No integer may wrap around: the type has to hold the range of the stored one. One exception is left to
    `may_wrap`: uint64 as int64. A floating-point type that was asked for rounds.

    Raises:
        DataError: If values of the stored type may lie outside of the range of the other.
    """
    if dtype is None:
        return stored
    name = _NUMPY_NAMES.get(dtype)
    if name is None:
        if stored.kind == "c" or not (dtype.is_floating_point or dtype.is_complex):
            raise _refused(stored.name, dtype)
        return stored
    kept = np.dtype(name)
    whole = stored.kind in "biu"
    fits = np.can_cast(stored, kept, "safe" if whole and kept.kind in "biu" else "same_kind")
    if whole and kept.kind == "f":
        fits = stored.kind == "b" or np.iinfo(stored).max <= float(np.finfo(kept).max)
    if not fits and not may_wrap(stored, kept):
        raise _refused(stored.name, dtype)
    return kept


def may_wrap(stored: np.dtype[Any], kept: np.dtype[Any]) -> bool:
    """Returns whether elements are looked at as they are read: those of uint64 that are kept as int64."""
    return stored.name == "uint64" and kept.name == "int64"
