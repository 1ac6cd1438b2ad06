"""Distinguished encoding: one spelling in, the same out."""

from __future__ import annotations

from typing import Any

import pytest

from palm_torch.cvm import der
from palm_torch.errors import EncodingError


def test_what_is_written_is_read() -> None:
    inner = der.write(der.OCTET_STRING, b"x" * 300)
    outer = der.write(der.SEQUENCE, der.write_integer(5), inner)
    element = der.read(outer, what="thing")
    assert (element.tag, element.encoded) == (der.SEQUENCE, outer)
    number, octets = der.children(element, what="thing")
    assert der.expect(number, der.INTEGER, what="thing") == b"\x05"
    assert der.expect(octets, der.OCTET_STRING, what="thing") == b"x" * 300


@pytest.mark.parametrize(
    ("value", "encoded"), [(0, "020100"), (127, "02017f"), (128, "02020080"), (65535, "020300ffff")]
)
def test_integers(value: int, encoded: str) -> None:
    assert der.write_integer(value).hex() == encoded


@pytest.mark.parametrize(
    ("dotted", "encoded"),
    [("1.2.840.113741.1.13.1", "06092a864886f84d010d01"), ("2.5.29.15", "0603551d0f"), ("0.9.0", "06020900")],
)
def test_object_identifiers(dotted: str, encoded: str) -> None:
    assert der.write_oid(dotted).hex() == encoded


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "truncated"),
        ("30", "truncated"),
        ("3001", "needs 3 bytes, got 2"),
        ("300000", "1 bytes after"),
        ("3080", "indefinite"),
        ("3085", "indefinite"),
        ("3081", "indefinite"),
        ("308100", "shortest"),
        ("30820001" + "00", "shortest"),
        ("1f8100", "is not one this library reads"),
    ],
)
def test_other_spellings_are_refused(data: Any, message: str) -> None:
    with pytest.raises(EncodingError, match=f"thing.*{message}"):
        der.read(bytes.fromhex(data), what="thing")


def test_only_constructed_elements_have_children() -> None:
    with pytest.raises(EncodingError, match="constructed"):
        der.children(der.read(der.write_integer(1), what="thing"), what="thing")


def test_the_tag_is_checked() -> None:
    with pytest.raises(EncodingError, match="expected DER tag 0x04, got 0x02"):
        der.expect(der.read(der.write_integer(1), what="thing"), der.OCTET_STRING, what="thing")


def test_a_negative_number_is_not_written() -> None:
    with pytest.raises(EncodingError, match="expected 0 or more, got -1"):
        der.write_integer(-1)


def test_a_huge_number_is_refused() -> None:
    """Python refuses to spell numbers of more than 4300 digits, with an error of its own."""
    greatest = (1 << 8 * der.MAX_INTEGER_BYTES - 1) - 1
    assert der.read_integer(der.read(der.write_integer(greatest), what="thing"), what="thing") == greatest
    with pytest.raises(EncodingError, match="thing: expected a DER integer of at most 64 bytes, got 65"):
        der.read_integer(der.read(der.write_integer(greatest + 1), what="thing"), what="thing")
