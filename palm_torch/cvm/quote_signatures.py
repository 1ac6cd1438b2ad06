"""The three signatures of a TDX quote, and the one form in which Intel writes signatures."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from palm_torch.cvm import certificates, quote
from palm_torch.errors import SignatureError

if TYPE_CHECKING:
    from cryptography import x509

_COORDINATE_BYTES: Final = 32


def check(parsed: quote.Quote, pck_certificate: x509.Certificate) -> None:
    """Steps 7 to 9: all that a quote can show without collateral, which is not enough to believe it.

    Raises:
        SignatureError: If a signature or the binding of the attestation key is wrong.
        TrustAnchorError: If the PCK certificate's key is of another kind.
    """
    pck_key = certificates.p256_key(pck_certificate, what="PCK certificate")
    verify_raw(pck_key, parsed.qe_report_signature, parsed.qe_report, "quote: QE report")
    bound = hashlib.sha256(parsed.attestation_key + parsed.qe_authentication_data).digest()
    expected = bound.ljust(quote.REPORT_DATA_BYTES, b"\x00")
    if not hmac.compare_digest(parsed.qe_report_data, expected):
        raise SignatureError(
            f"quote: QE report does not vouch for the attestation key: expected report data "
            f"{expected.hex()}, got {parsed.qe_report_data.hex()}"
        )
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + parsed.attestation_key)
    except ValueError as error:
        raise SignatureError(f"quote: attestation key is not a point of P-256: {error}") from error
    verify_raw(key, parsed.signature, parsed.signed, "quote: header and body")


def verify_raw(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes, what: str) -> None:
    """Verifies ECDSA P-256 with SHA-256.

    Args:
        key: The public key.
        signature: r ‖ s, 64 bytes.
        data: What was signed.
        what: Name of what was signed, for messages.

    Raises:
        SignatureError: If the signature does not verify.
    """
    r, s = (
        int.from_bytes(half, "big") for half in (signature[:_COORDINATE_BYTES], signature[_COORDINATE_BYTES:])
    )
    try:
        key.verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as error:
        raise SignatureError(f"{what}: signature does not verify") from error
