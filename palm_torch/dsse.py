"""Signed documents: the DSSE envelope, version 1, with exactly one signature.

What is signed is the pre-authentication encoding ``"DSSEv1" SP len(type) SP type SP len(payload) SP
payload``, so that neither the payload's encoding nor its type can be exchanged. Envelopes are canonical
JSON: other readers of DSSE read them, this one accepts a single spelling.

Source: DSSE v1.0.2 (secure-systems-lab/dsse, protocol.md and envelope.md).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from palm_torch import codec
from palm_torch.digest import sha256_digest
from palm_torch.encoding import decode_hex
from palm_torch.errors import EncodingError, SignatureError

if TYPE_CHECKING:
    from palm_torch.encoding import Json
    from palm_torch.errors import InputError

IN_TOTO_PAYLOAD: Final = "application/vnd.in-toto+json"
MAX_PAYLOAD_BYTES: Final = 16 << 20
MAX_SIGNATURE_BYTES: Final = 128

PrivateKey: TypeAlias = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
PublicKey: TypeAlias = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

_OF_HASH: Final = ec.ECDSA(Prehashed(hashes.SHA256()))
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature: the signing key's id, and the signature's bytes."""

    keyid: str
    sig: bytes

    def __post_init__(self) -> None:
        """Refuses key ids and signatures of another form."""
        decode_hex(self.keyid, what="keyid", length_bytes=32)
        if not 0 < len(self.sig) <= MAX_SIGNATURE_BYTES:
            raise EncodingError(f"sig: expected 1 to {MAX_SIGNATURE_BYTES} bytes, got {len(self.sig)}")


@dataclass(frozen=True, slots=True)
class Envelope:
    """A signed document that nobody has verified yet.

    Attributes:
        payload: The document's bytes.
        payloadType: Its media type. The name is DSSE's.
        signatures: Exactly one.
    """

    payload: bytes
    payloadType: str  # noqa: N815 (the key's name on the wire)
    signatures: tuple[Signature, ...]

    def __post_init__(self) -> None:
        """Refuses several signatures, and documents beyond the limit."""
        if len(self.signatures) != 1:
            raise EncodingError(f"signatures: expected exactly one, got {len(self.signatures)}")
        if len(self.payload) > MAX_PAYLOAD_BYTES:
            raise EncodingError(
                f"payload: expected at most {MAX_PAYLOAD_BYTES} bytes, got {len(self.payload)}"
            )

    def to_json(self) -> Json:
        """Returns the envelope as DSSE's JSON object."""
        return codec.to_json(self)


def from_json(value: Json, *, what: str, error: type[InputError]) -> Envelope:
    """Reads an envelope from its JSON object, accepting exactly what `Envelope.to_json` makes.

    Raises:
        InputError: Of class `error`, if it is something else.
    """
    return codec.from_json(Envelope, value, what=what, error=error)


def sign(payload: bytes, *, payload_type: str, key: PrivateKey, named: str | None = None) -> Envelope:
    """Signs a document with an ECDSA P-256 (SHA-256, low s) or Ed25519 key.

    Args:
        payload: The document.
        payload_type: Its media type.
        key: The key.
        named: Its id, for who signs often; None computes it.

    Raises:
        EncodingError: If the payload is too large.
    """
    header = _header(payload_type, payload)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        signature = key.sign(header + payload)
    else:
        signature = key.sign(_hashed(header, payload), _OF_HASH)
        r, s = decode_dss_signature(signature)
        if s > _P256_ORDER // 2:  # of two valid ones always the smaller
            signature = encode_dss_signature(r, _P256_ORDER - s)
    return Envelope(payload, payload_type, (Signature(named or key_id(key.public_key()), signature),))


def verify(envelope: Envelope, *, payload_type: str, key: PublicKey, what: str) -> bytes:
    """Verifies an envelope and returns the payload.

    Args:
        envelope: The envelope.
        payload_type: The media type expected.
        key: The key that must have signed.
        what: Name of the document, for messages.

    Raises:
        SignatureError: If it has another type, names another key, or the signature is not of this payload
            under this key, in its one canonical form.
    """
    if envelope.payloadType != payload_type:
        raise SignatureError(
            f"{what}: expected payloadType {payload_type!r}, got {envelope.payloadType[:80]!r}"
        )
    (signature,) = envelope.signatures
    if signature.keyid != key_id(key):
        raise SignatureError(
            f"{what}: expected a signature of key {key_id(key)}, got one of {signature.keyid}"
        )
    header = _header(envelope.payloadType, envelope.payload)
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature.sig, header + envelope.payload)
        else:
            _require_low_s(signature.sig, what)
            key.verify(signature.sig, _hashed(header, envelope.payload), _OF_HASH)
    except (InvalidSignature, ValueError) as error:
        raise SignatureError(f"{what}: the signature does not verify under key {key_id(key)}") from error
    return envelope.payload


def key_id(key: PublicKey) -> str:
    """Returns a key's id: SHA-256 of its SubjectPublicKeyInfo (DER), in hex."""
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return sha256_digest(spki).value.hex()


def session_public_key(spki: bytes) -> ec.EllipticCurvePublicKey:
    """Loads a session's public key, ECDSA P-256, from its canonical SubjectPublicKeyInfo.

    Raises:
        SignatureError: If the bytes are anything else, or spelled differently.
    """
    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SignatureError(f"session key: not a public key: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SignatureError("session key: expected an ECDSA key on P-256")
    if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != spki:
        raise SignatureError("session key: not in canonical DER")
    return key


def _require_low_s(signature: bytes, what: str) -> None:
    r, s = decode_dss_signature(signature)
    if s > _P256_ORDER // 2 or encode_dss_signature(r, s) != signature:
        raise SignatureError(
            f"{what}: the signature is not in canonical form (DER, s at most half the order)"
        )


def _header(payload_type: str, payload: bytes) -> bytes:
    """Returns what stands before the payload in the pre-authentication encoding."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %s %d " % (len(kind), kind, len(payload))


def _hashed(header: bytes, payload: bytes) -> bytes:
    """Returns SHA-256 of the pre-authentication encoding, of which no copy is made."""
    hashed = hashlib.sha256(header)
    hashed.update(payload)
    return hashed.digest()
