"""The table of dataset formats: one file each, registered by decorator.

A format's function opens one file of a dataset and says how it divides into records. What is registered here
is exactly what `palm-torch measure` and `AttestedMmapDataset` can read.

Records of one length that lie in a row are a `ShardView`, whose bytes are read many at once. Records of every
other kind are `Rows`: each is copied out once as its canonical bytes, and what training sees is decoded from
that copy.
"""

from __future__ import annotations

import math
import mmap
import operator
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, runtime_checkable

import numpy as np

from palm_torch import files
from palm_torch.commit import manifest as manifests
from palm_torch.commit.manifest import Column
from palm_torch.data.formats import row_columns
from palm_torch.errors import DataError

ELEMENT_TYPES: Final = frozenset(
    {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
    | {"float16", "float32", "float64", "complex64", "complex128"}
)
"""Element types a record may hold, by their numpy names; stored little endian."""

MAX_AXES: Final = 32
"""Most axes of an array of records: NumPy 1 offers no more."""

BIT_TYPES: Final = {"bfloat16": "uint16"}
"""Element types that NumPy lacks, by torch's names → the type in which it holds their bits."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How records lie in a file.

    Attributes:
        format: Name of the file format.
        dtype: Element type by its numpy name, little endian; None where records are not elements of a type.
        shape: Shape of one record in elements; None where records differ in length.
        columns: Columns of a row; None where records are no rows.
    """

    format: str
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    columns: tuple[Column, ...] | None = None

    @property
    def record_bytes(self) -> int | None:
        """Length of one record in bytes; None where records differ in length."""
        if self.dtype is None or self.shape is None:
            return None
        return math.prod(self.shape) * np.dtype(BIT_TYPES.get(self.dtype, self.dtype)).itemsize

    @property
    def kind(self) -> str:
        """What gives a record's bytes their meaning, for `palm_torch.commit.records.record_key`."""
        return manifests.kind_of(self.format, self.dtype, self.columns)

    @property
    def said(self) -> str:
        """How the records are read, as evidence says it: `palm_torch.commit.manifest.layout_of`."""
        return manifests.layout_of(self.format, self.dtype, self.shape, self.columns)

    def fixed(self) -> tuple[np.dtype[Any], tuple[int, ...], int]:
        """Returns element type, or that of its bits, shape and length in bytes of a record, all being alike.

        Raises:
            DataError: If records differ in length.
        """
        size = self.record_bytes
        if not size or self.dtype is None or self.shape is None:
            raise DataError(f"{self} have no one length")
        return np.dtype(BIT_TYPES.get(self.dtype, self.dtype)), self.shape, size

    def __str__(self) -> str:
        """Says it in words for messages."""
        if self.columns is not None and self.dtype is None:
            return f"{self.format} rows of ({', '.join(f'{one.name}: {one.type}' for one in self.columns)})"
        if self.dtype is None:
            return f"{self.format} records"
        if self.shape is None:
            return f"{self.format} records of {self.dtype}, of any length"
        named = f" (tensor {self.columns[0].name!r})" if self.columns else ""
        return f"{self.format} records of {self.dtype}{list(self.shape)}{named}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the caller says about the layout; None leaves it to the file.

    Attributes:
        record_length: Elements per record, for files that are one flat row of elements.
        dtype: Stored element type by its numpy name.
        format: Name of the format, where names of files do not tell it, or tell another.
        tensor: Name of the tensor whose rows are the records, in files that hold several.
        fresh: Whether indices that this library keeps beside the data are made anew, in private: for
            measuring.
    """

    record_length: int | None = None
    dtype: str | None = None
    format: str | None = None
    tensor: str | None = None
    fresh: bool = False

    def __post_init__(self) -> None:
        """Refuses lengths, types and formats that cannot be."""
        if self.record_length is not None:
            length = operator.index(self.record_length) if hasattr(self.record_length, "__index__") else 0
            if length < 1:
                raise DataError(f"record_length: expected at least 1 element, got {self.record_length!r}")
            object.__setattr__(self, "record_length", length)  # NumPy's integers have no place in a manifest
        if self.dtype is not None and self.dtype not in ELEMENT_TYPES | BIT_TYPES.keys():
            known = ", ".join(sorted(ELEMENT_TYPES | BIT_TYPES.keys()))
            raise DataError(f"token_dtype: expected one of {known}, got {self.dtype!r}")
        if self.format is not None and self.format not in FORMATS:
            raise DataError(f"format: expected one of {', '.join(sorted(FORMATS))}, got {self.format!r}")


@dataclass(frozen=True, slots=True)
class ShardView:
    """One open file of records of one length, one after the other.

    Attributes:
        layout: How the records lie; its `shape` is known.
        records: Number of records.
        offset: Where the first begins, in bytes; other bytes may follow the last.
        mapping: The whole file, mapped read-only.
        head: The private copy of the file's first bytes that layout and offset were read from; empty where
            the file says neither.
    """

    layout: Layout
    records: int
    offset: int
    mapping: mmap.mmap
    head: bytes = b""

    @property
    def buffer(self) -> memoryview:
        """The records' bytes, and nothing else, as they lie in the mapping."""
        _, _, size = self.layout.fixed()
        return memoryview(self.mapping)[self.offset : self.offset + self.records * size]

    @property
    def size_bytes(self) -> int:
        """Size of the whole file."""
        return len(self.mapping)


class Rows(Protocol):
    """One open file of records of any length.

    Attributes:
        layout: How the records lie.
        records: Number of records.
        size_bytes: Size of the whole file.
    """

    @property
    def layout(self) -> Layout:
        """How the records lie."""

    @property
    def records(self) -> int:
        """Number of records."""

    @property
    def size_bytes(self) -> int:
        """Size of the whole file."""

    def copy(self, number: int) -> bytes:
        """Returns the canonical bytes of a record, copied once out of what others can rewrite.

        What an index says of where the record lies is believed no further than that it lies in the file.

        Raises:
            DataError: If the record does not lie in the file, or has no canonical bytes.
        """

    def where(self, number: int) -> str:
        """Says where in the file a record lies, for messages: ``bytes 10 to 19 of the file``."""


@runtime_checkable
class Checked(Protocol):
    """Rows of which some may have canonical bytes and no item: measuring asks before it takes them."""

    def check(self, first: int, count: int) -> None:
        """Refuses such rows among `count` from `first` on.

        Raises:
            DataError: If there is one.
        """


OpenShard: TypeAlias = "Callable[[Path, Wanted], ShardView | Rows]"
Decoder: TypeAlias = "Callable[[bytes], Any]"


@dataclass(frozen=True, slots=True)
class Format:
    """One row of the table.

    Attributes:
        open: Opens one file.
        decoder: Returns what makes an item of a record's canonical bytes, for records that are `Rows`: arrays
            are NumPy's, and may share the bytes' memory. None where a record is elements of a type.
        find: Tells whether a dataset at a path is of this format by more than the names of its files: returns
            the files with their names, in order, or None if it is not. None where the suffix is enough.
        by_suffix: Whether files whose name ends in the format's name are of it. A format with neither that
            nor `find` is read where the caller names it: the path is opened as it stands.
        together: Returns what decodes several records at once, column by column, or None if nothing does; for
            formats with a decoder.
    """

    open: OpenShard
    decoder: Callable[[Layout], Decoder] | None = None
    find: Callable[[Path], list[tuple[str, Path]] | None] | None = None
    by_suffix: bool = True
    together: Callable[[Layout], row_columns.Decode | None] | None = None


FORMATS: Final[dict[str, Format]] = {}
"""Format name, which as a rule is also the file name's suffix without the dot → how it is read."""


def register(
    name: str,
    *,
    decoder: Callable[[Layout], Decoder] | None = None,
    find: Callable[[Path], list[tuple[str, Path]] | None] | None = None,
    by_suffix: bool = True,
    together: Callable[[Layout], row_columns.Decode | None] | None = None,
) -> Callable[[OpenShard], OpenShard]:
    """Registers the function that opens files of a format.

    Args:
        name: The format's name; files whose name ends in ``.name`` are of it.
        decoder: As in `Format`.
        find: As in `Format`.
        by_suffix: As in `Format`.
        together: As in `Format`.
    """

    def enter(function: OpenShard) -> OpenShard:
        FORMATS[name] = Format(function, decoder, find, by_suffix, together)
        return function

    return enter


def map_file(path: Path) -> mmap.mmap:
    """Maps a whole file read-only.

    Raises:
        DataError: If the file is missing, no regular file, empty or cannot be mapped.
    """
    try:
        with files.open_regular(path) as stream:
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:
        raise DataError(f"{path}: empty shard: a dataset's file holds at least one record") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def check_axes(path: Path, shape: tuple[int, ...]) -> None:
    """Refuses arrays with more axes than arrays and tensors may have.

    Raises:
        DataError: If there are too many.
    """
    if len(shape) > MAX_AXES:
        raise DataError(f"{path}: expected an array of at most {MAX_AXES} axes, got {len(shape)}")


def whole_records(
    path: Path, mapping: mmap.mmap, offset: int, layout: Layout, *, head: bytes = b""
) -> ShardView:
    """Divides what follows `offset` into records of one length; `head` as in `ShardView`.

    Raises:
        DataError: If there is no record, or bytes are left over.
    """
    _, _, size = layout.fixed()
    records, over = divmod(len(mapping) - offset, size)
    if over:
        raise DataError(
            f"{path}: length is not a multiple of the record: {len(mapping) - offset} bytes are {records} "
            f"{layout} of {size} bytes and {over} bytes over; check record_length and "
            "token_dtype"
        )
    if not records:
        raise DataError(f"{path}: empty shard: a dataset's file holds at least one record")
    return ShardView(layout, records, offset, mapping, head)
