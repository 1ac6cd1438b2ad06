"""Certificates and revocation lists as bytes: PEM, DER and X.509 frames that have one spelling each.

A flipped bit that changes no meaning (a line break, a padding bit, the unused-bits octet of a signature)
would leave evidence valid but no longer the same bytes; here it is an error.
"""

from __future__ import annotations

import base64
import binascii
import warnings
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import utils
from cryptography.utils import CryptographyDeprecationWarning

from palm_torch.cvm import der
from palm_torch.errors import EncodingError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric import ec, rsa

ECDSA_SHA256: Final = bytes.fromhex("300a06082a8648ce3d040302")
"""AlgorithmIdentifier of ecdsa-with-SHA256 (RFC 5758 section 3.2), without parameters."""

ECDSA_SHA384: Final = bytes.fromhex("300a06082a8648ce3d040303")
"""AlgorithmIdentifier of ecdsa-with-SHA384, likewise."""

ECDSA: Final = {
    ECDSA_SHA256: "ecdsa-with-SHA256",
    ECDSA_SHA384: "ecdsa-with-SHA384",
    bytes.fromhex("300a06082a8648ce3d040304"): "ecdsa-with-SHA512",
}
RSA: Final = {
    bytes.fromhex("300d06092a864886f70d01010b0500"): "sha256WithRSAEncryption",
    bytes.fromhex("300d06092a864886f70d01010c0500"): "sha384WithRSAEncryption",
    bytes.fromhex("300d06092a864886f70d01010d0500"): "sha512WithRSAEncryption",
}
ED25519: Final = {bytes.fromhex("300506032b6570"): "Ed25519"}
_PSS: Final = bytes.fromhex("06092a864886f70d01010a")
_SHA384_MGF1_SALT_48: Final = bytes.fromhex(
    "a00f300d06096086480165030402020500a11c301a06092a864886f70d010108300d06096086480165030402020500a203020130"
)
_TRAILER_FIELD_1: Final = bytes.fromhex("a303020101")
RSA_PSS_SHA384: Final = {
    der.write(der.SEQUENCE, _PSS, der.write(der.SEQUENCE, _SHA384_MGF1_SALT_48, trailer)): "RSASSA-PSS-SHA384"
    for trailer in (b"", _TRAILER_FIELD_1)
}
"""RSASSA-PSS (RFC 4055) with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes; AMD writes the trailer field
out, though it has the default value, in some certificates and leaves it out in others."""

INTEL: Final = {ECDSA_SHA256: ECDSA[ECDSA_SHA256]}
"""What Intel signs with: AlgorithmIdentifier → name."""

AMD: Final = RSA_PSS_SHA384
"""What AMD signs with."""

NVIDIA: Final = {ECDSA_SHA384: ECDSA[ECDSA_SHA384]}
"""What NVIDIA signs with, devices and reference measurements alike."""

HARDWARE_VENDORS: Final = INTEL | AMD | NVIDIA
"""What hardware vendors sign with."""

TIME_STAMPING: Final = ECDSA | RSA | ED25519
"""What the certificates of time-stamping authorities may be signed with."""

FOREIGN_ERRORS: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.UnsupportedGeneralNameType,
    Warning,
)
"""What `cryptography` raises on what it cannot read; its warnings too, where they are made errors."""

_PEM_BEGIN: Final = b"-----BEGIN CERTIFICATE-----\n"
_PEM_END: Final = b"-----END CERTIFICATE-----\n"
_PEM_LINE_CHARACTERS: Final = 64
_VERSION_3: Final = bytes.fromhex("a003020102")
_CRL_VERSION_2: Final = bytes.fromhex("020101")
_SIGNED_PARTS: Final = 3


def encode_pem(certificates: Sequence[bytes]) -> bytes:
    """Returns DER certificates as PEM, 64 characters a line, a line feed after the last."""
    blocks: list[bytes] = []
    for certificate in certificates:
        text = base64.b64encode(certificate)
        lines = (text[i : i + _PEM_LINE_CHARACTERS] for i in range(0, len(text), _PEM_LINE_CHARACTERS))
        blocks.append(_PEM_BEGIN + b"".join(line + b"\n" for line in lines) + _PEM_END)
    return b"".join(blocks)


def decode_pem(data: bytes, *, what: str, count: int) -> tuple[bytes, ...]:
    """Decodes a PEM chain and accepts only the spelling `encode_pem` makes.

    Args:
        data: The PEM bytes.
        what: Name of the chain, for messages.
        count: Exact number of certificates expected.

    Returns:
        The DER bytes of each certificate, in order.

    Raises:
        EncodingError: If the bytes are not `count` certificates in canonical PEM.
    """
    blocks = data.split(_PEM_END)
    if len(blocks) != count + 1:
        raise EncodingError(f"{what}: expected {count} PEM certificates, got {len(blocks) - 1}")
    try:
        chain = tuple(
            base64.b64decode(block.removeprefix(_PEM_BEGIN).replace(b"\n", b""), validate=True)
            for block in blocks[:-1]
        )
    except (binascii.Error, ValueError) as error:
        raise EncodingError(f"{what}: PEM holds invalid base64: {error}") from error
    if encode_pem(chain) != data:
        raise EncodingError(f"{what}: PEM is not in canonical form (64 characters a line, nothing around it)")
    return chain


