"""The canonical bytes of an item: whatever a dataset's code returns, made private and spelled in one way.

An item is walked once. Every array and tensor in it is copied to private memory; the spelling is made of the
copies, and the copies are what is handed on. What lies under a tensor (a mapping, shared memory) may change
afterwards without effect.

The values' bytes come first, in the order of the walk, the form of the item after them: large values are then
hashed as they lie, in one go. Byte table: docs/spec/40-data.md, section 9.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import struct
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import torch

from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MAX_DEPTH: Final = 64
"""Deepest nesting of lists, tuples, dictionaries and objects."""

Part: TypeAlias = "bytes | memoryview"

_KINDS: Final = frozenset("biufcmMSU")
"""NumPy's kinds of types whose bytes are all there is to a value."""
_LONGEST: Final = {"f": 8, "c": 16}
"""Sizes of the longest types of floating-point kinds without bytes that belong to no value."""
_WHOLE: Final = re.compile(r"torch\.(?:bool|u?int(?:8|16|32|64)|b?float(?:16|32|64)|float8_\w+|complex\d+)")
"""Element types of tensors whose bytes are their values: none of parts of a byte."""
_COUNT: Final = struct.Struct("<Q")


class Spelling:
    """The canonical bytes of one item, in the making.

    Attributes:
        values: The bytes of its values, in the order of the walk.
        form: What they are: tags, types, shapes and lengths.
        path: Where in the item the walk is, for messages.
    """

    __slots__ = ("form", "path", "values")

    def __init__(self) -> None:
        self.values: list[Part] = []
        self.form = bytearray()
        self.path: list[str] = []

    def parts(self) -> list[Part]:
        """Returns the canonical bytes, in parts to be joined."""
        return [*self.values, bytes(self.form), _COUNT.pack(len(self.form))]

    def take(self, item: Any) -> Any:  # noqa: ANN401 (any item)
        """Spells an item and returns its private copy.

        Raises:
            DataError: If something in it has no canonical spelling; the message names the path to it.
        """
        spell = _SPELLINGS.get(type(item))
        if spell is not None:
            return spell(self, item)
        if isinstance(item, np.generic):
            return _scalar(self, item)
        if isinstance(item, tuple) and hasattr(item, "_fields"):
            return _named_tuple(self, item)
        if dataclasses.is_dataclass(item) and not isinstance(item, type):
            return _dataclass(self, item)
        raise self.refused(item, "has no canonical bytes")

    def within(self, step: str, item: Any) -> Any:  # noqa: ANN401 (any part of an item)
        """Spells a part of an item; should that fail, the path stays where it did.

        Raises:
            DataError: As `take`, or if it lies too deep.
        """
        if len(self.path) == MAX_DEPTH:
            raise self.refused(item, f"lies deeper than {MAX_DEPTH} levels")
        self.path.append(step)
        copy = self.take(item)
        self.path.pop()
        return copy

    def refused(self, item: object, why: str) -> DataError:
        """Returns the error for a part that cannot be spelled."""
        kind = type(item)
        return DataError(
            f"item{''.join(self.path)}: {kind.__module__}.{kind.__qualname__} {why}; return tensors, arrays, "
            "numbers, text, bytes, None, or lists, tuples, dictionaries, dataclasses and named tuples of "
            "them, or pass encode=, a function that returns an item's canonical bytes"
        )


_SPELLINGS: Final[dict[type, Callable[[Spelling, Any], Any]]] = {}
"""Exact type → how it is spelled. A subclass may hold more than its parent shows: it is not taken for it."""


def _spells(
    *kinds: type,
) -> Callable[[Callable[[Spelling, Any], Any]], Callable[[Spelling, Any], Any]]:
    """Enters a function into the table: it adds to the spelling and returns the private copy."""

    def enter(function: Callable[[Spelling, Any], Any]) -> Callable[[Spelling, Any], Any]:
        _SPELLINGS.update(dict.fromkeys(kinds, function))
        return function

    return enter


@_spells(type(None))
def _none(spelling: Spelling, item: None) -> None:
    spelling.form += b"N"
    return item


