"""The table of dataset file formats: one function per format, registered by decorator.

A format function opens one file and says how its bytes divide into records. What is registered here is
exactly what `palm-torch measure` and `AttestedMmapDataset` can read.
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ELEMENT_TYPES: Final = frozenset(
    {"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}
    | {"float16", "float32", "float64", "complex64", "complex128"}
)
"""Element types a record may hold, by their numpy names; stored little endian."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How records lie in a file.

    Attributes:
        format: Name of the file format.
        dtype: Element type by its numpy name, little endian.
        shape: Shape of one record in elements.
    """

    format: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def record_bytes(self) -> int:
        """Length of one record in bytes."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        """Says it in words for messages."""
        return f"{self.format} records of {self.dtype}{list(self.shape)}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the caller says about the layout; None leaves it to the file.

    Attributes:
        record_length: Elements per record, for files that are one flat row of elements.
        dtype: Stored element type by its numpy name.
    """

    record_length: int | None = None
    dtype: str | None = None

    def __post_init__(self) -> None:
        """Refuses lengths and types that cannot be."""
        if self.record_length is not None and self.record_length < 1:
            raise DataError(f"record_length: expected at least 1 element, got {self.record_length}")
        if self.dtype is not None and self.dtype not in ELEMENT_TYPES:
            known = ", ".join(sorted(ELEMENT_TYPES))
            raise DataError(f"token_dtype: expected one of {known}, got {self.dtype!r}")


@dataclass(frozen=True, slots=True)
class ShardView:
    """One open file of records.

    Attributes:
        layout: How the records lie.
        records: Number of records.
        offset: Where the first begins, in bytes.
        mapping: The whole file, mapped read-only.
    """

    layout: Layout
    records: int
    offset: int
    mapping: mmap.mmap

    @property
    def buffer(self) -> memoryview:
        """The records' bytes, and nothing else, as they lie in the mapping."""
        return memoryview(self.mapping)[self.offset :]


OpenShard: TypeAlias = "Callable[[Path, Wanted], ShardView]"

FORMATS: Final[dict[str, OpenShard]] = {}
"""Format name, which is also the file name's suffix without the dot → the function that opens a file."""


def register(name: str) -> Callable[[OpenShard], OpenShard]:
    """Registers the function that opens files whose name ends in ``.name``."""

    def enter(function: OpenShard) -> OpenShard:
        FORMATS[name] = function
        return function

    return enter


def map_file(path: Path) -> mmap.mmap:
    """Maps a whole file read-only.

    Raises:
        DataError: If the file is missing, empty or cannot be mapped.
    """
    try:
        with path.open("rb") as stream:
            return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:
        raise DataError(f"{path}: empty shard: a dataset's file holds at least one record") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def whole_records(path: Path, mapping: mmap.mmap, offset: int, layout: Layout) -> ShardView:
    """Divides what follows `offset` into records.

    Raises:
        DataError: If there is no record, or bytes are left over.
    """
    records, over = divmod(len(mapping) - offset, layout.record_bytes)
    if over:
        raise DataError(
            f"{path}: length is not a multiple of the record: {len(mapping) - offset} bytes are {records} "
            f"{layout} of {layout.record_bytes} bytes and {over} bytes over; check record_length and "
            "token_dtype"
        )
    if not records:
        raise DataError(f"{path}: empty shard: a dataset's file holds at least one record")
    return ShardView(layout, records, offset, mapping)
