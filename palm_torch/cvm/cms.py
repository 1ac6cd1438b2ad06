"""Signed data (RFC 5652) as far as time-stamp tokens use it: one signer, signed attributes, certificates.

What the signature does not cover has one spelling here: `decode` accepts exactly what `encode` makes.
Authorities write some of it in other ways (more certificates than needed, an algorithm under another of
its names); `parse` reads those, so that a token can be brought to the one spelling before it is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from palm_torch.cvm import certificate_bytes, der
from palm_torch.errors import EncodingError, SignatureError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

SIGNED_DATA: Final = der.write_oid("1.2.840.113549.1.7.2")
CONTENT_TYPE: Final = der.write_oid("1.2.840.113549.1.9.3")
MESSAGE_DIGEST: Final = der.write_oid("1.2.840.113549.1.9.4")
SIGNING_TIME: Final = der.write_oid("1.2.840.113549.1.9.5")
ALGORITHM_PROTECTION: Final = der.write_oid("1.2.840.113549.1.9.52")

SHA256: Final = der.write_oid("2.16.840.1.101.3.4.2.1")
HASHES: Final[Mapping[bytes, hashes.HashAlgorithm]] = {
    SHA256: hashes.SHA256(),
    der.write_oid("2.16.840.1.101.3.4.2.2"): hashes.SHA384(),
    der.write_oid("2.16.840.1.101.3.4.2.3"): hashes.SHA512(),
}
"""Object identifier, DER → hash function (RFC 5754 section 2)."""

RSA_ENCRYPTION: Final = bytes.fromhex("300d06092a864886f70d0101010500")
"""AlgorithmIdentifier under which RSASSA-PKCS1-v1_5 signs, whatever the hash (RFC 3370 section 3.2)."""

_NULL: Final = der.write(der.NULL)
_VERSION_1: Final = der.write_integer(1)
_VERSION_3: Final = der.write_integer(3)
_EXPLICIT_0: Final = der.CONTEXT | der.CONSTRUCTED
_EXPLICIT_1: Final = _EXPLICIT_0 | 1
_SIGNER_PARTS: Final = 6
_HASH_OF_SIGNATURE: Final = {
    identifier: function
    for spellings in (certificate_bytes.ECDSA, certificate_bytes.RSA)
    for identifier, function in zip(spellings, HASHES.values(), strict=True)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedData:
    """Content with one signature over it, and over attributes that name it.

    Attributes:
        content_type: Object identifier of the content, DER.
        content: The content octets.
        certificates: Certificates, DER, in the order carried.
        issuer: Name of the signing certificate's issuer, DER.
        serial: Its serial number, DER.
        digest_algorithm: AlgorithmIdentifier of the hash function, DER.
        attributes: Signed attributes: object identifier, DER → the one value, DER.
        signed: What the signature is over: the attributes as a DER set.
        signature_algorithm: AlgorithmIdentifier of the signature, DER.
        signature: The signature octets.
    """

    content_type: bytes
    content: bytes
    certificates: tuple[bytes, ...]
    issuer: bytes
    serial: bytes
    digest_algorithm: bytes
    attributes: dict[bytes, bytes]
    signed: bytes
    signature_algorithm: bytes
    signature: bytes

    @property
    def hash(self) -> hashes.HashAlgorithm:
        """The hash function of content and attributes."""
        return hash_of(self.digest_algorithm, what="digest algorithm")


def decode(data: bytes, *, what: str) -> SignedData:
    """Decodes signed data, accepting exactly what `encode` makes.

    Raises:
        EncodingError: If it does not parse or is spelled in another way.
    """
    parsed = parse(data, what=what)
    if encode(parsed) != data:
        raise EncodingError(
            f"{what}: not in the one form kept: no revocation lists, no unsigned attributes, algorithms "
            "under their first name"
        )
    return parsed


def parse(data: bytes, *, what: str) -> SignedData:
    """Reads signed data, leaving out revocation lists and unsigned attributes.

    Raises:
        EncodingError: If it is not version 3 signed data in DER with one signer, named by issuer and serial
            number, whose signed attributes are in order and have one value each.
    """
    content_type, wrapped = der.row(der.read(data, what=what), 2, what=what)
    if content_type.encoded != SIGNED_DATA:
        raise EncodingError(f"{what}: expected CMS signed data")
    (inner,) = der.row(wrapped, 1, what=what, tag=_EXPLICIT_0)
    der.expect(inner, der.SEQUENCE, what=what)
    parts = der.children(inner, what=what)
    if len(parts) < 4 or parts[0].encoded != _VERSION_3:  # noqa: PLR2004 (version, hashes, content, signers)
        raise EncodingError(f"{what}: expected version 3 signed data")
    (digest_algorithm,) = der.row(parts[1], 1, what=what, tag=der.SET)
    kind, holder = der.row(parts[2], 2, what=what)
    (content,) = der.row(holder, 1, what=what, tag=_EXPLICIT_0)
    certificates = [part for part in parts[3:-1] if part.tag == _EXPLICIT_0]
    others = [part for part in parts[3:-1] if part.tag not in (_EXPLICIT_0, _EXPLICIT_1)]
    if len(certificates) != 1 or others:
        raise EncodingError(f"{what}: expected one set of certificates")
    (signer,) = der.row(parts[-1], 1, what=what, tag=der.SET)
    der.expect(signer, der.SEQUENCE, what=what)
    return _with_signer(
        der.children(signer, what=what),
        digest_algorithm.encoded,
        kind.encoded,
        der.expect(content, der.OCTET_STRING, what=f"{what}: content"),
        tuple(item.encoded for item in der.children(certificates[0], what=what)),
        what,
    )


def encode(data: SignedData) -> bytes:
    """Returns the one spelling of signed data.

    Hash functions are written without parameters and RSA signatures as `RSA_ENCRYPTION`, unless the signed
    attribute that protects the algorithms spells them in another way.
    """
    digest_algorithm, signature_algorithm = _algorithms(data)
    signer = der.write(
        der.SEQUENCE,
        _VERSION_1,
        der.write(der.SEQUENCE, data.issuer, data.serial),
        digest_algorithm,
        bytes((_EXPLICIT_0,)) + data.signed[1:],
        signature_algorithm,
        der.write(der.OCTET_STRING, data.signature),
    )
    inner = der.write(
        der.SEQUENCE,
        _VERSION_3,
        der.write(der.SET, digest_algorithm),
        der.write(
            der.SEQUENCE,
            data.content_type,
            der.write(_EXPLICIT_0, der.write(der.OCTET_STRING, data.content)),
        ),
        der.write(_EXPLICIT_0, *data.certificates),
        der.write(der.SET, signer),
    )
    return der.write(der.SEQUENCE, SIGNED_DATA, der.write(_EXPLICIT_0, inner))


def verify_signature(data: SignedData, key: CertificatePublicKeyTypes, *, what: str) -> None:
    """Checks that a key signed the attributes, and that they name the content.

    Raises:
        SignatureError: If the signature, the content or an algorithm is another one.
    """
    if data.attributes.get(CONTENT_TYPE) != data.content_type:
        raise SignatureError(f"{what}: the signed attributes name another type of content")
    if data.attributes.get(MESSAGE_DIGEST) != der.write(der.OCTET_STRING, digest_of(data.hash, data.content)):
        raise SignatureError(f"{what}: the content is not the one whose hash was signed")
    protection = data.attributes.get(ALGORITHM_PROTECTION)
    if protection is not None and protection != _protection(data.digest_algorithm, data.signature_algorithm):
        raise SignatureError(f"{what}: the signed attributes name other algorithms (RFC 6211)")
    algorithm = data.signature_algorithm
    named = _HASH_OF_SIGNATURE.get(algorithm, data.hash)
    try:
        if isinstance(key, rsa.RSAPublicKey) and _is_rsa(algorithm):
            key.verify(data.signature, data.signed, padding.PKCS1v15(), named)
        elif (
            isinstance(key, ec.EllipticCurvePublicKey) and data.signature_algorithm in certificate_bytes.ECDSA
        ):
            key.verify(data.signature, data.signed, ec.ECDSA(named))  # refuses all but DER
        elif (
            isinstance(key, ed25519.Ed25519PublicKey)
            and data.signature_algorithm in certificate_bytes.ED25519
        ):
            key.verify(data.signature, data.signed)
        else:
            raise SignatureError(
                f"{what}: signature algorithm {algorithm.hex()} is not one for the signer's "
                f"{type(key).__name__}"
            )
    except InvalidSignature as error:
        raise SignatureError(f"{what}: not signed by the key of its certificate") from error
    if named.name != data.hash.name:
        raise SignatureError(
            f"{what}: signed with {named.name}, but the content is hashed with {data.hash.name}"
        )


def digest_of(function: hashes.HashAlgorithm, data: bytes) -> bytes:
    """Returns the hash of data."""
    hasher = hashes.Hash(function)
    hasher.update(data)
    return hasher.finalize()


def hash_of(identifier: bytes, *, what: str) -> hashes.HashAlgorithm:
    """Returns the hash function that an AlgorithmIdentifier names, with NULL for parameters or without.

    Raises:
        EncodingError: If it is none of SHA-256, SHA-384 and SHA-512.
    """
    for oid, function in HASHES.items():
        if identifier in (der.write(der.SEQUENCE, oid), der.write(der.SEQUENCE, oid, _NULL)):
            return function
    raise EncodingError(f"{what}: expected SHA-256, SHA-384 or SHA-512, got {identifier[:40].hex()!r}")


def _with_signer(
    parts: Sequence[der.Element],
    digest_algorithm: bytes,
    content_type: bytes,
    content: bytes,
    certificates: tuple[bytes, ...],
    what: str,
) -> SignedData:
    """Reads the signer: version, certificate, hash, signed attributes, algorithm, signature."""
    unsigned = len(parts) == _SIGNER_PARTS + 1 and parts[-1].tag == _EXPLICIT_1
    if len(parts) != _SIGNER_PARTS + unsigned or parts[0].encoded != _VERSION_1:
        raise EncodingError(f"{what}: expected a version 1 signer with signed attributes")
    issuer, serial = der.row(parts[1], 2, what=what)
    for name, identifier in (("hash", digest_algorithm), ("signer's hash", parts[2].encoded)):
        hash_of(identifier, what=f"{what}: {name}")
    if hash_of(digest_algorithm, what=what).name != hash_of(parts[2].encoded, what=what).name:
        raise EncodingError(f"{what}: the signer's hash function is not the one announced")
    attributes = parts[3]
    der.expect(attributes, _EXPLICIT_0, what=f"{what}: signed attributes")
    return SignedData(
        content_type=content_type,
        content=content,
        certificates=certificates,
        issuer=issuer.encoded,
        serial=serial.encoded,
        digest_algorithm=parts[2].encoded,
        attributes=_attributes(attributes, what),
        signed=bytes((der.SET,)) + attributes.encoded[1:],
        signature_algorithm=parts[4].encoded,
        signature=der.expect(parts[5], der.OCTET_STRING, what=f"{what}: signature"),
    )


def _attributes(element: der.Element, what: str) -> dict[bytes, bytes]:
    items = der.children(element, what=what)
    if [item.encoded for item in items] != sorted({item.encoded for item in items}):
        raise EncodingError(f"{what}: the signed attributes are not in DER order")
    found: dict[bytes, bytes] = {}
    for item in items:
        name, values = der.row(item, 2, what=what)
        (value,) = der.row(values, 1, what=f"{what}: signed attribute", tag=der.SET)
        if name.encoded in found:
            raise EncodingError(f"{what}: signed attribute {name.content.hex()} occurs twice")
        found[name.encoded] = value.encoded
    return found


def _algorithms(data: SignedData) -> tuple[bytes, bytes]:
    """Returns the one spelling of both algorithms."""
    if ALGORITHM_PROTECTION in data.attributes:
        return data.digest_algorithm, data.signature_algorithm
    oid = next(oid for oid, function in HASHES.items() if function.name == data.hash.name)
    rsa_with_this_hash = (
        data.signature_algorithm in certificate_bytes.RSA
        and _HASH_OF_SIGNATURE[data.signature_algorithm].name == data.hash.name
    )
    return der.write(der.SEQUENCE, oid), RSA_ENCRYPTION if rsa_with_this_hash else data.signature_algorithm


def _protection(digest_algorithm: bytes, signature_algorithm: bytes) -> bytes:
    return der.write(der.SEQUENCE, digest_algorithm, bytes((_EXPLICIT_1,)) + signature_algorithm[1:])


def _is_rsa(identifier: bytes) -> bool:
    return identifier == RSA_ENCRYPTION or identifier in certificate_bytes.RSA
