"""Request files: canonical, bounded, bound by their exact bytes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import workshop

from palm_torch import request
from palm_torch.encoding import decode_json, encode_json
from palm_torch.errors import EncodingError, RequestError

GOOD = workshop.make_request()


def fields(**changes: Any) -> bytes:
    value = decode_json(GOOD, what="request", max_bytes=len(GOOD))
    assert isinstance(value, dict)
    return encode_json({**value, **changes})


def test_there_and_back() -> None:
    decoded = request.decode(GOOD)
    assert decoded.encode() == GOOD
    assert (decoded.operation, decoded.roles) == ("train", ("data", "model"))


def test_what_is_bound_is_every_byte() -> None:
    assert request.nonce_of(GOOD) != request.nonce_of(fields(roles=["data"]))
    assert request.nonce_of(b"").hex().startswith("e3b0c44298fc1c14")


BAD = {
    "nothing": b"",
    "another document": b"{}",
    "a list": b"[]",
    "white space": GOOD + b"\n",
    "too long": fields(roles=["x" * request.MAX_REQUEST_BYTES]),
    "another type": fields(type="palm-torch/request/v2"),
    "a type that is no text": fields(type=1),
    "a short nonce": fields(nonce="5a" * 31),
    "a long nonce": fields(nonce="5a" * 33),
    "an upper-case nonce": fields(nonce="5A" * 32),
    "no nonce": fields(nonce=None),
    "an unknown operation": fields(operation="training"),
    "roles that are one text": fields(roles="data"),
    "a role that is a number": fields(roles=[1]),
    "a role without a name": fields(roles=["model", ""]),
    "a role of blanks": fields(roles=[" "]),
    "a role of two lines": fields(roles=["model\n"]),
    "an unknown key": fields(extra=1),
    "a day that is none": fields(expires="2026-02-30T00:00:00Z"),
    "a time with an offset": fields(expires="2026-11-22T00:00:00+00:00"),
    "a time of one digit": fields(expires="2026-11-22T0:00:00Z"),
    "a time of other digits": fields(expires="２026-11-22T00:00:00Z"),
    "a time that is a number": fields(expires=0),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_request(name: str) -> None:
    with pytest.raises(RequestError):
        request.decode(BAD[name])


@pytest.mark.parametrize("name", ["type", "nonce", "operation", "roles", "expires"])
def test_every_key_is_mandatory(name: str) -> None:
    value = decode_json(GOOD, what="request", max_bytes=len(GOOD))
    assert isinstance(value, dict)
    del value[name]
    with pytest.raises(RequestError, match=f"missing key '{name}'"):
        request.decode(encode_json(value))


def test_expiry() -> None:
    last = datetime(2026, 11, 22, tzinfo=UTC)
    asked = request.decode(GOOD)
    assert not asked.expired(last)
    assert asked.expired(last + timedelta(microseconds=1))
    assert not request.decode(fields(expires=None)).expired(datetime.max.replace(tzinfo=UTC))


def test_a_time_that_is_none_is_named_by_its_field() -> None:
    with pytest.raises(RequestError, match=r"^request\.expires: expected YYYY-MM-DDTHH:MM:SSZ, got 'soon'$"):
        request.decode(fields(expires="soon"))


def test_a_time_is_aware() -> None:
    assert request.parse_time("2026-11-22T00:00:00Z").utcoffset() == timedelta(0)
    with pytest.raises(EncodingError, match="expected YYYY-MM-DDTHH:MM:SSZ, got 'soon'"):
        request.parse_time("soon")


@pytest.mark.parametrize(
    "text",
    ["2026-11-22T0:00:00Z", "2026-11-22t00:00:00z", "２026-11-22T00:00:00Z", "2026-11-22T00:00:60Z", ""],
)
def test_a_time_has_one_spelling(text: str) -> None:
    with pytest.raises(EncodingError, match="expected YYYY-MM-DDTHH:MM:SSZ"):
        request.parse_time(text)


def test_years_before_the_year_thousand_keep_their_zero() -> None:
    assert request.decode(fields(expires="0999-11-22T00:00:00Z")).expired(datetime(2026, 1, 1, tzinfo=UTC))


# requests: a message names the document, the field and what was found


def refusal(**changes: Any) -> str:
    value = decode_json(GOOD, what="request", max_bytes=len(GOOD))
    assert isinstance(value, dict)
    with pytest.raises(RequestError) as caught:
        request.decode(encode_json({**value, **changes}))
    return str(caught.value)


def test_a_field_is_named() -> None:
    assert refusal(type="x" * 81) == (f"request: expected type 'palm-torch/request/v1', got {'x' * 80!r}")
    assert refusal(nonce="5a" * 31) == "request.nonce: expected 32 bytes, got 31"
    for text in ("2026-11-22T0:00:00Z", "x" * 41):
        assert refusal(expires=text).endswith(f"expected YYYY-MM-DDTHH:MM:SSZ, got {text[:40]!r}")
    assert refusal(roles="data") == "request.roles: expected a list, got 'data'"
    assert refusal(roles=["x" * 99 + "\n"]) == (
        f"request.roles: expected names in printable text, got {'x' * 80!r}"
    )
    assert refusal(roles=["  "]) == "request.roles: expected names in printable text, got '  '"


def test_the_document_is_named_as_the_caller_names_it() -> None:
    with pytest.raises(RequestError, match=r"^request: not a JSON document: "):
        request.decode(b"")
    with pytest.raises(RequestError, match=r"^asked\.json: not a JSON document: "):
        request.decode(b"", what="asked.json")
    with pytest.raises(RequestError, match=r"^asked\.json: missing key 'type'$"):
        request.decode(b"{}", what="asked.json")


def test_a_request_is_a_small_file() -> None:
    with pytest.raises(RequestError, match=r"^request: expected at most 65536 bytes, got 65537$"):
        request.decode(bytes(65_537))
