"""`palm_torch.memmap`: NumPy's read-only memory map for loops that slice one file, hashed as they slice.

What is read is a private copy of what was verified; the mapping itself is never handed out, so what NumPy
would compute over it in place is refused by name.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np

from palm_torch.data import chunks
from palm_torch.data.formats.chunks import CHUNK_BYTES
from palm_torch.errors import DataError

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import DTypeLike, NDArray

    from palm_torch.commit.manifest import Manifest

_KINDS: Final = frozenset("biufcmMSUV")


def memmap(
    filename: str | os.PathLike[str],
    dtype: DTypeLike = np.uint8,
    mode: str = "r",
    offset: int = 0,
    shape: int | Sequence[int] | None = None,
    order: str = "C",
    *,
    manifest: str | os.PathLike[str] | None = "auto",
    salt: bytes | None = None,
) -> AttestedMemmap:
    """Opens a file as an array that is verified where it is read; arguments as for `numpy.memmap`.

    The same file is one dataset of 4,096-byte chunks, however often a loop opens it. Open it where the
    session runs: a loader's workers may open it too, or be given the array.

    Args:
        filename: The file.
        dtype: Element type; without objects.
        mode: ``"r"``: nothing else is offered.
        offset: Where the array begins, in bytes.
        shape: Shape of the array; None for one axis up to the end of the file.
        order: ``"C"``: nothing else is offered.
        manifest: As in `palm_torch.data.chunks.open_file`.
        salt: Secret that keys the digests of private data.

    Raises:
        DataError: If the file is missing or empty, or cannot be such an array.
        ManifestError: If the manifest does not parse, or is not that of this file's chunks.
    """
    if mode not in ("r", "readonly") or order != "C":
        raise DataError(
            f"{filename}: expected mode 'r' and order 'C', got {mode!r} and {order!r}: the data of a "
            "measured run is read only, row by row"
        )
    file = chunks.open_file(filename, manifest=manifest, salt=salt)
    try:
        kind, offset = np.dtype(dtype), operator.index(offset)
        extents = None if shape is None else tuple(map(operator.index, _several(shape)))
    except (TypeError, ValueError, SyntaxError) as error:  # NumPy parses dtypes that are text
        raise DataError(
            f"{filename}: expected a NumPy dtype, and offset and shape in whole numbers, got {dtype!r}, "
            f"{offset!r} and {shape!r}: {error}"
        ) from error
    if kind.hasobject or kind.kind not in _KINDS or not kind.itemsize or kind.subdtype is not None:
        raise DataError(f"{filename}: expected elements that are plain bytes, got {kind}")
    left = file.size_bytes - offset
    if offset < 0 or left < 0:
        raise DataError(f"{filename}: offset: expected 0 to {file.size_bytes}, got {offset}")
    if extents is None:
        if left % kind.itemsize:
            raise DataError(
                f"{filename}: {left} bytes are no whole number of {kind} ({kind.itemsize} bytes each)"
            )
        extents = (left // kind.itemsize,)
    if not extents or min(extents) < 0 or math.prod(extents) * kind.itemsize > left:
        raise DataError(f"{filename}: an array of {kind} and shape {extents} does not fit into {left} bytes")
    return AttestedMemmap(file, kind, extents, offset)


def _several(shape: int | Sequence[int]) -> Sequence[int]:
    return shape if isinstance(shape, (tuple, list, np.ndarray)) else (operator.index(shape),)  # type: ignore[arg-type]


class AttestedMemmap:
    """An array in a file, read by verified chunks; `memmap` opens one.

    Indexing along the first axis, by a number or a slice, reads; further indices apply to what was read.

    Attributes:
        dtype: Element type.
        shape: Sizes of its axes.
        offset: Where it begins in the file, in bytes.
    """

    def __init__(
        self, file: chunks.ChunkedFile, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int
    ) -> None:
        self.dtype = dtype
        self.shape = shape
        self.offset = offset
        self._file = file
        self._row_bytes = math.prod(shape[1:]) * dtype.itemsize

    @property
    def uid(self) -> str:
        """Name of the dataset that the file's chunks are."""
        return self._file.uid

    @property
    def manifest(self) -> Manifest | None:
        """Header of the manifest that authenticates the chunks, or None."""
        return self._file.info.manifest

    @property
    def filename(self) -> os.PathLike[str]:
        """The file."""
        return self._file.info.path

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Length of an element, in bytes."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Length of the array, in bytes."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        """Returns the size of the first axis."""
        return self.shape[0]

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401 (NumPy's indices and what they give)
        """Reads an element, a row, or a slice of them, as a private array.

        Raises:
            IndexError: If there is no such element.
            TypeError: For indices other than numbers and slices along the first axis.
            RecordError: If a chunk's bytes are not those of the manifest.
        """
        if isinstance(key, slice):
            start, stop, step = key.indices(self.shape[0])
            size = self._row_bytes
            if step != 1 or start >= stop or not size:
                return self._slice(range(start, stop, step))
            offset = self.offset
            part = self._file.read_part(offset + start * size, offset + stop * size)
            found = np.frombuffer(part, self.dtype)
            return found if len(self.shape) == 1 else found.reshape(stop - start, *self.shape[1:])
        if isinstance(key, tuple):
            if not key:
                return self[:]
            first, rest = self[key[0]], key[1:]
            return first[(slice(None), *rest) if isinstance(key[0], slice) else rest] if rest else first
        try:
            row = operator.index(key)
        except TypeError:
            raise TypeError(
                f"{self.filename}: an attested memmap is read by numbers and slices along its first axis, "
                f"got {type(key).__name__}: read one slice per window, or use palm_torch.AttestedWindows"
            ) from None
        if not -len(self) <= row < len(self):
            raise IndexError(f"{self.filename}: index {row} of {len(self)}")
        row %= len(self)
        return self[row : row + 1][0]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:  # noqa: FBT001 (NumPy)
        """Reads the whole array, verified, into memory.

        Raises:
            ValueError: If no copy is allowed: what lies in the file is never handed out.
        """
        if copy is False:
            raise ValueError(
                f"{self.filename}: cannot be an array without a copy: expected copy=True or None"
            )
        whole: NDArray[Any] = self[:]
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __getattr__(self, name: str) -> NoReturn:
        """Names the way out for everything else that an array can do."""
        raise AttributeError(
            f"an attested memmap has no {name!r}: read a slice first (data[a:b].{name}), or all of it into "
            "memory with np.asarray(data)"
        )

    def __repr__(self) -> str:
        """Says what it is without reading it."""
        return f"AttestedMemmap({str(self.filename)!r}, dtype={self.dtype}, shape={self.shape})"

    def _slice(self, rows: range) -> NDArray[Any]:
        """Reads rows that are not all those between two: only the chunks they touch, each of those once."""
        shape = (len(rows), *self.shape[1:])
        if not len(rows) or not self._row_bytes:
            return np.empty(shape, self.dtype)
        upwards = rows if rows.step > 0 else rows[::-1]
        spans = self._spans(upwards)
        parts = self._file.read([self._bytes_of(span) for span in spans])
        strides = (upwards.step * self._row_bytes, 1)
        apart = [
            np.ndarray((len(span), self._row_bytes), np.uint8, part, strides=strides)
            for span, part in zip(spans, parts, strict=True)
        ]
        found = np.concatenate(apart).view(self.dtype).reshape(shape)
        return found if upwards is rows else found[::-1]

    def _spans(self, rows: range) -> list[range]:
        """Divides rows where whole chunks lie between two of them that neither touches."""
        size = self._row_bytes
        if (rows.step - 1) * size < CHUNK_BYTES or len(rows) == 1:
            return [rows]
        starts = np.arange(rows.start, rows.stop, rows.step, dtype=np.int64) * size + self.offset
        after = (starts + size - 1) // CHUNK_BYTES + 1
        cuts = [0, *(np.flatnonzero(starts[1:] // CHUNK_BYTES > after[:-1]) + 1).tolist(), len(rows)]
        return [rows[cuts[at] : cuts[at + 1]] for at in range(len(cuts) - 1)]

    def _bytes_of(self, span: range) -> tuple[int, int]:
        return self.offset + span[0] * self._row_bytes, self.offset + (span[-1] + 1) * self._row_bytes
