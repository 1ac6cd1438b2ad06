"""Types of the columns of a row: a small grammar with one spelling per type.

A type says what a value is, and nothing of how a file stores it: a large string is a string, a list of fixed
size a list, a dictionary of values those values. Specification: docs/spec/40-data.md, section 7.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self, TypeAlias

from palm_torch.encoding import encode_json
from palm_torch.errors import EncodingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_torch.commit.manifest import Column

MAX_DEPTH: Final = 16
"""Most lists and structs around a value."""
MAX_COLUMNS: Final = 4096
"""Most columns of a row, and most fields of a struct."""
MAX_TYPE_CHARACTERS: Final = 65536

FOREIGN_PREFIX: Final = "mds:"
"""Begins the type of a column whose values lie in a format's own encoding; its rows are bytes of a file."""

_CODES: Final = {
    "bool": "?",
    **dict(zip(("int8", "int16", "int32", "int64"), "bhiq", strict=True)),
    **dict(zip(("uint8", "uint16", "uint32", "uint64"), "BHIQ", strict=True)),
    **dict(zip(("float16", "float32", "float64"), "efd", strict=True)),
    **dict.fromkeys(("date32[day]", "time32[s]", "time32[ms]"), "i"),
    **dict.fromkeys(("date64[ms]", "time64[us]", "time64[ns]"), "q"),
    **{f"{time}[{unit}]": "q" for time in ("duration", "timestamp") for unit in ("s", "ms", "us", "ns")},
}
_WIDTHS: Final = {**dict.fromkeys("?bB", 1), **dict.fromkeys("hHe", 2), **dict.fromkeys("iIf", 4)}
_ZONED: Final = re.compile(r"timestamp\[(?:s|ms|us|ns), tz=[A-Za-z0-9_+\-/:]{1,64}\]")
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SIMPLE: Final = re.compile(r"[a-z0-9]+(?:\[[^\[\]]{1,80}\])?")
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"')


@dataclass(frozen=True, slots=True)
class Fixed:
    """Values of one width: truth values, numbers, and times as the integers that count them.

    Attributes:
        name: As it is spelled.
        code: The code of the `struct` module for one value.
    """

    name: str
    code: str

    @property
    def is_float(self) -> bool:
        """Whether values may be no numbers, whose bits are kept."""
        return self.code in "efd"

    @property
    def width(self) -> int:
        """Bytes of one value."""
        return _WIDTHS.get(self.code, 8)

    def __str__(self) -> str:
        """Spells it."""
        return self.name


@dataclass(frozen=True, slots=True)
class Variable:
    """Bytes of any length; `text` if they are UTF-8."""

    text: bool

    def __str__(self) -> str:
        """Spells it."""
        return "string" if self.text else "binary"


@dataclass(frozen=True, slots=True)
class ListOf:
    """Any number of values of one type."""

    item: RowType

    def __str__(self) -> str:
        """Spells it."""
        return f"list<{self.item}>"


@dataclass(frozen=True, slots=True)
class Struct:
    """One value per named field, in a fixed order."""

    fields: tuple[tuple[str, RowType], ...]

    def __str__(self) -> str:
        """Spells it."""
        return f"struct<{', '.join(f'{_name(name)}: {inner}' for name, inner in self.fields)}>"


RowType: TypeAlias = "Fixed | Variable | ListOf | Struct"

STRING: Final = Variable(text=True)
BINARY: Final = Variable(text=False)


class PayloadNaN(float):
    """Not a number, with other bits than the ones Python writes for it; the bits are kept.

    Attributes:
        bits: The exact little-endian bytes.
    """

    __slots__ = ("bits",)

    bits: bytes

    def __new__(cls, bits: bytes) -> Self:
        """Takes the bytes of the value."""
        self = super().__new__(cls, math.nan)
        self.bits = bits
        return self


def fixed(name: str) -> Fixed | None:
    """Returns the type of fixed width with this name, or None if there is none."""
    code = _CODES.get(name) or ("q" if _ZONED.fullmatch(name) else None)
    return Fixed(name, code) if code else None


