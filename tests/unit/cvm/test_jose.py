"""Tokens in the compact serialisation, and the keys that they may be signed with."""

from __future__ import annotations

import json
from typing import Any

import nras
import pytest
from nras import REMOVED

from palm_torch.cvm import jose
from palm_torch.errors import (
    EncodingError,
    EvidenceError,
    PalmTorchError,
    PolicyError,
    SignatureError,
    TrustAnchorError,
)


@pytest.fixture(scope="module")
def service() -> nras.Service:
    return nras.Service()


def test_a_token_and_its_key(service: nras.Service) -> None:
    keys = jose.read_key_set(
        json.dumps({"keys": [service.jwk(), service.jwk(kid="2", alg=REMOVED)]}).encode()
    )
    found = jose.verify(
        service.sign({"a": [1, None]}, jku="https://example.com", typ="JWT"), keys, what="token"
    )
    assert (found.key_id, found.claims.value) == (nras.KEY_ID, {"a": [1, None]})
    assert jose.verify(service.sign({}, kid="2"), keys, what="token").key_id == "2"


@pytest.mark.parametrize(
    ("token", "error", "said"),
    [
        ("a.b", EvidenceError, "expected 3 parts"),
        ("a.b.c.d", EvidenceError, "expected 3 parts"),
        ("a" * (jose.MAX_TOKEN_CHARACTERS - 2) + "..a", EvidenceError, "of at most 65536 characters"),
        ("a.e30.AA", EncodingError, "not base64url"),
        ("\u00e9.e30.AA", EncodingError, "not base64url"),
        ("e30=.e30.AA", EncodingError, "not in canonical form"),
        ("e30.e31.AA", EncodingError, "not in canonical form"),
        ("e30\n.e30.AA", EncodingError, "base64url"),
        ("e30.MQ.AA", EvidenceError, "expected an object, got 1"),
        ("e30.Lg.AA", EvidenceError, "not a JSON document"),
        ("e30.e30.AA", EvidenceError, "missing key 'alg'"),
    ],
)
def test_tokens_that_do_not_parse(token: str, error: type[PalmTorchError], said: str) -> None:
    with pytest.raises(error, match=said):
        jose.verify(token, {}, what="token")


@pytest.mark.parametrize(
    ("header", "error", "said"),
    [
        ({"alg": "none"}, SignatureError, "expected a signature by ES384, got 'none'"),
        ({"alg": "es384"}, SignatureError, "expected a signature by ES384"),
        ({"alg": ["ES384"]}, EvidenceError, "expected text"),
        ({"crit": []}, SignatureError, "without extensions"),
        ({"kid": "other"}, TrustAnchorError, "'other', which is none of the 1 keys configured"),
        ({"kid": REMOVED}, EvidenceError, "missing key 'kid'"),
    ],
)
def test_headers_that_are_refused(
    service: nras.Service, header: dict[str, Any], error: type[PalmTorchError], said: str
) -> None:
    with pytest.raises(error, match=said):
        jose.verify(service.sign({}, **header), service.keys, what="token")


def test_signatures_that_do_not_verify(service: nras.Service) -> None:
    signed, _, signature = service.sign({}).rpartition(".")
    for other, said in (
        (nras.encode(bytes(96)), "does not verify"),
        (nras.encode(bytes(95)), "expected 96 bytes, got 95"),
        (nras.Service().sign({}).rpartition(".")[2], "does not verify"),
    ):
        with pytest.raises(SignatureError, match=said):
            jose.verify(f"{signed}.{other}", service.keys, what="token")
    other = service.sign({"a": 1}).rpartition(".")[0]
    with pytest.raises(SignatureError, match="does not verify"):
        jose.verify(f"{other}.{signature}", service.keys, what="token")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"[]", "expected an object"),
        (b"{" * 100_000, "not a JSON document"),
        (b'{"a": 1, "a": 1}', "the same key twice"),
        (b'{"a": 1.5}', "expected whole numbers, got 1.5"),
        (b'{"a": 1e5}', "expected whole numbers"),
        (b'{"a": NaN}', "JSON has no NaN"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not a JSON document"),
        (b"\xff", "not a JSON document"),
        (b"{}" + b" " * 64, "expected at most 64 bytes, got 66"),
        (b'{"a": [[[[[[[[]]]]]]]]}', "nested deeper than 8"),
    ],
)
def test_json_that_is_refused(text: bytes, said: str) -> None:
    limit = 64 if text.startswith(b"{} ") else 1 << 20
    with pytest.raises(EvidenceError, match=said):
        jose.read_json(text, what="document", max_bytes=limit)


def test_json_of_the_greatest_depth() -> None:
    assert jose.read_json(b'{"a": [[[[[[[]]]]]]]}', what="document", max_bytes=100).value


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kty": "RSA"}, "expected an EC key on P-384"),
        ({"crv": "P-256"}, "expected an EC key on P-384"),
        ({"alg": "ES256"}, "expected an EC key on P-384"),
        ({"d": "AA"}, "expected a public key, got a private one"),
        ({"kid": REMOVED}, "missing key 'kid'"),
        ({"kid": 7}, "expected text"),
        ({"x": "AA"}, "expected coordinates of 48 bytes"),
        ({"y": "AA"}, "expected coordinates of 48 bytes"),
        ({"x": nras.encode(bytes(48))}, "not a point of P-384"),
        ({"x": "A=="}, "base64url"),
    ],
)
def test_keys_that_are_refused(service: nras.Service, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        jose.read_key_set(json.dumps({"keys": [service.jwk(**changes)]}).encode())


def test_key_sets_that_are_refused(service: nras.Service) -> None:
    twice = json.dumps({"keys": [service.jwk(), service.jwk()]}).encode()
    for text in (b"{}", b"[]", b'{"keys": []}', b'{"keys": [1]}', twice):
        with pytest.raises(PolicyError, match="key set"):
            jose.read_key_set(text)