@_spells(bool)
def _bool(spelling: Spelling, item: bool) -> bool:  # noqa: FBT001 (the value itself)
    spelling.form += b"T" if item else b"F"
    return item


@_spells(int)
def _int(spelling: Spelling, item: int) -> int:
    data = item.to_bytes((item if item >= 0 else ~item).bit_length() // 8 + 1, "little", signed=True)
    spelling.form += b"i" + _framed(data)
    return item


@_spells(float)
def _float(spelling: Spelling, item: float) -> float:
    spelling.form += b"f" + struct.pack("<d", item)
    return item


@_spells(complex)
def _complex(spelling: Spelling, item: complex) -> complex:
    spelling.form += b"c" + struct.pack("<dd", item.real, item.imag)
    return item


@_spells(str)
def _text(spelling: Spelling, item: str) -> str:
    data = _utf8(item)
    spelling.form += b"s" + _COUNT.pack(len(data))
    spelling.values.append(data)
    return item


@_spells(bytes)
def _bytes(spelling: Spelling, item: bytes) -> bytes:
    spelling.form += b"b" + _COUNT.pack(len(item))
    spelling.values.append(item)
    return item


def _plain(dtype: np.dtype[Any]) -> bool:
    """Returns whether an element's bytes are its value, all of them: a long double has bytes to spare."""
    return dtype.kind in _KINDS and dtype.itemsize <= _LONGEST.get(dtype.kind, dtype.itemsize)


@_spells(np.ndarray, np.memmap)
def _array(spelling: Spelling, item: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    kind = item.dtype.str
    if not _plain(item.dtype):
        raise spelling.refused(item, f"is an array of {item.dtype}, whose bytes are not its values")
    if kind[0] == ">":
        raise spelling.refused(item, f"is big endian ({kind}): use .astype({'<' + kind[1:]!r})")
    copy = np.array(item, order="K", subok=False)
    spelling.form += _shaped(b"a", kind, copy.shape)
    if copy.size:
        spelling.values.append(np.ascontiguousarray(copy).reshape(-1).view(np.uint8).data)
    return copy


def _scalar(spelling: Spelling, item: np.generic) -> np.generic:
    kind = item.dtype.str
    if not _plain(item.dtype) or kind[0] == ">":
        raise spelling.refused(item, f"is a NumPy scalar of {item.dtype}, which has no canonical bytes")
    spelling.form += _shaped(b"n", kind, ())
    spelling.values.append(item.tobytes())
    return item


@_spells(torch.Tensor)
def _tensor(spelling: Spelling, item: torch.Tensor) -> torch.Tensor:
    if item.layout != torch.strided or item.device.type != "cpu" or item.is_quantized or item.is_nested:
        what = f"{item.layout} on {item.device}" + (", quantized" if item.is_quantized else "")
        raise spelling.refused(item, f"is no dense tensor on the CPU ({what})")
    if not _WHOLE.fullmatch(str(item.dtype)):
        raise spelling.refused(item, f"is of {item.dtype}, whose elements are no whole bytes")
    copy = item.detach().clone()  # a lazy conjugate is resolved by that
    spelling.form += _shaped(b"t", str(item.dtype).removeprefix("torch."), tuple(item.shape))
    if copy.numel():
        flat = copy.contiguous().as_strided(
            (copy.numel(),), (1,)
        )  # view(-1) leaves one element its old stride
        spelling.values.append(flat.view(torch.uint8).numpy().data)
    return copy.requires_grad_() if item.requires_grad else copy


@_spells(list)
def _list(spelling: Spelling, item: list[Any]) -> list[Any]:
    return _elements(spelling, b"l", item)


@_spells(tuple)
def _tuple(spelling: Spelling, item: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_elements(spelling, b"u", item))


def _elements(spelling: Spelling, tag: bytes, items: Iterable[Any]) -> list[Any]:
    copied = list(items)
    spelling.form += tag + _COUNT.pack(len(copied))
    return [spelling.within(f"[{number}]", item) for number, item in enumerate(copied)]


@_spells(dict)
def _dict(spelling: Spelling, item: dict[Any, Any]) -> dict[str, Any]:
    for key in item:
        if type(key) is not str:
            raise spelling.refused(item, f"has a key that is no text: {key!r:.40}")
    spelling.form += b"d" + _COUNT.pack(len(item))
    copies = {}
    for data, key in sorted((_utf8(key), key) for key in item):
        spelling.form += _framed(data)
        copies[key] = spelling.within(f"[{key!r:.40}]", item[key])
    return {key: copies[key] for key in item}  # in the order it had


def _named_tuple(spelling: Spelling, item: Any) -> Any:  # noqa: ANN401 (a named tuple)
    kind, parts = type(item), tuple.__iter__(item)
    names = kind._fields
    if type(names) is not tuple or {*map(type, names)} - {str} or len({*names}) != tuple.__len__(item):
        raise spelling.refused(item, f"is a tuple whose _fields are not its parts: {names!r:.80}")
    if getattr(item, "__dict__", None):
        raise spelling.refused(item, f"has an attribute that is no part: {min(vars(item))!r:.40}")
    return tuple.__new__(kind, _fields(spelling, b"p", kind, dict(zip(names, parts, strict=True))))


def _dataclass(spelling: Spelling, item: Any) -> Any:  # noqa: ANN401 (a dataclass)
    kind = type(item)
    try:
        copy = object.__new__(kind)
    except TypeError as error:  # a dataclass that is a dictionary, text and so on as well
        raise spelling.refused(item, "is a dataclass and something else as well") from error
    names = [field.name for field in dataclasses.fields(item)]
    absent = [name for name in names if not hasattr(item, name)]
    if absent:
        raise spelling.refused(item, f"has no value for its field {absent[0]!r:.40}")
    fields = {name: getattr(item, name) for name in names}
    hidden = sorted(vars(item).keys() - fields.keys()) if hasattr(item, "__dict__") else []
    if hidden:
        raise spelling.refused(item, f"has an attribute that is no field: {hidden[0]!r:.40}")
    for name, value in zip(fields, _fields(spelling, b"o", kind, fields), strict=True):
        object.__setattr__(copy, name, value)
    return copy


def _fields(spelling: Spelling, tag: bytes, kind: type[Any], fields: dict[str, Any]) -> list[Any]:
    name_of_class = f"{kind.__module__}.{kind.__qualname__}"
    spelling.form += tag + _framed(_utf8(name_of_class)) + _COUNT.pack(len(fields))
    copies = []
    for name, value in fields.items():
        spelling.form += _framed(_utf8(name))
        copies.append(spelling.within(f".{name}", value))
    return copies


@functools.lru_cache(maxsize=1024)
def _shaped(tag: bytes, kind: str, shape: tuple[int, ...]) -> bytes:
    """Returns the form of an array: tag, element type, number of axes and their sizes."""
    return tag + _framed(kind.encode()) + _COUNT.pack(len(shape)) + b"".join(map(_COUNT.pack, shape))


def _framed(data: bytes) -> bytes:
    return _COUNT.pack(len(data)) + data


def _utf8(text: str) -> bytes:
    """Returns a text's UTF-8; a lone surrogate, which UTF-8 has no room for, as its three bytes."""
    return text.encode("utf-8", "surrogatepass")


def private(item: Any) -> Any:  # noqa: ANN401 (any item)
    """Returns an item with every array and tensor in it copied, for items that a function spells.

    Lists, tuples and dictionaries (of exactly these types) are walked; everything else is handed on as it
    is: what it refers to is the business of the function.
    """
    kind = type(item)
    if isinstance(item, torch.Tensor):
        return item.detach().clone().requires_grad_(item.requires_grad)
    if isinstance(item, np.ndarray):
        return np.array(item, order="K", subok=not isinstance(item, np.memmap))
    if kind is bytearray:
        return bytearray(item)
    if kind is list:
        return [private(part) for part in item]
    if kind is tuple:
        return tuple([private(part) for part in item])
    if kind is dict:
        return {key: private(part) for key, part in item.items()}
    return item