def is_for(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bool:
    """Returns whether a certificate is for the public half of a key; not if its own key cannot be read."""
    try:
        return certificate.public_key() == key.public_key()
    except FOREIGN_ERRORS:
        return False


def load_certificate(
    data: bytes, *, what: str, algorithms: Mapping[bytes, str] = INTEL, zero_serial: bool = False
) -> x509.Certificate:
    """Loads one DER certificate whose frame has its only spelling; what it frames is signed.

    Args:
        data: The certificate, DER.
        what: Name of the certificate, for messages.
        algorithms: What it may be signed with: AlgorithmIdentifier, DER → name.
        zero_serial: Whether its serial number may be zero, as those of AMD's leaves are.

    Raises:
        EncodingError: If it does not parse, is not version 3, is not signed with one of `algorithms`, has a
            serial number that is not positive (or zero, where it may be), or pads its signature.
    """
    algorithm, fields = _frame(data, what, algorithms)
    if len(fields) < 3 or fields[0].encoded != _VERSION_3:  # noqa: PLR2004 (version, serial, algorithm)
        raise EncodingError(f"{what}: expected an X.509 version 3 certificate")
    serial = der.expect(fields[1], der.INTEGER, what=f"{what}: serial number")
    may_be_zero = zero_serial and serial == b"\x00"
    if not may_be_zero and (not serial or serial[0] & 0x80 or not any(serial)):
        raise EncodingError(f"{what}: expected a positive serial number, got {serial.hex()!r}")
    if fields[2].encoded != algorithm:
        raise EncodingError(f"{what}: inner signature algorithm is not {algorithms[algorithm]}")
    try:
        with warnings.catch_warnings():
            if may_be_zero:  # it announces that it will refuse them one day
                warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            return x509.load_der_x509_certificate(data)
    except FOREIGN_ERRORS as error:
        raise EncodingError(f"{what}: not a certificate: {error}") from error


def load_crl(
    data: bytes, *, what: str, algorithms: Mapping[bytes, str] = INTEL
) -> x509.CertificateRevocationList:
    """Loads one DER revocation list whose frame has its only spelling; what it frames is signed.

    Args:
        data: The list, DER.
        what: Name of the list, for messages.
        algorithms: What it may be signed with: AlgorithmIdentifier, DER → name.

    Raises:
        EncodingError: If it does not parse, is not version 2 or not signed with one of `algorithms`.
    """
    algorithm, fields = _frame(data, what, algorithms)
    if len(fields) < 2 or fields[0].encoded != _CRL_VERSION_2:  # noqa: PLR2004 (version, algorithm)
        raise EncodingError(f"{what}: expected a version 2 revocation list")
    if fields[1].encoded != algorithm:
        raise EncodingError(f"{what}: inner signature algorithm is not {algorithms[algorithm]}")
    try:
        return x509.load_der_x509_crl(data)
    except FOREIGN_ERRORS as error:
        raise EncodingError(f"{what}: not a revocation list: {error}") from error


def _frame(data: bytes, what: str, algorithms: Mapping[bytes, str]) -> tuple[bytes, tuple[der.Element, ...]]:
    """Checks the frame {signed part, algorithm, signature}; returns algorithm and signed fields."""
    parts = der.children(der.read(data, what=what), what=what)
    if len(parts) != _SIGNED_PARTS:
        raise EncodingError(f"{what}: expected {_SIGNED_PARTS} DER parts, got {len(parts)}")
    signed, algorithm, signature = parts
    if algorithm.encoded not in algorithms:
        names = " or ".join(dict.fromkeys(algorithms.values()))
        raise EncodingError(f"{what}: expected a signature by {names}")
    bits = der.expect(signature, der.BIT_STRING, what=f"{what}: signature")
    canonical = _ecdsa_spelling(bits[1:], what) if algorithm.encoded in ECDSA else bits[1:]
    if bits != b"\x00" + canonical:
        raise EncodingError(f"{what}: signature is not in canonical DER")
    return algorithm.encoded, der.children(signed, what=what)


def _ecdsa_spelling(signature: bytes, what: str) -> bytes:
    try:
        return utils.encode_dss_signature(*utils.decode_dss_signature(signature))
    except ValueError as error:
        raise EncodingError(f"{what}: signature is not an ECDSA signature: {error}") from error
