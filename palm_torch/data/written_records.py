"""The formats that `palm_torch.data.shard_writer` can write: what a record becomes, and what frames it.

A record's bytes are made once, checked, and are what is hashed and written.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
import torch

from palm_torch.data.formats import jsonl, table
from palm_torch.errors import DataError, prefixed

if TYPE_CHECKING:
    from collections.abc import Callable

BIN_DTYPE: Final = "uint16"


class WrittenFormat(Protocol):
    """How records of one dataset are written.

    Attributes:
        suffix: Of the shards' names, which tells readers the format.
    """

    suffix: str

    def encode(self, record: object, *, where: str) -> bytes:
        """Returns what one record adds to a shard.

        Raises:
            DataError: If it is no record of this dataset.
        """

    def record(self, encoded: memoryview) -> memoryview:
        """Returns the canonical bytes of a record, which are hashed, within what `encode` returned."""

    def head(self, count: int) -> bytes:
        """Returns what stands before `count` records in a shard."""

    def layout(self) -> table.Layout:
        """Returns what the records are; known after the first one."""


def format_of(name: str, *, record_length: int | None, dtype: str | None) -> WrittenFormat:
    """Returns a format by its name.

    Raises:
        DataError: If it cannot be written, or an argument is not for it.
    """
    maker = _MAKERS.get(name)
    if maker is None:
        raise DataError(f"format: expected one of {', '.join(_MAKERS)} to write, got {name!r}")
    table.Wanted(record_length, dtype)  # refuses what cannot be
    return maker(record_length, dtype)


class _Elements:
    """Records of one shape and element type, one after the other."""

    def __init__(self, suffix: str, shape: tuple[int, ...] | None, dtype: str | None) -> None:
        self.suffix = suffix
        self._shape = shape
        self._dtype = dtype

    def encode(self, record: object, *, where: str) -> bytes:
        """Returns the elements, little endian, in C order."""
        array = _array(record, where)
        dtype = self._dtype or array.dtype.newbyteorder("=").name
        table.Wanted(None, dtype)
        shape = array.shape if self._shape is None else self._shape
        if array.shape != shape or not array.size:
            raise DataError(f"{where}: expected elements of shape {list(shape)}, got {list(array.shape)}")
        most = 1 if self.suffix == "bin" else table.MAX_AXES - 1
        if not 0 < array.ndim <= most:
            raise DataError(
                f"{where}: expected an array of at least 1 and at most {most} axes, as readers of "
                f".{self.suffix} files do, got shape {list(array.shape)}"
            )
        encoded = _cast(array, dtype, where).tobytes()
        self._dtype, self._shape = dtype, shape
        return encoded

    def record(self, encoded: memoryview) -> memoryview:
        """Returns all of it."""
        return encoded

    def head(self, count: int) -> bytes:
        """Returns nothing, or the header of an array file."""
        if self.suffix != "npy" or self._shape is None or self._dtype is None:
            return b""
        descr = np.dtype(self._dtype).newbyteorder("<").str
        text = str({"descr": descr, "fortran_order": False, "shape": (count, *self._shape)}).encode()
        padded = text + b" " * (-(len(text) + 11) % 64) + b"\n"
        return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded

    def layout(self) -> table.Layout:
        """Returns shape and type."""
        return table.Layout(self.suffix, self._dtype, self._shape)


class _Lines:
    """Records that are lines of JSON."""

    suffix = "jsonl"

    def __init__(self) -> None:
        self._read = jsonl.reading()

    def encode(self, record: object, *, where: str) -> bytes:
        """Returns a line: JSON with sorted keys, or the bytes that were given."""
        if not isinstance(record, bytes):
            try:
                text = json.dumps(
                    record, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
                )
                record = text.encode()
            except (TypeError, ValueError, RecursionError) as error:
                raise DataError(f"{where}: expected a JSON value, or the bytes of a line: {error}") from error
        if not record or b"\n" in record:
            raise DataError(f"{where}: expected one line without a line feed, got {record[:40]!r}")
        with prefixed(where):
            self._read(record)  # what nobody can read is not written
        return record + b"\n"

    def record(self, encoded: memoryview) -> memoryview:
        """Returns the line without its line feed."""
        return encoded[:-1]

    def head(self, count: int) -> bytes:
        """Returns nothing."""
        del count
        return b""

    def layout(self) -> table.Layout:
        """Returns that of all lines."""
        return table.Layout("jsonl")


def _bin(record_length: int | None, dtype: str | None) -> WrittenFormat:
    return _Elements("bin", None if record_length is None else (record_length,), dtype or BIN_DTYPE)


def _npy(record_length: int | None, dtype: str | None) -> WrittenFormat:
    return _Elements("npy", None if record_length is None else (record_length,), dtype)


def _jsonl(record_length: int | None, dtype: str | None) -> WrittenFormat:
    if record_length is not None or dtype is not None:
        raise DataError("format='jsonl': lines have neither record_length nor dtype")
    return _Lines()


_MAKERS: Final[dict[str, Callable[[int | None, str | None], WrittenFormat]]] = {
    "bin": _bin,
    "npy": _npy,
    "jsonl": _jsonl,
}


def _array(record: object, where: str) -> np.ndarray[Any, np.dtype[Any]]:
    try:
        if isinstance(record, torch.Tensor):
            record = record.detach().cpu().numpy()
        array = np.asarray(record)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{where}: expected numbers: {error}") from error
    if array.dtype.kind not in "biufc":
        raise DataError(f"{where}: expected numbers, got an array of {array.dtype}")
    return array


def _cast(array: np.ndarray[Any, np.dtype[Any]], dtype: str, where: str) -> np.ndarray[Any, np.dtype[Any]]:
    """Returns elements of a type that holds every one of them exactly."""
    wanted = np.dtype(dtype).newbyteorder("<")
    with np.errstate(all="ignore"):
        cast = array.astype(wanted)
        back = cast.astype(array.dtype)
    same = (back == array) | ((back != back) & (array != array))  # noqa: PLR0124 (NaN is not itself)
    kinds = array.dtype.kind + wanted.kind
    if kinds in {"iu", "ui"}:  # of one width, a number and its other reading come back the same
        same &= (array >= 0) & (cast >= 0)
    if not same.all():
        bad = array.reshape(-1)[int(np.argmin(same.reshape(-1)))]
        raise DataError(
            f"{where}: {bad!s} is no {dtype}; convert what has to be rounded before it is written"
        )
    return cast
