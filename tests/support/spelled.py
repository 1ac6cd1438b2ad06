"""Reading an item's canonical bytes back, in plain steps: it shows that two items never share them."""

from __future__ import annotations

import struct
from typing import Any

_SIZES = {
    "bool": 1,
    "bfloat16": 2,
    "float16": 2,
    "float32": 4,
    "float64": 8,
    "complex64": 8,
    "complex128": 16,
}


def decode(data: bytes) -> Any:
    """Returns what the bytes say: values with their tags, arrays as (tag, type, shape, bytes).

    Raises:
        ValueError: If they are not exactly the spelling of one item.
    """
    if len(data) < 8:
        raise ValueError("too short")
    (length,) = struct.unpack("<Q", data[-8:])
    if length > len(data) - 8:
        raise ValueError("form longer than the whole")
    reader = _Reader(data[len(data) - 8 - length : len(data) - 8], data[: len(data) - 8 - length])
    found = reader.item()
    if reader.form or reader.values:
        raise ValueError("bytes left over")
    return found


class _Reader:
    def __init__(self, form: bytes, values: bytes) -> None:
        self.form = form
        self.values = values

    def item(self) -> Any:
        tag = self.cut(1).decode("latin-1")
        match tag:
            case "N" | "T" | "F":
                return tag
            case "i":
                return tag, int.from_bytes(self.framed(), "little", signed=True)
            case "f" | "c":
                return tag, self.cut(8 if tag == "f" else 16)
            case "s" | "b":
                return tag, self.value(self.count())
            case "a" | "n" | "t":
                kind = self.framed().decode()
                shape = tuple(self.count() for _ in range(self.count()))
                elements = 1
                for size in shape:
                    elements *= size
                return tag, kind, shape, self.value(elements * _size_of(kind))
            case "l" | "u":
                return tag, [self.item() for _ in range(self.count())]
            case "d":
                return tag, [(self.framed(), self.item()) for _ in range(self.count())]
            case "o" | "p":
                name = self.framed()
                return tag, name, [(self.framed(), self.item()) for _ in range(self.count())]
        raise ValueError(f"unknown tag {tag!r}")

    def count(self) -> int:
        found: int = struct.unpack("<Q", self.cut(8))[0]
        return found

    def framed(self) -> bytes:
        return self.cut(self.count())

    def cut(self, size: int) -> bytes:
        if size > len(self.form):
            raise ValueError("form ends early")
        part, self.form = self.form[:size], self.form[size:]
        return part

    def value(self, size: int) -> bytes:
        if size > len(self.values):
            raise ValueError("values end early")
        part, self.values = self.values[:size], self.values[size:]
        return part


def _size_of(kind: str) -> int:
    if kind in _SIZES:
        return _SIZES[kind]
    if kind[0] in "<|":  # NumPy's text: order, kind, size, perhaps a unit in brackets
        digits = kind[2:].partition("[")[0]
        return int(digits) * (4 if kind[1] == "U" else 1)
    return int(kind.lstrip("uint")) // 8
