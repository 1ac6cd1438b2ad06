"""Collateral of a TDX quote: what Intel publishes about the platform, as nine texts with one spelling each.

The layout is that of the provisioning certification service's ``QuoteCollateralV3``. The two signed JSON
texts are kept exactly as they were signed: parsing and re-serialising them would break the signature.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

from palm_torch import codec
from palm_torch.cvm import certificate_bytes
from palm_torch.encoding import Json, decode_hex
from palm_torch.errors import EvidenceError

ISSUER_CHAIN_CERTIFICATES: Final = 2
SIGNATURE_BYTES: Final = 64

_MAX_CHARACTERS: Final = {
    "pck_crl_issuer_chain": 16_384,
    "root_ca_crl": 524_288,
    "pck_crl": 2_097_152,
    "tcb_info_issuer_chain": 16_384,
    "tcb_info": 524_288,
    "tcb_info_signature": 2 * SIGNATURE_BYTES,
    "qe_identity_issuer_chain": 16_384,
    "qe_identity": 131_072,
    "qe_identity_signature": 2 * SIGNATURE_BYTES,
}


@dataclass(frozen=True, slots=True)
class Collateral:
    """The nine fields, spelled as they travel; nothing in them has been verified.

    Attributes:
        pck_crl_issuer_chain: PEM of the PCK CA and the root.
        root_ca_crl: The root's revocation list, DER in lower-case hex.
        pck_crl: The PCK CA's revocation list, DER in lower-case hex.
        tcb_info_issuer_chain: PEM of the TCB signing certificate and the root.
        tcb_info: The signed JSON text about the platform's TCB levels.
        tcb_info_signature: ECDSA P-256 over its bytes, r ‖ s, 64 bytes in lower-case hex.
        qe_identity_issuer_chain: PEM of the TCB signing certificate and the root.
        qe_identity: The signed JSON text about the quoting enclave.
        qe_identity_signature: As above.

    Raises:
        EvidenceError: If a field is too long.
        EncodingError: If hex or PEM is not in canonical form.
    """

    pck_crl_issuer_chain: str
    root_ca_crl: str
    pck_crl: str
    tcb_info_issuer_chain: str
    tcb_info: str
    tcb_info_signature: str
    qe_identity_issuer_chain: str
    qe_identity: str
    qe_identity_signature: str

    def __post_init__(self) -> None:
        """Checks sizes and spellings."""
        for field in dataclasses.fields(self):
            size, limit = len(getattr(self, field.name)), _MAX_CHARACTERS[field.name]
            if size > limit:
                raise EvidenceError(
                    f"collateral: {field.name}: expected at most {limit} characters, got {size}"
                )
        for name in ("root_ca_crl", "pck_crl"):
            self.der(name)
        for name in ("tcb_info_signature", "qe_identity_signature"):
            decode_hex(getattr(self, name), what=f"collateral: {name}", length_bytes=SIGNATURE_BYTES)
        for name in ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain"):
            self.chain(name)

    def der(self, name: str) -> bytes:
        """Returns the bytes of a field that travels in hex."""
        return decode_hex(getattr(self, name), what=f"collateral: {name}")

    def chain(self, name: str) -> tuple[bytes, ...]:
        """Returns the DER certificates of an issuer chain, leaf first."""
        pem = _utf8(getattr(self, name), name)
        return certificate_bytes.decode_pem(pem, what=f"collateral: {name}", count=ISSUER_CHAIN_CERTIFICATES)

    def signed_text(self, name: str) -> bytes:
        """Returns the exact bytes that were signed for ``tcb_info`` or ``qe_identity``."""
        return _utf8(getattr(self, name), name)


def from_json(value: Json) -> Collateral:
    """Builds collateral from a JSON object with exactly its nine keys, all text.

    Raises:
        EvidenceError: If a key is missing, unknown or not text, or a value is not in canonical form.
    """
    return codec.from_json(Collateral, value, what="collateral", error=EvidenceError)


def _utf8(text: str, name: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise EvidenceError(f"collateral: {name}: not valid Unicode: {error.reason}") from error
