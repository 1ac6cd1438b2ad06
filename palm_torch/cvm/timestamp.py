"""Time-stamp tokens (RFC 3161): somebody else's word that a digest existed at a time, checked offline.

A token is kept in one spelling: what its authority signed as it is, and around it only what is needed to
check that. It does not say when a run took place, only that the evidence existed by then. Whether a
certificate of the authority was revoked later is not checked.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from palm_torch.cvm import certificate_bytes, cms, der, timestamp_chain, timestamp_info
from palm_torch.digest import SHA256, Digest
from palm_torch.errors import BindingError, EncodingError, EvidenceError, SignatureError
from palm_torch.evidence import MAX_TIMESTAMP_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TST_INFO: Final = der.write_oid("1.2.840.113549.1.9.16.1.4")
SIGNING_CERTIFICATE: Final = der.write_oid("1.2.840.113549.1.9.16.2.12")
SIGNING_CERTIFICATE_V2: Final = der.write_oid("1.2.840.113549.1.9.16.2.47")

MAX_NONCE_BYTES: Final = 20
_WHAT: Final = "time-stamp token"
_VERSION_1: Final = der.write_integer(1)
_TRUE: Final = der.write(der.BOOLEAN, b"\xff")
_SHA256: Final = der.write(der.SEQUENCE, cms.SHA256)
_DIRECTORY_NAME: Final = der.CONTEXT | der.CONSTRUCTED | 4
_KNOWN_ATTRIBUTES: Final = frozenset(
    (
        cms.CONTENT_TYPE,
        cms.MESSAGE_DIGEST,
        cms.SIGNING_TIME,
        cms.ALGORITHM_PROTECTION,
        SIGNING_CERTIFICATE,
        SIGNING_CERTIFICATE_V2,
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedTime:
    """What a verified token says.

    Attributes:
        time: When the digest was shown to the authority, UTC.
        accuracy: How far off that may be; None if the authority does not say.
        authority: Subject of the certificate that signed it (RFC 4514).
        serial: The token's number with this authority.
    """

    time: datetime
    accuracy: timedelta | None
    authority: str
    serial: int


def verify_token(token: bytes, *, digest: Digest, root: x509.Certificate | bytes) -> VerifiedTime:
    """Checks that an authority under a root saw a digest, and returns when.

    1. The token is signed data in its one spelling, with exactly the certificates needed, leaf first, and
       no attribute unknown to this library.
    2. It speaks of the digest.
    3. The certificates lead to `root`, all valid at the time that the token asserts; the first has the one
       purpose of time-stamping.
    4. The signer is that first certificate: named by issuer and serial number, by hash in a signed
       attribute, and its key signed the token.

    Args:
        token: The token, DER.
        digest: What it should be over, SHA-256.
        root: The authority's root certificate, or its PEM; the verifier's own choice.

    Raises:
        EvidenceError: If the token or the root does not parse, or the digest is no SHA-256.
        BindingError: If it is a token over something else.
        TrustAnchorError: If the certificates do not lead to the root, or not at that time.
        SignatureError: If a signature, or the hash of the signer's certificate, is wrong.

    Source: RFC 3161 section 2.4.2, RFC 5652 section 5, RFC 5816.
    """
    try:
        _check_algorithm(digest)
        return _verify(cms.decode(_bounded(token), what=_WHAT), digest, timestamp_chain.load_root(root))  # 1
    except EncodingError as error:
        raise EvidenceError(str(error)) from error


def read_token(token: bytes, *, digest: Digest) -> timestamp_info.Info:
    """Reads what a token says of a digest, and believes nothing: nobody chose a root to check it with.

    Raises:
        EvidenceError: If it is not a token in its one spelling.
        BindingError: If it is a token over something else.
    """
    info = look_into(token)
    _check_imprint(info, digest)
    return info


def look_into(token: bytes) -> timestamp_info.Info:
    """Reads what a token says, of whatever digest, and believes nothing.

    Raises:
        EvidenceError: If it is not a token in its one spelling.
    """
    try:
        return timestamp_info.read(cms.decode(_bounded(token), what=_WHAT).content, what=_WHAT)
    except EncodingError as error:
        raise EvidenceError(str(error)) from error


def accuracy_in_words(accuracy: timedelta | None) -> str:
    """Returns how far off a time may be, as people read it."""
    return "accuracy unknown" if accuracy is None else f"accurate to {accuracy.total_seconds():.15g} s"


def normalised(token: bytes, *, root: x509.Certificate | bytes) -> bytes:
    """Brings an authority's token to the one spelling that `verify_token` accepts; nothing signed changes.

    Certificates that are not needed are left out and the others ordered, as are revocation lists and
    unsigned attributes; algorithms get their first name.

    Raises:
        EvidenceError: If the token or the root does not parse.
        TrustAnchorError: If its certificates do not lead to the root.
    """
    try:
        parsed = cms.parse(_bounded(token), what=_WHAT)
        anchor = timestamp_chain.load_root(root)
        loaded = [
            x509.load_der_x509_certificate(certificate)
            for certificate in parsed.certificates[: 2 * timestamp_chain.MAX_CERTIFICATES]
        ]
        leaf = next((item for item in loaded if _names(parsed, item)), None)
    except (EncodingError, *certificate_bytes.FOREIGN_ERRORS) as error:
        raise EvidenceError(f"{_WHAT}: {error}") from error
    if leaf is None:
        raise EvidenceError(f"{_WHAT}: the signer's certificate is not in it; was it asked for (certReq)?")
    path = timestamp_chain.order(leaf, [item for item in loaded if item != leaf], anchor)
    needed = tuple(certificate.public_bytes(Encoding.DER) for certificate in path)
    return cms.encode(dataclasses.replace(parsed, certificates=needed))


def make_query(digest: Digest, nonce: bytes) -> bytes:
    """Returns the request to send to an authority: a TimeStampReq that asks for its certificates.

    Args:
        digest: What the token shall be over, SHA-256.
        nonce: Random bytes that the authority repeats, 1 to 20.

    Raises:
        EncodingError: If the digest is not SHA-256 or the nonce has another length.
    """
    if digest.algorithm != SHA256 or not 1 <= len(nonce) <= MAX_NONCE_BYTES:
        raise EncodingError(f"time-stamp query: expected {SHA256} and 1 to {MAX_NONCE_BYTES} bytes of nonce")
    imprint = der.write(der.SEQUENCE, _SHA256, der.write(der.OCTET_STRING, digest.value))
    return der.write(
        der.SEQUENCE, _VERSION_1, imprint, der.write_integer(int.from_bytes(nonce, "big")), _TRUE
    )


def _check_algorithm(digest: Digest) -> None:
    if digest.algorithm != SHA256:
        raise EncodingError(f"{_WHAT}: expected a digest by {SHA256}, got one by {digest.algorithm}")


def _bounded(token: bytes) -> bytes:
    if len(token) > MAX_TIMESTAMP_BYTES:
        raise EncodingError(f"{_WHAT}: expected at most {MAX_TIMESTAMP_BYTES} bytes, got {len(token)}")
    return token


def _verify(data: cms.SignedData, digest: Digest, root: x509.Certificate) -> VerifiedTime:
    if data.content_type != TST_INFO or data.attributes.keys() - _KNOWN_ATTRIBUTES:
        raise EncodingError(f"{_WHAT}: content or a signed attribute is of an unknown type")
    info = timestamp_info.read(data.content, what=_WHAT)
    _check_imprint(info, digest)  # 2
    chain = timestamp_chain.load_chain(data.certificates, root, what=_WHAT)  # 3
    timestamp_chain.verify_chain(chain, at=info.time, what=_WHAT)
    if not _names(data, chain[0]):  # 4
        raise SignatureError(f"{_WHAT}: its first certificate is not the one the signer is named by")
    _check_signing_certificate(data.attributes, chain)
    cms.verify_signature(data, timestamp_chain.key_of(chain[0], what=_WHAT), what=_WHAT)
    if info.authority not in (None, timestamp_chain.subject_of(chain[0])):
        raise SignatureError(f"{_WHAT}: the authority it names is not the one that signed it")
    return VerifiedTime(
        time=info.time,
        accuracy=info.accuracy,
        authority=timestamp_chain.name_of(chain[0]),
        serial=info.serial,
    )


def _check_imprint(info: timestamp_info.Info, digest: Digest) -> None:
    if info.imprint != digest.value:
        raise BindingError(f"{_WHAT}: it is over sha256:{info.imprint.hex()}, expected {digest}")


def _names(data: cms.SignedData, certificate: x509.Certificate) -> bool:
    """Returns whether the signer is named by the issuer and serial number of a certificate."""
    return (data.issuer, data.serial) == _issuer_and_serial(certificate)


def _issuer_and_serial(certificate: x509.Certificate) -> tuple[bytes, bytes]:
    return timestamp_chain.issuer_of(certificate), der.write_integer(certificate.serial_number)


def _check_signing_certificate(attributes: Mapping[bytes, bytes], chain: Sequence[x509.Certificate]) -> None:
    """Checks the certificates listed in signed attributes: the signer's first, others of its chain after."""
    listed = [
        (attributes[name], version)
        for name, version in ((SIGNING_CERTIFICATE, 1), (SIGNING_CERTIFICATE_V2, 2))
        if name in attributes
    ]
    if not listed:
        raise SignatureError(f"{_WHAT}: no signed attribute names the signer's certificate by hash")
    what = f"{_WHAT}: signing certificate"
    for attribute, version in listed:
        (row,) = der.row(der.read(attribute, what=what), 1, what=what)
        certificates = der.children(row, what=what)
        if row.tag != der.SEQUENCE or not certificates:
            raise EncodingError(f"{what}: expected a list of certificates without policies")
        for position, item in enumerate(certificates):
            candidates = chain[:1] if position == 0 else chain[1:]
            if not any(_is_id_of(item, certificate, version, what) for certificate in candidates):
                raise SignatureError(f"{what}: entry {position} is the hash of another certificate")


def _is_id_of(item: der.Element, certificate: x509.Certificate, version: int, what: str) -> bool:
    """Returns whether an ESSCertID (RFC 2634) or ESSCertIDv2 (RFC 5035) is that of a certificate."""
    der.expect(item, der.SEQUENCE, what=what)
    parts = list(der.children(item, what=what))
    function: hashes.HashAlgorithm = hashes.SHA1() if version == 1 else hashes.SHA256()  # noqa: S303 (RFC 2634 knows no other; the signature itself is over SHA-2)
    if version == 2 and parts and parts[0].tag == der.SEQUENCE:  # noqa: PLR2004 (the version)
        function = cms.hash_of(parts.pop(0).encoded, what=what)
    issuer, serial = _issuer_and_serial(certificate)
    named = der.write(der.SEQUENCE, der.write(der.SEQUENCE, der.write(_DIRECTORY_NAME, issuer)), serial)
    fingerprint = der.write(der.OCTET_STRING, certificate.fingerprint(function))
    return [part.encoded for part in parts] in ([fingerprint], [fingerprint, named])
