"""NumPy array files, ``.npy``: a header that says type and shape, then the elements in C order.

An array with two or more axes holds one record per row; a flat array needs a record length.
"""

from __future__ import annotations

import io
import math
from typing import TYPE_CHECKING, Final

import numpy as np

from palm_torch.data.formats import table
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

MAX_HEADER_BYTES: Final = 1 << 16


@table.register("npy")
def open_npy(path: Path, wanted: table.Wanted) -> table.ShardView:
    """Opens an array file; its header decides type and shape, and must agree with what is wanted.

    Raises:
        DataError: If the file is missing, empty, truncated, not an array file, of a type without a
            fixed little-endian form (objects, strings, big endian), in Fortran order, or disagrees with
            what is wanted.
    """
    mapping = table.map_file(path)
    shape, fortran_order, dtype, offset = _header(path, mapping[:MAX_HEADER_BYTES])
    if dtype.hasobject or dtype.name not in table.ELEMENT_TYPES:
        raise DataError(
            f"{path}: expected numbers, got an array of {dtype.name}: objects are never unpickled"
        )
    if dtype.newbyteorder("<") != dtype:
        raise DataError(f"{path}: expected little-endian elements, got {dtype.str}: save with .astype('<…')")
    if fortran_order and len(shape) > 1:
        raise DataError(f"{path}: expected C order, got Fortran order: save np.ascontiguousarray(array)")
    if wanted.dtype is not None and wanted.dtype != dtype.name:
        raise DataError(f"{path}: expected elements of type {wanted.dtype}, got {dtype.name}")
    if not all(shape):
        raise DataError(f"{path}: empty shard: the array has shape {shape}")
    layout = table.Layout("npy", dtype.name, _record_shape(path, shape, wanted.record_length))
    expected = math.prod(shape) * dtype.itemsize
    if len(mapping) - offset != expected:
        raise DataError(f"{path}: expected {expected} bytes after the header, got {len(mapping) - offset}")
    return table.whole_records(path, mapping, offset, layout)


def _header(path: Path, start: bytes) -> tuple[tuple[int, ...], bool, np.dtype[np.generic], int]:
    stream = io.BytesIO(start)
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise DataError(f"{path}: expected version 1.0 or 2.0 of the .npy format, got {version}")
        shape, fortran_order, dtype = read(stream)
    except (ValueError, TypeError, SyntaxError, EOFError, OverflowError) as error:
        raise DataError(f"{path}: not a .npy file: {error}") from error
    return tuple(shape), fortran_order, dtype, stream.tell()


def _record_shape(path: Path, shape: tuple[int, ...], record_length: int | None) -> tuple[int, ...]:
    if len(shape) > 1:
        if record_length is not None and (record_length,) != shape[1:]:
            raise DataError(f"{path}: expected records of {record_length} elements, got rows of {shape[1:]}")
        return shape[1:]
    if not shape:
        raise DataError(f"{path}: expected an array of records, got a single number")
    if record_length is None:
        raise DataError(f"{path}: a flat array does not say how long its records are: pass record_length=")
    return (record_length,)
