"""`AttestedWindows`: overlapping windows over one token file, verified and counted by its 4 KiB chunks."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import torch
import torch.utils.data

from palm_torch import recorder
from palm_torch.data import carrier, chunks, fixed_items, shards, stacking
from palm_torch.data.formats import npy, raw, table
from palm_torch.data.formats.chunks import CHUNK_BYTES
from palm_torch.data.stacking import Record
from palm_torch.errors import DataError, prefixed

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from palm_torch.commit.manifest import Manifest
    from palm_torch.data.open_datasets import DatasetInfo

_HEADER_CHUNKS: Final = -(-npy.MAX_HEADER_BYTES // CHUNK_BYTES)
_TOKENS: Final = "bin"
"""The one known format whose files are windowed as they stand."""


class AttestedWindows(torch.utils.data.Dataset[Record]):
    """The windows of a file of tokens, as tensors: window i begins at element ``i * stride``.

    An ordinary map-style dataset. What is hashed, compared with the manifest and counted are the 4,096-byte
    chunks that a window touches.

    Args:
        path: A flat array, ``.npy``, or a file that is nothing but elements: ``.bin``, or any other name that
            does not end as those of another format do.
        length: Elements per window; with ``targets`` one more than the model's context.
        stride: Elements from the beginning of a window to that of the next.
        token_dtype: Stored element type by its numpy name; ``"uint16"`` for ``.bin`` unless given.
        dtype: Element type of the tensors; None keeps the stored one. Integers have to fit, as for
            `palm_torch.AttestedMmapDataset`.
        targets: Whether an item is the pair (window without its last element, window without its first).
        manifest: ``"auto"`` takes the manifest of the file's chunks beside it if there is one; a path insists
            on that one; None reads without, so that a changed chunk is not noticed but only counted.
        salt: Secret that keys the digests of private data.

    Raises:
        DataError: If the file is missing, empty, shorter than a window, ragged, or of another type.
        ManifestError: If the manifest does not parse, or is not that of this file's chunks.
    """

    hands_on_records: ClassVar = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        length: int,
        *,
        stride: int = 1,
        token_dtype: str | None = None,
        dtype: torch.dtype | None = torch.int64,
        targets: bool = False,
        manifest: str | os.PathLike[str] | None = "auto",
        salt: bytes | None = None,
    ) -> None:
        length, stride = _elements_in("length", length), _elements_in("stride", stride)
        if dtype is not None and not isinstance(dtype, torch.dtype):
            raise DataError(f"dtype: expected a torch.dtype such as torch.int64, or None, got {dtype!r}")
        self._file = chunks.open_file(path, manifest=manifest, salt=salt)
        self._stored, self._offset = _stored(self._file, token_dtype)
        elements, over = divmod(self._file.size_bytes - self._offset, self._stored.itemsize)
        if over:
            raise DataError(
                f"{path}: length is not a multiple of the element: {elements} elements of "
                f"{self._stored.name} and {over} bytes over; check token_dtype"
            )
        if elements < length:
            raise DataError(f"{path}: expected at least one window of {length}, got {elements} elements")
        self._length, self._stride, self._targets = length, stride, targets
        self._windows = (elements - length) // stride + 1
        self._dtype = dtype or getattr(torch, self._stored.name)
        self._by_numpy = str(self._dtype).removeprefix("torch.") in table.ELEMENT_TYPES
        with prefixed(str(path)):
            working = fixed_items.working_dtype(self._stored, dtype)
        self._checks = fixed_items.may_wrap(self._stored, working)

    @property
    def info(self) -> DatasetInfo:
        """What a session needs to know about the file."""
        return self._file.info

    @property
    def uid(self) -> str:
        """Name of the dataset that the file's chunks are."""
        return self._file.uid

    @property
    def manifest(self) -> Manifest | None:
        """Header of the manifest that authenticates the chunks, or None."""
        return self._file.info.manifest

    def __len__(self) -> int:
        """Returns the number of windows."""
        return self._windows

    def __getitem__(self, index: int) -> Record:
        """Reads one window; negative numbers count from the end.

        Raises:
            IndexError: If there is no such window.
            RecordError: If a chunk's bytes are not those of the manifest.
        """
        return self._read([index], stacks=False)[0]

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Record]:
        """Reads the windows of a batch at once: what torch's fetcher asks for first.

        Raises:
            IndexError: If a window is not there.
            RecordError: If a chunk's bytes are not those of the manifest.
        """
        return self._read(indices, stacks=carrier.stacks()) if len(indices) else []

    def _read(self, indices: Sequence[int], *, stacks: bool) -> Sequence[Record]:
        size, step, offset = self._stored.itemsize, self._stride, self._offset
        ranges: list[tuple[int, int]] = []
        for index in indices:
            number = operator.index(index)
            if not -self._windows <= number < self._windows:
                raise IndexError(f"window {number} of {self._windows}")
            start = offset + number % self._windows * step * size
            ranges.append((start, start + self._length * size))
        rows = np.frombuffer(b"".join(self._file.read(ranges)), self._stored).reshape(
            len(ranges), self._length
        )
        if self._checks and rows.view(np.int64).min() < 0:
            error = DataError(f"{self._file.info.path}: {fixed_items.TOO_GREAT}")
            recorder.failed(error)  # a script that swallows it gets no evidence
            carrier.note_failure(error)
            raise error
        columns = (slice(None, -1), slice(1, None)) if self._targets else (slice(None),)
        tensors = [self._tensor(rows[:, column], stacks=stacks) for column in columns]
        if stacks:
            return stacking.Stacked(tensors)
        apart = [tensor.unbind(0) for tensor in tensors]
        return list(zip(*apart, strict=True)) if self._targets else list(apart[0])

    def _tensor(self, rows: np.ndarray[Any, Any], *, stacks: bool) -> torch.Tensor:
        made = (
            stacking.empty(rows.shape, self._dtype) if stacks else torch.empty(rows.shape, dtype=self._dtype)
        )
        if self._by_numpy:
            np.copyto(made.numpy(), rows, casting="unsafe")  # that nothing wraps around was checked
            return made
        return made.copy_(torch.from_numpy(rows.copy()))


