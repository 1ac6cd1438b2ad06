"""What a time-stamp token says (TSTInfo, RFC 3161 section 2.4.2), read strictly.

All of it is signed. Extensions are not read: nobody could say what they change.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from palm_torch.cvm import cms, der
from palm_torch.errors import EncodingError

_VERSION_1: Final = der.write_integer(1)
_TRUE: Final = der.write(der.BOOLEAN, b"\xff")
_SHA256_SPELLINGS: Final = (
    der.write(der.SEQUENCE, cms.SHA256),
    der.write(der.SEQUENCE, cms.SHA256, der.write(der.NULL)),
)
_AUTHORITY: Final = der.CONTEXT | der.CONSTRUCTED
_DIRECTORY_NAME: Final = der.CONTEXT | der.CONSTRUCTED | 4
_MILLIS: Final = der.CONTEXT
_MICROS: Final = der.CONTEXT | 1
_THOUSAND: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Info:
    """The content of a token.

    Attributes:
        imprint: The SHA-256 that was shown to the authority.
        serial: The token's number with this authority.
        time: When it was shown, UTC.
        accuracy: How far off that may be; None if the authority does not say.
        authority: Name of the authority, DER; None if it is not in the token.
    """

    imprint: bytes
    serial: int
    time: datetime
    accuracy: timedelta | None
    authority: bytes | None


def read(content: bytes, *, what: str) -> Info:
    """Reads the content of a token.

    Args:
        content: The TSTInfo, DER.
        what: Name of the token, for messages.

    Raises:
        EncodingError: If it is not version 1 in DER, its imprint is not by SHA-256, or it has extensions.
    """
    element = der.read(content, what=what)
    der.expect(element, der.SEQUENCE, what=what)
    parts = list(der.children(element, what=what))
    if len(parts) < 5 or parts[0].encoded != _VERSION_1:  # noqa: PLR2004 (the mandatory fields)
        raise EncodingError(f"{what}: expected version 1 of its information")
    der.expect(parts[1], der.OBJECT_IDENTIFIER, what=f"{what}: policy")
    algorithm, imprint = der.row(parts[2], 2, what=what)
    if algorithm.encoded not in _SHA256_SPELLINGS:
        raise EncodingError(f"{what}: expected an imprint by SHA-256, got {algorithm.encoded[:40].hex()!r}")
    serial = der.read_integer(parts[3], what=f"{what}: serial number")
    time = _read_time(der.expect(parts[4], der.GENERALIZED_TIME, what=f"{what}: time"), what)
    left = parts[5:]
    accuracy = (
        _read_accuracy(left.pop(0), f"{what}: accuracy") if left and left[0].tag == der.SEQUENCE else None
    )
    if left and left[0].encoded == _TRUE:  # ordering: says nothing about this token
        left.pop(0)
    if left and left[0].tag == der.INTEGER:
        left.pop(0)  # nonce: the authority's answer to whoever asked
    authority = left.pop(0) if left and left[0].tag == _AUTHORITY else None
    if left:
        raise EncodingError(f"{what}: unknown field {left[0].tag:#04x}; extensions are not read")
    return Info(
        imprint=der.expect(imprint, der.OCTET_STRING, what=f"{what}: imprint"),
        serial=serial,
        time=time,
        accuracy=accuracy,
        authority=None if authority is None else _directory_name(authority, f"{what}: authority"),
    )


def _directory_name(authority: der.Element, what: str) -> bytes:
    """Returns the name in a GeneralName, which must be a directory name."""
    (general,) = der.row(authority, 1, what=what, tag=_AUTHORITY)
    (name,) = der.row(general, 1, what=what, tag=_DIRECTORY_NAME)
    return name.encoded


def _read_time(content: bytes, what: str) -> datetime:
    """Reads a GeneralizedTime in its one spelling: seconds, a fraction without trailing zeros, Z."""
    text = content.decode("ascii", "replace")
    whole, point, fraction = text.removesuffix("Z").partition(".")
    try:
        time = datetime.strptime(whole, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
        time += timedelta(microseconds=int(fraction[:6].ljust(6, "0")) if point else 0)
    except (ValueError, OverflowError) as error:
        raise EncodingError(f"{what}: not a time: {text[:40]!r}") from error
    spelled = time.strftime("%Y%m%d%H%M%S").rjust(14, "0") + point + fraction + "Z"
    if text != spelled or (point and (not fraction.isdecimal() or fraction.endswith("0"))):
        raise EncodingError(f"{what}: time is not in canonical form: {text[:40]!r}")
    return time


def _read_accuracy(element: der.Element, what: str) -> timedelta:
    """Reads seconds, milliseconds and microseconds, each at most once and in this order."""
    found: dict[int, int] = {}
    for part in der.children(element, what=what):
        if part.tag not in (der.INTEGER, _MILLIS, _MICROS) or any(tag >= part.tag for tag in found):
            raise EncodingError(f"{what}: unknown or repeated field {part.tag:#04x}")
        found[part.tag] = der.read_integer(part, what=what, tag=part.tag)
    if any(not 0 < found.get(tag, 1) < _THOUSAND for tag in (_MILLIS, _MICROS)):
        raise EncodingError(f"{what}: expected 1 to 999 milli- and microseconds")
    try:
        return timedelta(
            seconds=found.get(der.INTEGER, 0),
            milliseconds=found.get(_MILLIS, 0),
            microseconds=found.get(_MICROS, 0),
        )
    except OverflowError as error:
        raise EncodingError(f"{what}: out of bounds: {error}") from error
