"""The one canonical form of everything palm-torch writes: JSON, hex, base64 and framed bytes.

JSON follows RFC 8785 (JCS) with two limits of our own: integers stay within ±(2^53 − 1), so that every
reader sees the same number, and documents have a maximum depth. A decoder accepts exactly what the
encoder makes: `decode_json(data)` raises unless `encode_json(decode_json(data)) == data`.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import math
from typing import Any, Final, TypeAlias

from palm_torch import nesting
from palm_torch.errors import EncodingError

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"

MAX_INTEGER: Final = 2**53 - 1
MAX_DEPTH: Final = 32
MAX_VALUES: Final = 2_000_000
"""Most commas and colons of a document, and most opening brackets, outside of text or in it: small values,
and lists around nothing, take much more memory than their spelling."""
_U32_BYTES: Final = 4

_WORDS: Final = {None: "null", True: "true", False: "false"}

_PLAIN: Final = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, sort_keys=True, separators=(",", ":")
)
"""Python's own encoder, in C. It spells as RFC 8785 asks where keys are ASCII and doubles simple, but knows
no bounds."""
_LEAST_FIXED: Final = 1e-4
_MOST_FIXED: Final = 1e16
"""Between these Python writes a double without an exponent, and like ECMAScript if it is no whole number."""


def length_prefixed(data: bytes) -> bytes:
    """Returns ``u32(len(data)) ‖ data``, big endian: the LP() of the specification."""
    return len(data).to_bytes(_U32_BYTES, "big") + data


def encode_json(value: Json) -> bytes:
    """Encodes a value as canonical JSON (RFC 8785), UTF-8, no trailing newline.

    Raises:
        EncodingError: For NaN, infinities, integers beyond ±(2^53 − 1), lone surrogates, keys that are
            not text, types JSON has no word for, or nesting deeper than `MAX_DEPTH`.
    """
    try:
        return (_PLAIN.encode(value) if _is_plain(value) else _spelled(value, 0)).encode("utf-8")
    except UnicodeEncodeError as error:
        raise EncodingError(f"text is not valid Unicode: {error.reason}") from error


def decode_json(data: bytes, *, what: str, max_bytes: int) -> Json:
    """Decodes canonical JSON and nothing else.

    Args:
        data: The bytes of one document, without anything before or after it.
        what: Name of the thing being decoded, for messages.
        max_bytes: Largest accepted document, in bytes.

    Raises:
        EncodingError: If the bytes are too many, not JSON, or not the canonical spelling of it
            (white space, key order, duplicate keys, number format, escapes).
    """
    if len(data) > max_bytes:
        raise EncodingError(f"{what}: expected at most {max_bytes} bytes, got {len(data)}")
    if values_in(data) > MAX_VALUES:
        raise EncodingError(f"{what}: expected at most {MAX_VALUES} values")
    depth = nesting.check(data, what=what, most=MAX_DEPTH)
    doubles: list[str] = []
    try:
        text = data.decode("utf-8")
        value: Json = json.loads(
            text,
            parse_int=_integer,
            parse_float=functools.partial(_double, doubles),
            parse_constant=functools.partial(_refuse_constant, what),
        )
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise EncodingError(f"{what}: not a JSON document: {error}") from error
    except (RecursionError, ValueError) as error:  # ValueError: an integer with thousands of digits
        raise EncodingError(f"{what}: JSON out of bounds: {error}") from error
    if depth <= MAX_DEPTH and not doubles and data.isascii() and _PLAIN.encode(value) == text:
        return value
    try:
        canonical = encode_json(value)
    except EncodingError as error:
        raise EncodingError(f"{what}: {error}") from error
    if canonical != data:
        raise EncodingError(f"{what}: JSON is not in canonical form ({_first_difference(data, canonical)})")
    return value


def values_in(data: bytes) -> int:
    """Returns what `MAX_VALUES` bounds: commas and colons, or opening brackets where these are more."""
    return max(data.count(b",") + data.count(b":"), data.count(b"[") + data.count(b"{"))


def encode_base64(data: bytes) -> str:
    """Returns standard padded base64 (RFC 4648 section 4) on one line."""
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: str, *, what: str) -> bytes:
    """Decodes base64 and accepts only the spelling `encode_base64` makes.

    Raises:
        EncodingError: If the text is not canonical base64.
    """
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError) as error:
        raise EncodingError(f"{what}: not base64: {error}") from error
    if encode_base64(data) != text:
        raise EncodingError(f"{what}: base64 is not in canonical form")
    return data


def decode_hex(text: str, *, what: str, length_bytes: int | None = None) -> bytes:
    """Decodes lower-case hexadecimal.

    Args:
        text: The hexadecimal text.
        what: Name of the thing being decoded, for messages.
        length_bytes: Exact number of bytes expected, or None for any.

    Raises:
        EncodingError: If the text is not lower-case hex or has another length.
    """
    try:
        data = bytes.fromhex(text)
    except ValueError as error:
        raise EncodingError(f"{what}: not hexadecimal: {text[:80]!r}") from error
    if data.hex() != text:
        raise EncodingError(f"{what}: expected lower-case hexadecimal, got {text[:80]!r}")
    if length_bytes is not None and len(data) != length_bytes:
        raise EncodingError(f"{what}: expected {length_bytes} bytes, got {len(data)}")
    return data


def _is_plain(value: Json) -> bool:
    """Says whether `_PLAIN` spells a value as canonical JSON: ASCII keys, simple doubles, within bounds."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH + 1):
        inner: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is dict:
                if not _has_ascii_keys(item):
                    return False
                inner += item.values()
            elif kind is list:
                inner += item
            elif kind is float:
                if not (_LEAST_FIXED <= abs(item) < _MOST_FIXED and item % 1):
                    return False
            elif kind is int:
                if abs(item) > MAX_INTEGER:
                    return False
            elif not (kind is str or kind is bool or item is None):
                return False
        if not inner:
            return True
        level = inner
    return False


