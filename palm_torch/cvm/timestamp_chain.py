"""Certificates of time-stamping authorities: from a root that the verifier names to the key that signs times.

The chain is judged at the time that the token asserts, so a token stays valid after its authority's
certificate has expired. Revocation is not checked: a token carries no statement about it, and a verifier
without network cannot ask.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from palm_torch.cvm import certificate_bytes, certificates
from palm_torch.errors import EncodingError, SignatureError, TrustAnchorError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

MAX_CERTIFICATES: Final = 6
"""Longest chain, root included."""

MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192

_WANTED: Final = (
    "expected the root certificate that the authority's chain ends with, not the one that signs its times: "
    "the authority publishes it, and its subject is its own issuer"
)
_TIME_STAMPING: Final = ExtendedKeyUsageOID.TIME_STAMPING
_KNOWN_CRITICAL: Final = certificates.KNOWN_CRITICAL | {x509.ExtendedKeyUsage.oid}


def load_root(root: x509.Certificate | bytes, *, what: str = "time-stamp root") -> x509.Certificate:
    """Returns the root certificate that the verifier names, from PEM bytes or as it is.

    Raises:
        EncodingError: If the bytes are not one certificate in PEM.
        TrustAnchorError: If it is no CA's: most likely that of whoever signs the times.
    """
    certificate = root if isinstance(root, x509.Certificate) else _load_pem(root, what)
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except certificate_bytes.FOREIGN_ERRORS as error:
        raise TrustAnchorError(f"{what}: {name_of(certificate)!r}: {error}; {_WANTED}") from error
    if not constraints.ca:
        raise TrustAnchorError(f"{what}: {name_of(certificate)!r} is no CA certificate; {_WANTED}")
    return certificate


def _load_pem(pem: bytes, what: str) -> x509.Certificate:
    try:
        found = x509.load_pem_x509_certificates(pem)
    except certificate_bytes.FOREIGN_ERRORS as error:
        raise EncodingError(f"{what}: expected one certificate in PEM: {error}") from error
    if len(found) != 1:
        raise EncodingError(f"{what}: expected one certificate in PEM, got {len(found)}")
    return found[0]


def load_chain(
    encoded: Sequence[bytes], root: x509.Certificate, *, what: str
) -> tuple[x509.Certificate, ...]:
    """Loads the certificates of a token: leaf first, each followed by its issuer; the root may be left out.

    Returns:
        The chain, leaf first, `root` last.

    Raises:
        EncodingError: If a certificate does not parse.
        TrustAnchorError: If there are too many or too few.
    """
    below = encoded[:-1] if encoded and encoded[-1] == root.public_bytes(Encoding.DER) else encoded
    if not 1 <= len(below) < MAX_CERTIFICATES:
        raise TrustAnchorError(
            f"{what}: expected 1 to {MAX_CERTIFICATES - 1} certificates below the root, got {len(below)}"
        )
    loaded = [
        certificate_bytes.load_certificate(
            certificate, what=f"{what}, certificate {position}", algorithms=certificate_bytes.TIME_STAMPING
        )
        for position, certificate in enumerate(below)
    ]
    return (*loaded, root)


def verify_chain(chain: Sequence[x509.Certificate], *, at: datetime, what: str) -> None:
    """Walks a chain of `load_chain` from its root, which the verifier named, down to its leaf.

    1. Every certificate names the next one as issuer and was signed by its key, and none could be left out.
    2. Every issuer is a CA with keyCertSign and room in its path length, and may vouch for time-stamping.
    3. Every certificate is valid at the time in question, with a key of a known kind and size, and has no
       critical extension unknown to this library.
    4. The leaf is no CA, and its one purpose, marked critical, is time-stamping (RFC 3161 section 2.3).

    Raises:
        TrustAnchorError: If a certificate may not do what it did, or not at that time.
        SignatureError: If a certificate was not signed by the next one.

    Source: RFC 5280 section 6.1, without policies, name constraints and revocation.
    """
    for position in range(len(chain) - 1, -1, -1):
        name = f"{what}, {'root' if position == len(chain) - 1 else f'certificate {position}'}"
        if position < len(chain) - 1 and not is_issued_by(chain[position], chain[position + 1]):  # 1
            raise SignatureError(f"{name}: not signed by the next certificate of its chain")
        if position < len(chain) - 2 and is_issued_by(chain[position], chain[-1]):  # 1
            raise TrustAnchorError(
                f"{name}: issued by the root itself; the certificate after it is not needed"
            )
        key_of(chain[position], what=name)  # 3
        if position:
            certificates.check_certificate(
                chain[position],
                at,
                is_ca=True,
                below=position - 1,
                what=name,
                known_critical=_KNOWN_CRITICAL,
            )  # 2, 3
        _check_purpose(chain[position], at, is_leaf=position == 0, what=name)  # 2, 4


def order(
    leaf: x509.Certificate, others: Iterable[x509.Certificate], root: x509.Certificate
) -> tuple[x509.Certificate, ...]:
    """Returns the certificates that lead from a leaf to just below a root, leaf first.

    Raises:
        TrustAnchorError: If they do not lead there.
    """
    path = [leaf]
    left = list(others)
    while not is_issued_by(path[-1], root):
        step = next((candidate for candidate in left if is_issued_by(path[-1], candidate)), None)
        if step is None or len(path) >= MAX_CERTIFICATES:
            raise TrustAnchorError(
                f"time-stamp token: no certificate in it leads from {name_of(path[-1])!r} to the root given, "
                f"{name_of(root)!r}"
            )
        left.remove(step)
        path.append(step)
    return tuple(path)


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Returns whether a certificate names another as its issuer and was signed by its key."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *certificate_bytes.FOREIGN_ERRORS):
        return False
    return True


def name_of(certificate: x509.Certificate) -> str:
    """Returns a certificate's subject as text (RFC 4514).

    Raises:
        EncodingError: If it cannot be read.
    """
    return _name(certificate, "subject").rfc4514_string()


def subject_of(certificate: x509.Certificate) -> bytes:
    """Returns a certificate's subject, DER.

    Raises:
        EncodingError: If it cannot be read.
    """
    return _name(certificate, "subject").public_bytes()


def issuer_of(certificate: x509.Certificate) -> bytes:
    """Returns the name of a certificate's issuer, DER.

    Raises:
        EncodingError: If it cannot be read.
    """
    return _name(certificate, "issuer").public_bytes()


def key_of(certificate: x509.Certificate, *, what: str) -> CertificatePublicKeyTypes:
    """Returns a certificate's public key.

    Raises:
        TrustAnchorError: If it is of a kind or size that is not accepted.
    """
    try:
        key = certificate.public_key()
    except certificate_bytes.FOREIGN_ERRORS as error:
        raise TrustAnchorError(f"{what}: its key cannot be read: {error}") from error
    known = (
        (isinstance(key, rsa.RSAPublicKey) and MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS)
        or (
            isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, (ec.SECP256R1, ec.SECP384R1))
        )
        or isinstance(key, ed25519.Ed25519PublicKey)
    )
    if not known:
        raise TrustAnchorError(
            f"{what}: expected an RSA key of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, ECDSA on P-256 or P-384 "
            f"or Ed25519, got {type(key).__name__} of {getattr(key, 'key_size', '?')} bits"
        )
    return key


def _name(certificate: x509.Certificate, which: Literal["subject", "issuer"]) -> x509.Name:
    try:
        return certificate.subject if which == "subject" else certificate.issuer
    except certificate_bytes.FOREIGN_ERRORS as error:
        raise EncodingError(f"time-stamp token: a certificate's {which} cannot be read: {error}") from error


def _check_purpose(certificate: x509.Certificate, at: datetime, *, is_leaf: bool, what: str) -> None:
    """Checks what a certificate is for, and everything that `check_certificate` does not ask of a leaf."""
    try:
        found = {extension.oid: extension for extension in certificate.extensions}
        starts, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except certificate_bytes.FOREIGN_ERRORS as error:
        raise TrustAnchorError(f"{what}: {error}") from error
    purpose = found.get(x509.ExtendedKeyUsage.oid)
    purposes = list(purpose.value) if purpose and isinstance(purpose.value, x509.ExtendedKeyUsage) else None
    if not is_leaf:
        if purposes is not None and _TIME_STAMPING not in purposes:
            raise TrustAnchorError(f"{what}: its extended key usage does not allow time-stamping")
        return
    if not starts <= at <= ends:
        raise TrustAnchorError(f"{what}: expected {starts} ≤ time of the token ≤ {ends}, got {at}")
    if purpose is None or not purpose.critical or purposes != [_TIME_STAMPING]:
        raise TrustAnchorError(f"{what}: expected the critical extended key usage timeStamping and no other")
    unknown = [
        oid.dotted_string for oid, item in found.items() if item.critical and oid not in _KNOWN_CRITICAL
    ]
    if unknown:
        raise TrustAnchorError(f"{what}: critical extension {unknown[0]} is not understood")
    constraints = found.get(x509.BasicConstraints.oid)
    if constraints and isinstance(constraints.value, x509.BasicConstraints) and constraints.value.ca:
        raise TrustAnchorError(f"{what}: expected no CA certificate")
    usage = found.get(x509.KeyUsage.oid)
    if usage and isinstance(usage.value, x509.KeyUsage):
        allowed = usage.value.digital_signature or usage.value.content_commitment
        if not allowed or usage.value.key_cert_sign:
            raise TrustAnchorError(f"{what}: key usage does not allow signing times, or allows more")
