"""How deep JSON nests, bounded before it is parsed.

Python's JSON parser calls itself once for each list and object that it is in. Only Python's recursion limit
stops it, and a program that raised that limit would be ended by the operating system, without an exception,
once the parser had used up the stack. So brackets are counted first, piece by piece: by a few passes over
each that make no object for a bracket, in room that does not grow with the document.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from palm_torch.errors import EncodingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_torch.errors import InputError, PalmTorchError

MAX_FOREIGN_DEPTH: Final = 128
"""Most lists and objects around a value in JSON that others wrote, where its format sets no bound."""

_MARKS: Final = b'"[]{}'
_OTHERS: Final = bytes(byte for byte in range(256) if byte not in _MARKS)
_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")
_STEPS: Final = bytes.maketrans(b"[]", b"\x01\xff")
_ROUNDS: Final = 4
"""How often innermost pairs are taken out in one pass, before the rest is counted bracket by bracket."""
_PIECE_BYTES: Final = 1 << 16
"""How much is looked at in one go: what is made of it takes up to fifty times as much room."""


def check(
    data: bytes,
    *,
    what: str,
    most: int = MAX_FOREIGN_DEPTH,
    error: type[InputError | PalmTorchError] = EncodingError,
) -> int:
    """Refuses JSON in which a value stands inside too many lists and objects.

    Whatever nests deeper than ``most + 4`` is refused, and nothing that keeps to ``most``: who needs the
    exact bound looks at the parsed value as well. Brackets within text do not count. Other faults are left
    to the parser, which is not deeper than that when it finds them.

    1. Texts are taken out, and everything else but brackets; see `_outside`.
    2. Innermost pairs are taken out, and of what is left the depth is counted.
    3. It ends at the first list that is too deep, and at a bracket that closes what was never opened: there
       the parser ends as well.

    Args:
        data: The document, UTF-8 or not, JSON or not.
        what: Name of the document, for the message.
        most: Lists and objects that a value may stand inside.
        error: Class of the error.

    Returns:
        A bound: no value of the document, if it is one, stands inside more lists and objects than that.

    Raises:
        EncodingError: Or `error`: if it nests deeper.
    """
    if len(data) <= most or _has_few(data, most):
        return most
    depth = deepest = 0
    for brackets in _outside(data):  # 1
        for _ in range(_ROUNDS):  # 2
            brackets = brackets.replace(b"[]", b"")  # noqa: PLW2901 (the same ones, fewer)
        steps = memoryview(brackets.translate(_STEPS)).cast("b")
        depths = list(itertools.accumulate(steps, initial=depth))
        highest = max(depths)
        deepest = max(deepest, highest)
        if deepest > most + 1:  # 3
            raise error(f"{what}: nesting deeper than {most}")
        if min(depths) < 0:
            break
        depth = depths[-1]
    return deepest + _ROUNDS


def _outside(data: bytes) -> Iterator[bytes]:
    """Yields the brackets outside of text, piece by piece, those of objects as those of lists.

    1. A backslash with what it escapes is taken out, so that every quotation mark begins or ends a text. One
       that ends a piece goes with the next.
    2. Everything but quotation marks and brackets is taken out.
    3. Two quotation marks side by side are taken out: the end of a text and the beginning of the next, or
       the two of a text without brackets. What is left of either is inside a text still, or outside.
    4. Texts are taken out with what they hold; one may go on in the next piece.
    """
    within, held = 0, b""
    for at in range(0, len(data), _PIECE_BYTES):
        piece = held + data[at : at + _PIECE_BYTES]
        held = b""
        if b"\\" in piece:  # 1
            piece = piece.replace(b"\\\\", b"")
            if piece.endswith(b"\\"):
                piece, held = piece[:-1], b"\\"
            piece = piece.replace(b'\\"', b"")
        marks = piece.translate(_ONE_KIND, _OTHERS).replace(b'""', b"")  # 2, 3
        parts = marks.split(b'"')  # 4
        yield b"".join(parts[within::2])
        within ^= len(parts) - 1 & 1


def _has_few(data: bytes, most: int) -> bool:
    """Says whether there are at most `most` opening brackets at all.

    Searches are many times faster than `bytes.count` where there are few.
    """
    found = 0
    for bracket in (b"[", b"{"):
        at = data.find(bracket)
        while at >= 0:
            if found == most:
                return False
            found += 1
            at = data.find(bracket, at + 1)
    return True
