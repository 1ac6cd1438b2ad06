"""Compact JSON Web Signatures by ECDSA on P-384 with SHA-384 (ES384), under the verifier's own keys.

A token says which of those keys it was signed with, and nothing else of what its header says is followed: no
algorithm, no key and no address is taken from a token.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from palm_torch import nesting
from palm_torch.cvm import signed_json
from palm_torch.errors import (
    EncodingError,
    EvidenceError,
    InputError,
    PolicyError,
    SignatureError,
    TrustAnchorError,
)

ALGORITHM: Final = "ES384"
CURVE: Final = "P-384"
MAX_KEY_SET_BYTES: Final = 1 << 20
MAX_TOKEN_CHARACTERS: Final = 64 << 10
MAX_DEPTH: Final = 8
"""How deep objects and lists may be nested in each other."""

_COORDINATE_BYTES: Final = 48
_PARTS: Final = 3

KeySet = Mapping[str, ec.EllipticCurvePublicKey]
"""Name of a key (``kid``) → the key, on P-384."""


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """A token whose signature verified; nothing it claims has been looked at.

    Attributes:
        key_id: Name of the configured key that signed it.
        claims: What it claims, an object.
    """

    key_id: str
    claims: signed_json.Node


def read_key_set(data: bytes, *, what: str = "key set") -> KeySet:
    """Reads a JSON Web Key Set (RFC 7517): the keys whose tokens the verifier is ready to hear.

    Args:
        data: The document; every key in it is an EC key on P-384 with a name of its own.
        what: Name of the document, for messages.

    Raises:
        PolicyError: If it is something else, or has no key, a private one, or two of one name.
    """
    try:
        found = {}
        keys = read_json(data, what=what, max_bytes=MAX_KEY_SET_BYTES).items("keys")
        for item in keys:
            found[item.key("kid").text()] = _read_key(item)
    except InputError as error:
        raise PolicyError(str(error)) from error
    if not found or len(found) != len(keys):
        raise PolicyError(f"{what}: expected one or more keys with names of their own, got {len(keys)}")
    return found


def verify(token: str, keys: KeySet, *, what: str) -> VerifiedToken:
    """Verifies a token in the compact serialisation (RFC 7515).

    1. Three parts of base64url without padding, in its only spelling; header and payload are JSON objects.
    2. The header's algorithm is ES384 to the letter, it asks for no extension (``crit``), and it names one of
       `keys`. All else in it is ignored.
    3. The signature, r ‖ s, 96 bytes, is that key's over the first two parts as they stand.

    Args:
        token: The token.
        keys: The keys that the verifier's own configuration admits.
        what: Name of the token, for messages.

    Raises:
        EvidenceError: If the token does not parse (EncodingError: is not in canonical form).
        TrustAnchorError: If it names none of the keys.
        SignatureError: If it is signed in another way, or its signature does not verify.
    """
    header, claims, signature = _parse(token, what)  # 1
    algorithm = header.key("alg").text()  # 2
    if algorithm != ALGORITHM:
        raise SignatureError(f"{what}: expected a signature by {ALGORITHM}, got {algorithm[:40]!r}")
    if "crit" in header.value:
        raise SignatureError(f"{what}: expected a header without extensions, got 'crit'")
    key_id = header.key("kid").text()
    if key_id not in keys:
        raise TrustAnchorError(
            f"{what}: signed by key {key_id[:120]!r}, which is none of the {len(keys)} keys configured"
        )
    if len(signature) != 2 * _COORDINATE_BYTES:  # 3
        raise SignatureError(
            f"{what}: signature: expected {2 * _COORDINATE_BYTES} bytes, got {len(signature)}"
        )
    r, s = (
        int.from_bytes(half, "big") for half in (signature[:_COORDINATE_BYTES], signature[_COORDINATE_BYTES:])
    )
    signed = token.rpartition(".")[0].encode("ascii")
    try:
        keys[key_id].verify(utils.encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA384()))
    except InvalidSignature as error:
        raise SignatureError(f"{what}: signature does not verify under key {key_id[:120]!r}") from error
    return VerifiedToken(key_id, claims)


def look_into(token: str, *, what: str) -> signed_json.Node:
    """Returns what a token claims; nothing is verified.

    Raises:
        EvidenceError: If it does not parse, as in `verify`.
    """
    _, claims, _ = _parse(token, what)
    return claims


def read_json(data: bytes, *, what: str, max_bytes: int) -> signed_json.Node:
    """Reads a JSON object that somebody else wrote: any spelling, but one meaning.

    Args:
        data: The document, UTF-8.
        what: Name of the document, for messages.
        max_bytes: Largest accepted document, in bytes.

    Raises:
        EvidenceError: If it is larger, something else, has a key twice, a fraction, or is nested deeper than
            `MAX_DEPTH`.
    """
    node = signed_json.Node(what, read_value(data, what=what, max_bytes=max_bytes))
    if not isinstance(node.value, dict):
        raise EvidenceError(f"{what}: expected an object, got {node.value!r:.60}")
    return node


def read_value(data: bytes, *, what: str, max_bytes: int) -> Any:  # noqa: ANN401 (a value of JSON)
    """Reads a JSON value as `read_json` does, of whatever type."""
    if len(data) > max_bytes:
        raise EvidenceError(f"{what}: expected at most {max_bytes} bytes, got {len(data)}")
    nesting.check(data, what=f"{what}: not a JSON document", most=MAX_DEPTH, error=EvidenceError)
    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=signed_json.unique,
            parse_constant=signed_json.refuse_constant,
            parse_float=_refuse_fraction,
        )
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"{what}: not a JSON document: {error}") from error
    _check_depth(value, MAX_DEPTH, what)
    return value


def decode_base64url(text: str, *, what: str) -> bytes:
    """Decodes base64url without padding (RFC 7515 section 2), which has one spelling.

    Raises:
        EncodingError: If the text is something else.
    """
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise EncodingError(f"{what}: not base64url: {error}") from error
    if base64.urlsafe_b64encode(data).rstrip(b"=") != text.encode("ascii"):
        raise EncodingError(f"{what}: base64url is not in canonical form")
    return data


def _parse(token: str, what: str) -> tuple[signed_json.Node, signed_json.Node, bytes]:
    """Returns header, claims and signature."""
    parts = token.split(".", _PARTS)
    if len(parts) != _PARTS or len(token) > MAX_TOKEN_CHARACTERS:
        raise EvidenceError(
            f"{what}: expected {_PARTS} parts of at most {MAX_TOKEN_CHARACTERS} characters together, "
            f"got {len(parts)} of {len(token)}"
        )
    raw_header, payload, signature = (decode_base64url(part, what=what) for part in parts)
    header = read_json(raw_header, what=f"{what}: header", max_bytes=MAX_TOKEN_CHARACTERS)
    claims = read_json(payload, what=what, max_bytes=MAX_TOKEN_CHARACTERS)
    return header, claims, signature


def _read_key(item: signed_json.Node) -> ec.EllipticCurvePublicKey:
    kind = (item.key("kty").text(), item.key("crv").text(), item.value.get("alg", ALGORITHM))
    if "d" in item.value:
        raise PolicyError(f"{item.path}: expected a public key, got a private one")
    if kind != ("EC", CURVE, ALGORITHM):
        raise PolicyError(f"{item.path}: expected an EC key on {CURVE} for {ALGORITHM}, got {kind!r:.80}")
    x, y = (decode_base64url(item.key(name).text(), what=f"{item.path}: {name}") for name in ("x", "y"))
    if len(x) != _COORDINATE_BYTES or len(y) != _COORDINATE_BYTES:
        raise PolicyError(f"{item.path}: expected coordinates of {_COORDINATE_BYTES} bytes")
    numbers = ec.EllipticCurvePublicNumbers(
        int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP384R1()
    )
    try:
        return numbers.public_key()
    except ValueError as error:
        raise PolicyError(f"{item.path}: not a point of {CURVE}: {error}") from error


def _check_depth(value: object, left: int, what: str) -> None:
    if not isinstance(value, (list, dict)):
        return
    if not left:
        raise EvidenceError(f"{what}: nested deeper than {MAX_DEPTH}")
    for item in value.values() if isinstance(value, dict) else value:
        _check_depth(item, left - 1, what)


def _refuse_fraction(text: str) -> Any:  # noqa: ANN401 (the signature that json asks for)
    raise ValueError(f"expected whole numbers, got {text[:40]}")
