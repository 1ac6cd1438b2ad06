"""Distinguished encoding (ITU-T X.690), the little that certificates need: one spelling in, the same out.

`cryptography` decodes certificates; this module looks at their outermost frame, where one value can have
several spellings, and at Intel's private extension, for which there is no other reader.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from palm_torch.errors import EncodingError

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
NULL: Final = 0x05
OBJECT_IDENTIFIER: Final = 0x06
ENUMERATED: Final = 0x0A
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30
SET: Final = 0x31
CONTEXT: Final = 0x80
"""Context-specific tag 0; further ones count up, `CONSTRUCTED` is added for those that hold elements."""
CONSTRUCTED: Final = 0x20

MAX_INTEGER_BYTES: Final = 64
"""Longest INTEGER read; serial numbers, the longest there are, have 20 bytes or a few more."""

_LONG_FORM: Final = 0x80
_MAX_LENGTH_OCTETS: Final = 4
_MULTI_BYTE_TAG: Final = 0x1F


@dataclass(frozen=True, slots=True)
class Element:
    """One tag-length-value triple.

    Attributes:
        tag: The identifier octet.
        content: The content octets.
        encoded: The whole element, identifier and length included.
    """

    tag: int
    content: bytes
    encoded: bytes


def read(data: bytes, *, what: str) -> Element:
    """Reads data that is exactly one element.

    Args:
        data: The encoding, with nothing after it.
        what: Name of the thing being read, for messages.

    Raises:
        EncodingError: If the bytes are truncated, are followed by others, or spell a length in a way that
            distinguished encoding does not allow.
    """
    element, end = _read_at(data, 0, what)
    if end != len(data):
        raise EncodingError(f"{what}: {len(data) - end} bytes after the DER element of {end} bytes")
    return element


def children(element: Element, *, what: str) -> tuple[Element, ...]:
    """Reads the elements a constructed element (a SEQUENCE, mostly) holds.

    Raises:
        EncodingError: If the content is not a row of whole elements, or the element is not constructed.
    """
    if not element.tag & CONSTRUCTED:
        raise EncodingError(f"{what}: expected a constructed DER element, got tag {element.tag:#04x}")
    found: list[Element] = []
    at = 0
    while at < len(element.content):
        child, at = _read_at(element.content, at, what)
        found.append(child)
    return tuple(found)


def row(element: Element, count: int, *, what: str, tag: int = SEQUENCE) -> tuple[Element, ...]:
    """Reads the elements of a SEQUENCE, or of what has the tag given, which must be so many.

    Args:
        element: The constructed element.
        count: How many it must hold.
        what: Name of the thing being read, for messages.
        tag: The tag it must have.

    Raises:
        EncodingError: If the tag or the number of elements is another.
    """
    expect(element, tag, what=what)
    found = children(element, what=what)
    if len(found) != count:
        raise EncodingError(f"{what}: expected {count} DER elements, got {len(found)}")
    return found


def expect(element: Element, tag: int, *, what: str) -> bytes:
    """Returns the content of an element that must have the given tag.

    Raises:
        EncodingError: If it has another.
    """
    if element.tag != tag:
        raise EncodingError(f"{what}: expected DER tag {tag:#04x}, got {element.tag:#04x}")
    return element.content


def read_integer(element: Element, *, what: str, tag: int = INTEGER) -> int:
    """Returns the value of an INTEGER that is not negative, not huge, and has its shortest spelling.

    Python refuses to spell numbers of thousands of digits, in messages too.

    Args:
        element: The element.
        what: Name of the thing being read, for messages.
        tag: The tag it must have, where it is not the universal one.

    Raises:
        EncodingError: If it is something else.
    """
    content = expect(element, tag, what=what)
    if len(content) > MAX_INTEGER_BYTES:
        raise EncodingError(
            f"{what}: expected a DER integer of at most {MAX_INTEGER_BYTES} bytes, got {len(content)}"
        )
    value = int.from_bytes(content, "big")
    if content != value.to_bytes(value.bit_length() // 8 + 1, "big"):
        raise EncodingError(f"{what}: expected a DER integer from 0, got {content[:40].hex()!r}")
    return value


def write(tag: int, *parts: bytes) -> bytes:
    """Encodes one element.

    Args:
        tag: The identifier octet.
        parts: The content octets, in pieces that follow one another.
    """
    content = b"".join(parts)
    size = len(content)
    if size < _LONG_FORM:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, _LONG_FORM | len(length))) + length + content


def write_integer(value: int, *, tag: int = INTEGER) -> bytes:
    """Encodes a non-negative INTEGER (or ENUMERATED).

    Raises:
        EncodingError: If it is negative, as the serial numbers of some certificates are.
    """
    if value < 0:
        raise EncodingError(f"INTEGER: expected 0 or more, got {value}")
    return write(tag, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def write_oid(dotted: str) -> bytes:
    """Encodes an OBJECT IDENTIFIER given in dotted decimal."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    content = bytearray()
    for arc in (40 * first + second, *rest):
        groups = [arc & 0x7F]
        while arc := arc >> 7:
            groups.append(0x80 | (arc & 0x7F))
        content += bytes(reversed(groups))
    return write(OBJECT_IDENTIFIER, bytes(content))


def _read_at(data: bytes, at: int, what: str) -> tuple[Element, int]:
    start = at
    if len(data) < at + 2:
        raise EncodingError(f"{what}: DER element at byte {start} is truncated")
    tag, length = data[at], data[at + 1]
    at += 2
    if tag & _MULTI_BYTE_TAG == _MULTI_BYTE_TAG:
        raise EncodingError(f"{what}: DER tag {tag:#04x} at byte {start} is not one this library reads")
    if length >= _LONG_FORM:
        octets = length & 0x7F
        if not 1 <= octets <= _MAX_LENGTH_OCTETS or len(data) < at + octets:
            raise EncodingError(f"{what}: DER length at byte {start + 1} is indefinite, huge or truncated")
        length = int.from_bytes(data[at : at + octets], "big")
        if length < _LONG_FORM or data[at] == 0:
            raise EncodingError(f"{what}: DER length at byte {start + 1} is not the shortest spelling")
        at += octets
    end = at + length
    if end > len(data):
        raise EncodingError(f"{what}: DER element at byte {start} needs {end} bytes, got {len(data)}")
    return Element(tag, data[at:end], data[start:end]), end