def _elements_in(name: str, value: object) -> int:
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = 0
    if number < 1:
        raise DataError(f"{name}: expected at least 1 element, got {value!r}")
    return number


def _stored(file: chunks.ChunkedFile, token_dtype: str | None) -> tuple[np.dtype[Any], int]:
    """Returns the type of a file's elements and where they begin; a header is read from verified chunks.

    Raises:
        DataError: If it is no flat row of elements of a known type.
    """
    path, wanted = file.info.path, table.Wanted(None, token_dtype)
    suffix = path.suffix.lower().removeprefix(".")
    if suffix == "npy":
        return _of_array(file, wanted)
    if suffix in shards.suffixes() and suffix != _TOKENS:
        raise DataError(
            f"{path}: expected a file of elements (.bin) or a flat array (.npy), got .{suffix}, whose bytes "
            "are no row of elements: read it with palm_torch.AttestedMmapDataset, or write its tokens to a "
            ".bin file"
        )
    if wanted.dtype in table.BIT_TYPES:
        raise DataError(f"{path}: token_dtype: windows are of types that NumPy has, got {wanted.dtype}")
    return np.dtype(wanted.dtype or raw.DEFAULT_DTYPE).newbyteorder("<"), 0


def _of_array(file: chunks.ChunkedFile, wanted: table.Wanted) -> tuple[np.dtype[Any], int]:
    path = file.info.path
    start = b"".join(file.chunk(number) for number in range(min(file.info.records or 0, _HEADER_CHUNKS)))
    found = npy.read_header(path, start)
    if len(found.shape) != 1:
        raise DataError(f"{path}: expected a flat array, got one of shape {list(found.shape)}")
    if wanted.dtype not in (None, found.dtype):
        raise DataError(f"{path}: expected elements of type {wanted.dtype}, got {found.dtype}")
    stored = np.dtype(found.dtype)
    if found.offset + found.shape[0] * stored.itemsize != file.size_bytes:
        raise DataError(
            f"{path}: expected {found.shape[0]} elements after the header, as it says, got another number"
        )
    return stored, found.offset
