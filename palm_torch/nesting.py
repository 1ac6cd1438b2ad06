"""How deep JSON nests, bounded before it is parsed.

Python's JSON parser calls itself once for each list and object that it is in. Only Python's recursion limit
stops it, and a program that raised that limit would be ended by the operating system, without an exception,
once the parser had used up the stack. So brackets are counted first, by a few passes over the bytes that
make no object for each of them.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Final

from palm_torch.errors import EncodingError

if TYPE_CHECKING:
    from palm_torch.errors import InputError, PalmTorchError

MAX_FOREIGN_DEPTH: Final = 128
"""Most lists and objects around a value in JSON that others wrote, where its format sets no bound."""

_MARKS: Final = b'"[]{}'
_OTHERS: Final = bytes(byte for byte in range(256) if byte not in _MARKS)
_ONE_KIND: Final = bytes.maketrans(b"{}", b"[]")
_STEPS: Final = bytes.maketrans(b"[]", b"\x01\xff")
_ROUNDS: Final = 4
"""How often innermost pairs are taken out in one pass, before the rest is counted bracket by bracket."""


def check(
    data: bytes,
    *,
    what: str,
    most: int = MAX_FOREIGN_DEPTH,
    error: type[InputError | PalmTorchError] = EncodingError,
) -> None:
    """Refuses JSON in which a value stands inside too many lists and objects.

    Whatever nests deeper than ``most + 4`` is refused, and nothing that keeps to ``most``: who needs the
    exact bound looks at the parsed value as well. Brackets within text do not count. Other faults are left
    to the parser, which is not deeper than that when it finds them.

    1. A backslash with what it escapes is taken out, so that every quotation mark begins or ends a text.
    2. Everything but quotation marks and brackets is taken out.
    3. Two quotation marks side by side are taken out: the end of a text and the beginning of the next, or
       the two of a text without brackets. What is left of either is inside a text still, or outside.
    4. Texts are taken out with what they hold.
    5. Innermost pairs are taken out, and of what is left the depth is counted.

    Args:
        data: The document, UTF-8 or not, JSON or not.
        what: Name of the document, for the message.
        most: Lists and objects that a value may stand inside.
        error: Class of the error.

    Raises:
        EncodingError: Or `error`: if it nests deeper.
    """
    if len(data) <= most or _has_few(data, most):
        return
    if b"\\" in data:  # 1
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = data.translate(_ONE_KIND, _OTHERS).replace(b'""', b"")  # 2, 3
    outside = b"".join(marks.split(b'"')[::2]) if b'"' in marks else marks  # 4
    for _ in range(_ROUNDS):  # 5
        outside = outside.replace(b"[]", b"")
    steps = memoryview(outside.translate(_STEPS)).cast("b")
    if max(itertools.accumulate(steps), default=0) > most + 1:
        raise error(f"{what}: nesting deeper than {most}")


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