def parse(text: str) -> RowType:
    """Reads the spelling of a type, and no other spelling of it.

    Raises:
        EncodingError: If it is not a type of rows as `str` spells it.
    """
    if len(text) > MAX_TYPE_CHARACTERS:
        raise EncodingError(f"type: expected at most {MAX_TYPE_CHARACTERS} characters, got {len(text)}")
    found, end = _parse(text, 0, 0)
    if end != len(text) or str(found) != text:
        raise EncodingError(f"type: expected the one spelling of a type, got {text[:80]!r}")
    return found


def check_columns(columns: Sequence[Column]) -> tuple[RowType, ...]:
    """Returns the types of a row's columns.

    Raises:
        EncodingError: If there are none or too many, a name stands there twice or is no Unicode text, or a
            type is none.
    """
    check_names([column.name for column in columns], what="columns")
    return tuple(parse(column.type) for column in columns)


def check_names(names: Sequence[str], *, what: str) -> None:
    """Checks the names of columns or fields.

    Raises:
        EncodingError: If there are none or too many, or one stands there twice or is no Unicode text.
    """
    if not 1 <= len(names) <= MAX_COLUMNS:
        raise EncodingError(f"{what}: expected 1 to {MAX_COLUMNS}, got {len(names)}")
    for name in names:
        if any("\ud800" <= character <= "\udfff" for character in name):
            raise EncodingError(f"{what}: expected a name in Unicode text, got {name[:80]!r}")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise EncodingError(f"{what}: {twice[:80]!r} stands there twice: rename one")


def kind(columns: Sequence[Column]) -> str:
    """Returns what gives the bytes of a row their meaning, for the key of the record digests.

    Returns:
        Canonical JSON of ``[[name, type], …]``. The columns are of rows, or all of a format's own encoding.

    Raises:
        EncodingError: If the columns are not well formed.
    """
    if any(column.type.startswith(FOREIGN_PREFIX) for column in columns):
        check_names([column.name for column in columns], what="columns")
        mixed = [column.type for column in columns if not column.type.startswith(FOREIGN_PREFIX)]
        if mixed:
            raise EncodingError(f"columns: expected types that begin {FOREIGN_PREFIX!r}, got {mixed[0]!r}")
    else:
        check_columns(columns)
    return encode_json([[column.name, column.type] for column in columns]).decode()


def _parse(text: str, at: int, depth: int) -> tuple[RowType, int]:
    """Reads a type that begins at `at`; returns it and where it ends."""
    if depth > MAX_DEPTH:
        raise EncodingError(f"type: expected at most {MAX_DEPTH} lists and structs around a value")
    if text.startswith("list<", at):
        inner, end = _parse(text, at + len("list<"), depth + 1)
        return ListOf(inner), _expect(text, end, ">")
    if text.startswith("struct<", at):
        return _parse_struct(text, at + len("struct<"), depth + 1)
    found = _SIMPLE.match(text, at)
    name = found[0] if found else ""
    if name in ("string", "binary"):
        return Variable(text=name == "string"), at + len(name)
    simple = fixed(name)
    if simple is None:
        raise EncodingError(f"type: expected a type of rows, got {text[at : at + 80]!r}")
    return simple, at + len(name)


def _parse_struct(text: str, at: int, depth: int) -> tuple[RowType, int]:
    fields: list[tuple[str, RowType]] = []
    while not fields or text.startswith(", ", at):
        name, at = _parse_name(text, at + len(", ") if fields else at)
        inner, at = _parse(text, _expect(text, at, ": "), depth)
        fields.append((name, inner))
    check_names([name for name, _ in fields], what="fields of a struct")
    return Struct(tuple(fields)), _expect(text, at, ">")


def _parse_name(text: str, at: int) -> tuple[str, int]:
    found = _WORD.match(text, at)
    if found:
        return found[0], found.end()
    quoted = _QUOTED.match(text, at)
    try:
        name = json.loads(quoted[0]) if quoted else None
    except ValueError:
        name = None
    if quoted is None or not isinstance(name, str):
        raise EncodingError(f"type: expected the name of a field, got {text[at : at + 80]!r}")
    return name, quoted.end()


def _expect(text: str, at: int, sign: str) -> int:
    if not text.startswith(sign, at):
        raise EncodingError(f"type: expected {sign!r} at character {at}, got {text[at : at + 40]!r}")
    return at + len(sign)


def _name(name: str) -> str:
    """Spells the name of a field: a word as it is, everything else as a JSON string."""
    return name if _WORD.fullmatch(name) else encode_json(name).decode()
