"""The simulated maker's service for the status of certificates (OCSP): its answers, in the real format."""

from __future__ import annotations

from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

from palm_torch.cvm import certificate_bytes, der, ocsp_answer, simulated_rim

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from palm_torch.cvm.simulated_authority import Identity

AGE: Final = timedelta(hours=1)
LIFE: Final = timedelta(days=7)
_BEFORE: Final = timedelta(days=1)
_EXPLICIT: Final = der.CONTEXT | der.CONSTRUCTED


def make_responder(issuer: Identity, now: datetime) -> Identity:
    """Makes one who may answer for an issuer, valid from a day before `now`."""
    return simulated_rim.make_signer(
        "Simulated OCSP Responder", issuer, now - _BEFORE, uses=[ExtendedKeyUsageOID.OCSP_SIGNING]
    )


def make_answers(
    certificates: Sequence[x509.Certificate], issuers: Sequence[Identity], now: datetime
) -> tuple[bytes, ...]:
    """Returns answers that certificates are good, each by a delegate of its issuer.

    Args:
        certificates: The certificates.
        issuers: Who issued each of them.
        now: The current time, aware.
    """
    return tuple(
        make_answer(certificate, issuer, now, responder=make_responder(issuer, now))
        for certificate, issuer in zip(certificates, issuers, strict=True)
    )


def make_answer(  # noqa: PLR0913 (each of them is what some test bends)
    certificate: x509.Certificate,
    issuer: Identity,
    now: datetime,
    *,
    responder: Identity | None = None,
    status: ocsp.OCSPCertStatus = ocsp.OCSPCertStatus.GOOD,
    reason: x509.ReasonFlags | None = None,
    age: timedelta = AGE,
    life: timedelta | None = LIFE,
    algorithm: hashes.HashAlgorithm | None = None,
    nonce: bytes | None = None,
) -> bytes:
    """Returns an answer about a certificate, DER.

    Args:
        certificate: The certificate.
        issuer: Who issued it.
        now: The current time, aware.
        responder: Whom the issuer has told to answer; by default it answers itself.
        status: What the answer says.
        reason: Why the certificate was revoked.
        age: How long ago the answer was made.
        life: How long it holds from then on; None says nothing about that.
        algorithm: What names the issuer; SHA-384 by default.
        nonce: What was asked with; by default nothing.
    """
    made = now - age
    revoked = status is ocsp.OCSPCertStatus.REVOKED
    builder = ocsp.OCSPResponseBuilder().add_response(
        certificate,
        issuer.certificate,
        algorithm or hashes.SHA384(),
        status,
        this_update=made,
        next_update=None if life is None else made + life,
        revocation_time=made if revoked else None,
        revocation_reason=reason,
    )
    signer = responder or issuer
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, signer.certificate)
    if nonce is not None:
        builder = builder.add_extension(x509.OCSPNonce(nonce), critical=True)
    unsigned = builder.sign(signer.key, hashes.SHA384()).tbs_response_bytes
    return sign(_dated(unsigned, made), signer.key, delegate=None if responder is None else responder.der)


def sign(unsigned: bytes, key: ec.EllipticCurvePrivateKey, *, delegate: bytes | None = None) -> bytes:
    """Returns the answer, DER, that says what it is told to, signed by whom it is told.

    Args:
        unsigned: A ResponseData, DER.
        key: The signer's key.
        delegate: The certificate that goes with it, DER; by default none.
    """
    signature = key.sign(unsigned, ec.ECDSA(hashes.SHA384()))
    parts = [
        unsigned,
        certificate_bytes.ECDSA_SHA384,
        der.write(der.BIT_STRING, b"\x00", signature),
    ]
    if delegate is not None:
        parts.append(der.write(_EXPLICIT, der.write(der.SEQUENCE, delegate)))
    basic = der.write(der.OCTET_STRING, der.write(der.SEQUENCE, *parts))
    answer = der.write(_EXPLICIT, der.write(der.SEQUENCE, der.write_oid(ocsp_answer.BASIC), basic))
    return der.write(der.SEQUENCE, der.write_integer(0, tag=der.ENUMERATED), answer)


def _dated(unsigned: bytes, made: datetime) -> bytes:
    """Returns a ResponseData that was made at a time; `cryptography` writes the machine's."""
    time = der.write(der.GENERALIZED_TIME, made.astimezone(UTC).strftime("%Y%m%d%H%M%SZ").encode("ascii"))
    fields = der.children(der.read(unsigned, what="answer"), what="answer")
    return der.write(
        der.SEQUENCE, *(time if field.tag == der.GENERALIZED_TIME else field.encoded for field in fields)
    )
