"""Encodings of the columns of MDS samples: how long a value is, and what is made of its bytes.

Images stay bytes: what decodes them is the training script's choice. Pickles are refused: they are code.
"""

from __future__ import annotations

import decimal
import json
import math
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

from palm_torch import nesting
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_ARRAY_TYPES: Final = {
    8: "uint8",
    9: "int8",
    16: "uint16",
    17: "int16",
    18: "float16",
    32: "uint32",
    33: "int32",
    34: "float32",
    64: "uint64",
    65: "int64",
    66: "float64",
}
"""Byte that stands for an array's element type → its numpy name."""
_SCALARS: Final = {
    "int": "q",
    **dict(zip(("int8", "int16", "int32", "int64"), "bhiq", strict=True)),
    **dict(zip(("uint8", "uint16", "uint32", "uint64"), "BHIQ", strict=True)),
    **dict(zip(("float16", "float32", "float64"), "efd", strict=True)),
}
_BYTES: Final = frozenset(
    {"bytes", "pil", "jpeg", "png", "jpeg_array", "jpegarray", "list[pil]", "list[jpeg]", "list[png]"}
)
_EXTENT: Final = "[1-9][0-9]{0,8}"
_ARRAY: Final = re.compile(f"ndarray(?::(?P<dtype>[a-z0-9]+)(?::(?P<shape>{_EXTENT}(?:,{_EXTENT})*))?)?")
_MAX_VALUE_BYTES: Final = 1 << 32


Decode: TypeAlias = "Callable[[bytes, int, int], Any]"


@dataclass(frozen=True, slots=True)
class Encoding:
    """How the values of a column are written.

    Attributes:
        size: Bytes of a value; None where each has its own length.
        decode: Makes a value of the bytes of a sample between two places; what does not fit raises one of
            `FOREIGN_ERRORS`.
        makes_arrays: Whether a value is an array.
        flat: Element type of arrays of one axis and one size; None for all others.
    """

    size: int | None
    decode: Decode
    makes_arrays: bool = False
    flat: np.dtype[Any] | None = None


FOREIGN_ERRORS: Final = (DataError, ValueError, ArithmeticError, LookupError, RecursionError, struct.error)
"""What decoding a malformed value may raise."""


def named(name: str) -> Encoding:
    """Returns the encoding with a name, e.g. ``"str"`` or ``"ndarray:int32:128"``.

    Raises:
        DataError: If it is unknown, or runs code when it is decoded.
    """
    if name in _SCALARS:
        form = struct.Struct("<" + _SCALARS[name])
        return Encoding(form.size, lambda data, begin, _end: form.unpack_from(data, begin)[0])
    if name in _TEXTS:
        return Encoding(None, _TEXTS[name])
    if name in _BYTES:
        return Encoding(None, lambda data, begin, end: data[begin:end])
    found = _ARRAY.fullmatch(name)
    if found is not None and (found["dtype"] is None or found["dtype"] in _ARRAY_TYPES.values()):
        return _array(found["dtype"], found["shape"])
    if name == "pkl":
        raise DataError(
            "encoding 'pkl': pickles are code and are never run: write the column as json, bytes or ndarray"
        )
    raise DataError(f"encoding {name[:80]!r}: expected one of the encodings of MDS version 2")


def _array(dtype: str | None, shape: str | None) -> Encoding:
    extents = tuple(map(int, shape.split(","))) if shape else None
    if extents is None or dtype is None:
        return Encoding(None, lambda data, begin, end: _values(data[begin:end], dtype), makes_arrays=True)
    count, stored = math.prod(extents), np.dtype(dtype).newbyteorder("<")
    size = count * stored.itemsize
    if size >= _MAX_VALUE_BYTES:
        raise DataError(f"encoding 'ndarray:{dtype}:{shape}': expected less than {_MAX_VALUE_BYTES} bytes")
    if len(extents) == 1:
        return Encoding(
            size,
            lambda data, begin, _end: np.frombuffer(data, stored, count, begin),
            makes_arrays=True,
            flat=stored,
        )
    return Encoding(
        size,
        lambda data, begin, _end: np.frombuffer(data, stored, count, begin).reshape(extents),
        makes_arrays=True,
    )


def _values(data: bytes, dtype: str | None) -> NDArray[Any]:
    """Reads an array that says its shape first, and before it its element type if the column does not."""
    at = 0
    if dtype is None:
        dtype = _ARRAY_TYPES[data[at]]
        at += 1
    axes, width = data[at] >> 2, 1 << (data[at] & 3)
    begin, at = at + 1, at + 1 + axes * width
    shape = [int.from_bytes(data[one : one + width], "little") for one in range(begin, at, width)]
    stored = np.dtype(dtype).newbyteorder("<")
    if not axes or 0 in shape or len(data) - at != math.prod(shape) * stored.itemsize:
        raise ValueError(f"an array of shape {shape[:8]} in {len(data) - at} bytes")
    return np.frombuffer(data, stored, offset=at).reshape(shape)


def _text(data: bytes, begin: int, end: int) -> str:
    return data[begin:end].decode()


def _json(data: bytes, begin: int, end: int) -> Any:  # noqa: ANN401 (any JSON value)
    nesting.check(data[begin:end], what="not JSON", error=DataError)
    return json.loads(_text(data, begin, end))


_TEXTS: Final[dict[str, Decode]] = {
    "str": _text,
    "json": _json,
    "str_int": lambda *sample: int(_text(*sample)),
    "str_float": lambda *sample: float(_text(*sample)),
    "str_decimal": lambda *sample: decimal.Decimal(_text(*sample)),
}
