"""Text that somebody else chose, with nothing left in it that could move a cursor or begin a new line."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Returns text for people, with control, format and other unprintable characters written as escapes.

    >>> print(printable("model\nACCEPTED"))
    model\nACCEPTED
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def encodable(text: str) -> str:
    r"""Returns text that UTF-8 can spell, with lone surrogates written as escapes.

    >>> print(encodable("data-\udcff.txt"))
    data-\udcff.txt
    """
    return text.encode("utf-8", "backslashreplace").decode()


def file_name(name: str) -> str:
    r"""Returns a file's name as evidence lists it: unprintable characters as their number, in hex.

    >>> print(file_name("line\nbreak"))
    line\u000abreak
    """
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in name)
