"""Certificate revocation lists: signed, current, complete, and silent about our certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509

from palm_torch.cvm import certificate_bytes, certificates, hierarchies
from palm_torch.errors import SignatureError

if TYPE_CHECKING:
    from datetime import datetime


def verify_crl(
    data: bytes,
    *,
    issuer: x509.Certificate,
    now: datetime,
    what: str,
    hierarchy: hierarchies.Hierarchy = hierarchies.INTEL,
) -> x509.CertificateRevocationList:
    """Returns a revocation list that its issuer signed and that is current.

    Args:
        data: The list, DER.
        issuer: A certificate of a chain already verified.
        now: Time of verification, aware: lastUpdate ≤ now < nextUpdate.
        what: Name of the list, for messages.
        hierarchy: How the issuer's vendor signs.

    Raises:
        EncodingError: If the list does not parse.
        SignatureError: If another key signed it, or it is not current, or it covers only a part.
    """
    crl = certificate_bytes.load_crl(data, what=what, algorithms=hierarchy.algorithms)
    check_crl(crl, issuer=issuer, now=now, what=what, hierarchy=hierarchy)
    return crl


def check_crl(
    crl: x509.CertificateRevocationList,
    *,
    issuer: x509.Certificate,
    now: datetime,
    what: str,
    hierarchy: hierarchies.Hierarchy = hierarchies.INTEL,
) -> None:
    """Checks that a revocation list was signed by its issuer and is current.

    Args:
        crl: The list, from `certificate_bytes.load_crl`.
        issuer: A certificate of a chain already verified.
        now: Time of verification, aware: lastUpdate ≤ now < nextUpdate.
        what: Name of the list, for messages.
        hierarchy: How the issuer's vendor signs.

    Raises:
        SignatureError: If another key signed it, or it is not current, or it covers only a part.
    """
    certificates.check_time(now)
    key = hierarchies.public_key(issuer, hierarchy.authority_key, what=what)
    try:
        signed = crl.is_signature_valid(key)
        may_sign = issuer.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
        subject = issuer.subject.rfc4514_string()
        named = crl.issuer == issuer.subject
    except certificate_bytes.FOREIGN_ERRORS as error:
        raise SignatureError(f"{what}: cannot be checked: {error}") from error
    if not (signed and may_sign and named):
        raise SignatureError(f"{what}: not signed by {subject!r}")
    try:
        critical = [extension.oid.dotted_string for extension in crl.extensions if extension.critical]
        starts, ends = crl.last_update_utc, crl.next_update_utc
    except certificate_bytes.FOREIGN_ERRORS as error:
        raise SignatureError(f"{what}: cannot be read: {error}") from error
    if critical:  # a partial or delta list says nothing about the certificates it leaves out
        raise SignatureError(f"{what}: critical extension {critical[0]} is not understood")
    if ends is None or not starts <= now < ends:
        raise SignatureError(f"{what}: expected {starts} ≤ time < {ends}, got {now}")


def check_not_revoked(
    certificate: x509.Certificate, crl: x509.CertificateRevocationList, *, what: str
) -> None:
    """Checks that a verified revocation list does not name a certificate.

    Raises:
        SignatureError: If it does, for whatever reason, a hold included.
    """
    if crl.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None:
        raise SignatureError(f"{what}: serial number {certificate.serial_number:x} has been revoked")
