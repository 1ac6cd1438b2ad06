"""Collateral of a TDX quote: what Intel publishes about the platform, as nine texts with one spelling each.

The layout is that of the provisioning certification service's ``QuoteCollateralV3``. The two signed JSON
texts are kept exactly as they were signed: parsing and re-serialising them would break the signature.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from palm_torch import codec
from palm_torch.cvm import certificate_bytes
from palm_torch.encoding import Json, decode_hex
from palm_torch.errors import EvidenceError

ISSUER_CHAIN_CERTIFICATES: Final = 2
SIGNATURE_BYTES: Final = 64
TCB_INFO_VERSION: Final = 3
QE_IDENTITY_VERSIONS: Final = (2, 3)

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
_DATE: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


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


@dataclass(frozen=True, slots=True)
class SignedDocument:
    """What TCB info and QE identity have in common, read from a text whose signature was checked.

    Attributes:
        issued: Time from which it holds.
        next_update: Time until which it holds, inclusive.
        evaluation_data_number: Intel's counter of TCB recoveries.
        body: The whole document.
    """

    issued: datetime
    next_update: datetime
    evaluation_data_number: int
    body: dict[str, Any]


def from_json(value: Json) -> Collateral:
    """Builds collateral from a JSON object with exactly its nine keys, all text.

    Raises:
        EvidenceError: If a key is missing, unknown or not text, or a value is not in canonical form.
    """
    return codec.from_json(Collateral, value, what="collateral", error=EvidenceError)


def read_tcb_info(text: bytes) -> tuple[SignedDocument, bytes, bytes]:
    """Reads TCB info; call it after its signature was checked.

    Returns:
        The document, the FMSPC (6 bytes) and the PCE-ID (2 bytes) it is about.

    Raises:
        EvidenceError: If it is not TCB info of TDX, version 3.
    """
    document = _read_document(text, "TCB info", "TDX", (TCB_INFO_VERSION,))
    if document.body.get("tcbType") != 0:
        raise EvidenceError(f"TCB info: expected tcbType 0, got {document.body.get('tcbType')!r}")
    identity = [_hex_field(document.body, name, size) for name, size in (("fmspc", 6), ("pceId", 2))]
    return document, identity[0], identity[1]


def read_qe_identity(text: bytes) -> SignedDocument:
    """Reads the QE identity; call it after its signature was checked.

    Raises:
        EvidenceError: If it is not the identity of the TD quoting enclave, version 2 or 3.
    """
    return _read_document(text, "QE identity", "TD_QE", QE_IDENTITY_VERSIONS)


def _read_document(text: bytes, what: str, kind: str, versions: tuple[int, ...]) -> SignedDocument:
    try:
        body = json.loads(text.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"{what}: not a JSON document: {error}") from error
    if not isinstance(body, dict):
        raise EvidenceError(f"{what}: expected a JSON object, got {type(body).__name__}")
    if body.get("id") != kind or body.get("version") not in versions:
        raise EvidenceError(
            f"{what}: expected id {kind!r} and version {' or '.join(map(str, versions))}, "
            f"got {body.get('id')!r} and {body.get('version')!r}"
        )
    number = body.get("tcbEvaluationDataNumber")
    if type(number) is not int or number < 0:
        raise EvidenceError(f"{what}: expected a number as tcbEvaluationDataNumber, got {number!r}")
    return SignedDocument(
        issued=_date(body, "issueDate", what),
        next_update=_date(body, "nextUpdate", what),
        evaluation_data_number=number,
        body=body,
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same key twice")
    return found


def _refuse_constant(name: str) -> Any:  # noqa: ANN401 (the signature that json asks for)
    raise ValueError(f"JSON has no {name}")


def _date(body: dict[str, Any], name: str, what: str) -> datetime:
    text = body.get(name)
    if not isinstance(text, str) or not _DATE.fullmatch(text):
        raise EvidenceError(f"{what}: {name}: expected YYYY-MM-DDThh:mm:ssZ, got {text!r}")
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise EvidenceError(f"{what}: {name}: {error}") from error


def _hex_field(body: dict[str, Any], name: str, size: int) -> bytes:
    """Reads hex of either case: the service has answered in both."""
    text = body.get(name)
    if not isinstance(text, str):
        raise EvidenceError(f"TCB info: {name}: expected text, got {text!r}")
    return decode_hex(text.lower(), what=f"TCB info: {name}", length_bytes=size)


def _utf8(text: str, name: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise EvidenceError(f"collateral: {name}: not valid Unicode: {error.reason}") from error