def _spelled(value: Json, depth: int) -> str:
    if depth > MAX_DEPTH:
        raise EncodingError(f"nesting deeper than {MAX_DEPTH}")
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool):
        return _WORDS[value]
    if isinstance(value, dict):
        inner = depth + 1
        return "{" + ",".join([f"{_text(key)}:{_spelled(value[key], inner)}" for key in _keys(value)]) + "}"
    if isinstance(value, list):
        inner = depth + 1
        return "[" + ",".join([_spelled(item, inner) for item in value]) + "]"
    if isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise EncodingError(f"integer beyond ±(2^53 - 1): {value:#x}")
        return int.__repr__(value)
    if isinstance(value, float):
        return _number(value)
    raise EncodingError(f"no JSON form for {type(value).__name__}")


def _keys(value: dict[str, Json]) -> list[str]:
    """Returns an object's keys in the order of RFC 8785 section 3.2.3: by UTF-16 code units."""
    return sorted(value) if _has_ascii_keys(value) else sorted(value, key=_utf16_key)


def _has_ascii_keys(value: dict[str, Json]) -> bool:
    """Says whether all keys are text of ASCII, whose UTF-16 code units are its code points."""
    try:
        return "".join(value).isascii()
    except TypeError:  # no text: `_utf16_key` says which
        return False


_text: Final = json.encoder.encode_basestring
"""Spells text as ``json.dumps(text, ensure_ascii=False)`` does, without making an encoder for each."""


def _utf16_key(key: str) -> bytes:
    """Sort key of RFC 8785 section 3.2.3: UTF-16 code units."""
    if not isinstance(key, str):
        raise EncodingError(f"JSON keys are text, got {type(key).__name__}")
    return key.encode("utf-16-be", "surrogatepass")


def _number(value: float) -> str:
    """Formats a double as ECMAScript does (RFC 8785 section 3.2.2.3)."""
    if not math.isfinite(value):
        raise EncodingError(f"JSON has no {value}")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = float.__repr__(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    digits = (whole + fraction).lstrip("0")
    # The value is 0.digits × 10^point.
    point = int(exponent or 0) + (len(whole) if whole != "0" else len(digits) - len(fraction))
    digits = digits.rstrip("0")
    count = len(digits)
    if count <= point <= 21:  # noqa: PLR2004 (the constants are ECMAScript's)
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:  # noqa: PLR2004
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:  # noqa: PLR2004
        return f"{sign}0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if count > 1 else ""
    return f"{sign}{digits[0]}{tail}e{point - 1:+d}"


def _integer(text: str) -> int | float:
    """Reads digits without exponent: beyond ±(2^53 − 1) they are how RFC 8785 spells a double."""
    value = int(text)
    if abs(value) <= MAX_INTEGER:
        return value
    if math.isinf(number := float(text)):
        raise ValueError(f"an integer of {len(text)} digits is more than a double holds")
    return number


def _double(seen: list[str], text: str) -> float:
    seen.append(text)
    return float(text)


def _refuse_constant(what: str, name: str) -> Json:
    raise EncodingError(f"{what}: JSON has no {name}")


def _first_difference(data: bytes, canonical: bytes) -> str:
    at = next(
        (i for i, (a, b) in enumerate(zip(data, canonical, strict=False)) if a != b),
        min(len(data), len(canonical)),
    )
    return f"byte {at}: expected {canonical[at : at + 16]!r}, got {data[at : at + 16]!r}"
