"""NumPy array files, ``.npy``: a header that says type and shape, then the elements in C order.

An array with two or more axes holds one record per row; a flat array needs a record length. The header is
a Python expression; it is read by its form, and never evaluated.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from palm_torch.data.formats import table
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

MAX_HEADER_BYTES: Final = 1 << 16

_MAGIC: Final = b"\x93NUMPY"
_LENGTH_BYTES: Final = {(1, 0): 2, (2, 0): 4}
"""Version of the format → width of the header's length, little endian."""
_EXTENT: Final = rb"(?:0|[1-9][0-9]{0,15})"
_HEADER: Final = re.compile(
    rb"\{[ \n]*'descr': *(?P<descr>'[^'\\]*'|\[.*\]|\(.*\)),"
    rb"[ \n]*'fortran_order': *(?P<order>True|False),"
    rb"[ \n]*'shape': *\((?P<shape>(?:%b, ?)*(?:%b)?)\),?[ \n]*\}[ \n]*" % (_EXTENT, _EXTENT),
    re.DOTALL,
)
"""The three keys in the order in which NumPy, and everyone else, writes them."""
_DTYPES: Final = {np.dtype(name).newbyteorder("<").str: name for name in sorted(table.ELEMENT_TYPES)}


@dataclass(frozen=True, slots=True)
class Header:
    """What an array file says of itself.

    Attributes:
        dtype: Element type by its numpy name, little endian.
        shape: Sizes of the axes, in C order.
        offset: Where the elements begin, in bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    offset: int


@table.register("npy")
def open_npy(path: Path, wanted: table.Wanted) -> table.ShardView:
    """Opens an array file; its header decides type and shape, and must agree with what is wanted.

    Raises:
        DataError: If the file is missing, empty, truncated, not an array file, of a type without a
            fixed little-endian form (objects, strings, big endian), in Fortran order, or disagrees with
            what is wanted.
    """
    mapping = table.map_file(path)
    start: bytes = mapping[:MAX_HEADER_BYTES]
    header = read_header(path, start)
    dtype, shape, offset = header.dtype, header.shape, header.offset
    if wanted.dtype is not None and wanted.dtype != dtype:
        raise DataError(f"{path}: expected elements of type {wanted.dtype}, got {dtype}")
    if not all(shape):
        raise DataError(f"{path}: empty shard: the array has shape {shape}")
    layout = table.Layout("npy", dtype, _record_shape(path, shape, wanted.record_length))
    expected = math.prod(shape) * np.dtype(dtype).itemsize
    if len(mapping) - offset != expected:
        raise DataError(f"{path}: expected {expected} bytes after the header, got {len(mapping) - offset}")
    return table.whole_records(path, mapping, offset, layout, head=start[:offset])


def read_header(path: Path, start: bytes) -> Header:
    """Reads the header of an array file.

    Args:
        path: The file, for messages.
        start: Its first `MAX_HEADER_BYTES` bytes, or all of it.

    Raises:
        DataError: If it is no array file, of a type without a fixed little-endian form, in Fortran order, or
            of too many axes.
    """
    descr, fortran_order, shape, offset = _header(path, start)
    dtype = _DTYPES.get(descr)
    if dtype is None and "<" + descr[1:] in _DTYPES and descr[0] == ">":
        raise DataError(f"{path}: expected little-endian elements, got {descr}: save with .astype('<…')")
    if dtype is None:
        raise DataError(
            f"{path}: expected numbers, got an array of {descr[:40]!r}: objects are never unpickled"
        )
    if fortran_order and len(shape) > 1:
        raise DataError(f"{path}: expected C order, got Fortran order: save np.ascontiguousarray(array)")
    table.check_axes(path, shape)
    return Header(dtype, shape, offset)


def _header(path: Path, start: bytes) -> tuple[str, bool, tuple[int, ...], int]:
    """Returns element type, order, shape and the offset of the first element."""
    version = tuple(start[len(_MAGIC) : len(_MAGIC) + 2])
    if not start.startswith(_MAGIC):
        raise DataError(f"{path}: not a .npy file: expected it to begin {_MAGIC!r}, got {start[:6]!r}")
    if version not in _LENGTH_BYTES:
        raise DataError(f"{path}: expected version 1.0 or 2.0 of the .npy format, got {version}")
    begin = len(_MAGIC) + 2 + _LENGTH_BYTES[version]
    offset = begin + int.from_bytes(start[len(_MAGIC) + 2 : begin], "little")
    header = start[begin:offset]
    found = _HEADER.fullmatch(header)
    if found is None or len(header) != offset - begin:
        raise DataError(f"{path}: not a .npy file: its header is {header[:80]!r}")
    extents = re.findall(_EXTENT, found["shape"])
    if len(extents) == 1 and b"," not in found["shape"]:
        raise DataError(f"{path}: not a .npy file: its shape is no tuple: ({found['shape']!r})")
    return (
        found["descr"].strip(b"'").decode("latin-1"),
        found["order"] == b"True",
        tuple(map(int, extents)),
        offset,
    )


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
