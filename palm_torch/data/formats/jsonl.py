"""JSON Lines, ``.jsonl``: a record is the exact bytes of a line, without its line feed.

A carriage return before the line feed is part of the record, and white space to JSON. The last line need not
end in a line feed. Empty lines are refused.
"""

from __future__ import annotations

import json
import math
import struct
from typing import TYPE_CHECKING, Any, Final

from palm_torch import nesting
from palm_torch.data.formats import line_index, table
from palm_torch.errors import DataError

if TYPE_CHECKING:
    import mmap
    from pathlib import Path

LAYOUT: Final = table.Layout("jsonl")

_OFFSETS: Final = line_index.HEADER.size
_LINE_FEED: Final = 0x0A
_PAIR: Final = struct.Struct("<2Q")
"""Where a line begins, and where the next one does."""


class Lines:
    """One open file; see `palm_torch.data.formats.table.Rows`.

    Attributes:
        layout: Records of this format.
        records: Number of lines.
        size_bytes: Size of the whole file.
    """

    __slots__ = ("_data", "_index", "layout", "path", "records", "size_bytes")

    def __init__(self, path: Path, data: mmap.mmap, index: mmap.mmap) -> None:
        self.path = path
        self.layout = LAYOUT
        self.records = line_index.lines(index)
        self.size_bytes = len(data)
        self._data = data
        self._index = index

    def copy(self, number: int) -> bytes:
        """Returns a line's bytes, copied once out of the file.

        Raises:
            DataError: If what the index says is no line of the file.
        """
        start, end = _PAIR.unpack_from(self._index, _OFFSETS + 8 * number)
        end -= 1
        data = self._data
        if start < end <= self.size_bytes and (not start or data[start - 1] == _LINE_FEED):
            line = data[start:end]
            if b"\n" not in line and (end == self.size_bytes or data[end] == _LINE_FEED):
                return line
        raise DataError(
            f"{self.path}: line {number + 1}: bytes {start} to {end - 1}, as the index says, are no line of "
            f"the file: index or file was rewritten; remove {self.path.name}{line_index.SUFFIX}, and it will "
            "be made anew"
        )

    def where(self, number: int) -> str:
        """Says which line it is, and where the index puts it."""
        start, end = _PAIR.unpack_from(self._index, _OFFSETS + 8 * number)
        return f"line {number + 1}, bytes {start} to {end - 2} of the file, by its index"


def _decoder(_layout: table.Layout) -> table.Decoder:
    """Returns the function that makes a value of a line: UTF-8, strict JSON, no key twice, no infinity."""
    reads = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_number, parse_float=_finite)
    parse, parse_first = reads.decode, reads.raw_decode

    def decode(line: bytes) -> Any:  # noqa: ANN401 (any JSON value)
        nesting.check(line, what="is not JSON", error=DataError)
        try:
            text = line.decode("utf-8")
            if not text[:1].isspace():
                value, end = parse_first(text)
                if end == len(text):  # no white space around it: the quicker way
                    return value
            return parse(text)
        except (ValueError, RecursionError) as error:  # ValueError: not UTF-8, not JSON, or a number too long
            raise DataError(f"is not JSON: {str(error)[:200]}") from error

    return decode


def reading() -> table.Decoder:
    """Returns the function that makes a value of a line, or refuses it, for whoever writes lines."""
    return _decoder(LAYOUT)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"is not JSON with one meaning: key {twice[:80]!r} occurs twice")
    return value


def _no_number(name: str) -> Any:  # noqa: ANN401 (never returns)
    raise DataError(f"is not JSON: {name} is no number there")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise DataError(f"is not JSON with one meaning: {text[:40]} is too large for a number of 64 bits")
    return value


@table.register("jsonl", decoder=_decoder)
def open_jsonl(path: Path, wanted: table.Wanted) -> Lines:
    """Opens a file of lines, and the index of its lines, which is made if it is not there.

    Raises:
        DataError: If the file is missing, empty or has empty lines, or a record length or type is wanted.
    """
    if wanted.record_length is not None or wanted.dtype is not None:
        raise DataError(f"{path}: record_length, token_dtype: lines of text are no rows of elements")
    data = table.map_file(path)
    return Lines(path, data, line_index.open_index(path, fresh=wanted.fresh))
