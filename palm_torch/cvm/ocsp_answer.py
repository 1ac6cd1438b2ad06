"""An answer about the status of a certificate (OCSP) as bytes: a frame that has one spelling.

What is signed in it is not checked here; `palm_torch.cvm.ocsp` does that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import ocsp

from palm_torch.cvm import certificate_bytes, der, hierarchies
from palm_torch.errors import EncodingError, EvidenceError

if TYPE_CHECKING:
    from cryptography import x509

MAX_BYTES: Final = 16 << 10
BASIC: Final = "1.3.6.1.5.5.7.48.1.1"
"""The one kind of answer there is (id-pkix-ocsp-basic)."""

_EXPLICIT: Final = der.CONTEXT | der.CONSTRUCTED
_SUCCESSFUL: Final = 0
_SIGNED_PARTS: Final = 3
_HASHES: Final = (hashes.SHA1, hashes.SHA256, hashes.SHA384, hashes.SHA512)
"""What may name an issuer in an answer; the signature, not the name, says that the answer is its."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answer says about one certificate, unverified.

    Attributes:
        parsed: The answer.
        delegate: The certificate that came with it, DER; None if there is none.
        about: The one certificate it speaks of.
    """

    parsed: ocsp.OCSPResponse
    delegate: bytes | None
    about: ocsp.OCSPSingleResponse


def parse_answer(data: bytes, *, what: str, hierarchy: hierarchies.Hierarchy = hierarchies.NVIDIA) -> Answer:
    """Parses an answer whose frame has its only spelling; what it frames is signed.

    Args:
        data: An OCSPResponse, DER.
        what: Name of the answer, for messages.
        hierarchy: How the vendor signs.

    Raises:
        EncodingError: If it is not canonical DER, has more than one certificate, is not signed as the vendor
            signs, or pads its signature.
        EvidenceError: If it is an error of the service, or not about exactly one certificate.
    """
    if len(data) > MAX_BYTES:
        raise EvidenceError(f"{what}: expected at most {MAX_BYTES} bytes, got {len(data)}")
    delegate = _frame(data, what, hierarchy)
    try:
        parsed = ocsp.load_der_ocsp_response(data)
        about = list(parsed.responses)
    except certificate_bytes.FOREIGN_ERRORS as error:
        raise EvidenceError(f"{what}: not an OCSP answer: {error}") from error
    if len(about) != 1:
        raise EvidenceError(f"{what}: expected one certificate, got {len(about)}")
    return Answer(parsed, delegate, about[0])


def is_about(answer: Answer, certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Returns whether an answer names a certificate, by the hashes of its issuer and its serial number.

    Raises:
        EvidenceError: If it names it in a way that is not known here.
    """
    about = answer.about
    try:
        if about.serial_number != certificate.serial_number:
            return False
        algorithm = about.hash_algorithm
        name = issuer.subject.public_bytes()
        key = issuer.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    except certificate_bytes.FOREIGN_ERRORS as error:
        raise EvidenceError(f"OCSP answer: cannot be read: {error}") from error
    if not isinstance(algorithm, _HASHES):
        raise EvidenceError(f"OCSP answer: hash {algorithm.name!r} is not known")
    named = (about.issuer_name_hash, about.issuer_key_hash)
    return named == (_hash(algorithm, name), _hash(algorithm, key))


def _frame(data: bytes, what: str, hierarchy: hierarchies.Hierarchy) -> bytes | None:
    """Checks everything around what is signed; returns the one certificate that may be there."""
    parts = der.children(der.read(data, what=what), what=what)
    if not parts or parts[0].encoded != der.write_integer(_SUCCESSFUL, tag=der.ENUMERATED):
        raise EvidenceError(f"{what}: the service gave no answer, but an error: {data[:16].hex()}")
    if len(parts) != 2:  # noqa: PLR2004 (status and answer)
        raise EncodingError(f"{what}: expected a status and an answer, got {len(parts)} DER elements")
    (wrapped,) = der.row(parts[1], 1, what=what, tag=_EXPLICIT)
    kind, basic = der.row(wrapped, 2, what=what)
    if kind.encoded != der.write_oid(BASIC):
        raise EncodingError(f"{what}: expected a basic OCSP answer")
    inner = der.children(der.read(der.expect(basic, der.OCTET_STRING, what=what), what=what), what=what)
    if len(inner) not in (_SIGNED_PARTS, _SIGNED_PARTS + 1):
        raise EncodingError(f"{what}: expected {_SIGNED_PARTS} or one more DER parts, got {len(inner)}")
    _, algorithm, signature = inner[:_SIGNED_PARTS]
    if algorithm.encoded not in hierarchy.algorithms:
        raise EncodingError(f"{what}: expected a signature by {' or '.join(hierarchy.algorithms.values())}")
    bits = der.expect(signature, der.BIT_STRING, what=f"{what}: signature")
    try:
        canonical = utils.encode_dss_signature(*utils.decode_dss_signature(bits[1:]))
    except ValueError as error:
        raise EncodingError(f"{what}: signature is not an ECDSA signature: {error}") from error
    if bits != b"\x00" + canonical:
        raise EncodingError(f"{what}: signature is not in canonical DER")
    if len(inner) == _SIGNED_PARTS:
        return None
    (listed,) = der.row(inner[-1], 1, what=f"{what}: certificates", tag=_EXPLICIT)
    (certificate,) = der.row(listed, 1, what=f"{what}: certificates")
    return certificate.encoded


def _hash(algorithm: hashes.HashAlgorithm, data: bytes) -> bytes:
    digest = hashes.Hash(algorithm)
    digest.update(data)
    return digest.finalize()
