"""Answers of Intel's provisioning certification service, version 4, made into collateral.

The service, and caches of it, wrap each signed text into an outer JSON object and send its signer's chain in
a header. The signed text is cut out byte for byte: parsed and written again it would be another text.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import Any, Final

from palm_torch import nesting
from palm_torch.cvm import certificate_bytes, signed_json
from palm_torch.cvm.collateral import Collateral
from palm_torch.errors import EvidenceError

TCB_INFO_KEY: Final = "tcbInfo"
QE_IDENTITY_KEY: Final = "enclaveIdentity"
SIGNATURE_KEY: Final = "signature"

MAX_BODY_BYTES: Final = 2_097_152
"""Largest answer read, in bytes; revocation lists may be long."""

MAX_CHAIN_CHARACTERS: Final = 65_536
"""Longest header with an issuer chain read, in characters."""

_ESCAPED: Final = re.compile(r"%([0-9A-Fa-f]{2})", re.ASCII)
_PLAIN: Final = re.compile(r"(?:[A-Za-z0-9+/=_.~ -]|%[0-9A-Fa-f]{2})*", re.ASCII)
_WHITE_SPACE: Final = " \t\n\r"
_HEX: Final = re.compile(rb"[0-9A-Fa-f]+")
_PEM_CRL: Final = re.compile(
    rb"-----BEGIN X509 CRL-----\n([A-Za-z0-9+/=\n]+)-----END X509 CRL-----\n*", re.ASCII
)
_DER_SEQUENCE: Final = b"\x30"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the service.

    Attributes:
        body: What it said.
        issuer_chain: The header with the chain of the signer: PEM, percent-encoded.
    """

    body: bytes
    issuer_chain: str


def collateral_of(
    *, tcb_info: Answer, qe_identity: Answer, pck_crl: Answer, root_ca_crl: bytes
) -> Collateral:
    """Puts the four answers about one platform together; nothing in them is verified.

    Args:
        tcb_info: Answer of ``/tdx/certification/v4/tcb``; header ``TCB-Info-Issuer-Chain``.
        qe_identity: Answer of ``/tdx/certification/v4/qe/identity``; header
            ``SGX-Enclave-Identity-Issuer-Chain``.
        pck_crl: Answer of ``/sgx/certification/v4/pckcrl``; header ``SGX-PCK-CRL-Issuer-Chain``.
        root_ca_crl: The root's revocation list.

    Raises:
        EvidenceError: If an answer has another form or is too large.
        EncodingError: If a chain, once decoded, is not canonical PEM.

    Source: Intel SGX and TDX Provisioning Certification Service API, version 4.
    """
    info_text, info_signature = cut(tcb_info.body, TCB_INFO_KEY)
    identity_text, identity_signature = cut(qe_identity.body, QE_IDENTITY_KEY)
    return Collateral(
        pck_crl_issuer_chain=decode_chain(pck_crl.issuer_chain, what="PCK CRL issuer chain"),
        root_ca_crl=read_crl(root_ca_crl, what="root CA CRL").hex(),
        pck_crl=read_crl(pck_crl.body, what="PCK CRL").hex(),
        tcb_info_issuer_chain=decode_chain(tcb_info.issuer_chain, what="TCB info issuer chain"),
        tcb_info=info_text,
        tcb_info_signature=info_signature,
        qe_identity_issuer_chain=decode_chain(qe_identity.issuer_chain, what="QE identity issuer chain"),
        qe_identity=identity_text,
        qe_identity_signature=identity_signature,
    )


def cut(body: bytes, key: str) -> tuple[str, str]:
    """Cuts the signed text and its signature out of ``{key: {…}, "signature": "…"}``, in either order.

    Args:
        body: The answer, with white space around it at most.
        key: `TCB_INFO_KEY` or `QE_IDENTITY_KEY`.

    Returns:
        The text exactly as it stands in the answer, and the signature in lower-case hex.

    Raises:
        EvidenceError: If the answer is anything else.
    """
    what = f"answer with {key}"
    _check_size(body, what)
    nesting.check(body, what=f"{what}: not a JSON document", error=EvidenceError)
    try:
        parts = _members(body.decode("utf-8"), what)
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"{what}: not a JSON document: {error}") from error
    if parts.keys() != {key, SIGNATURE_KEY}:
        raise EvidenceError(f"{what}: expected keys {key}, {SIGNATURE_KEY}, got {', '.join(parts)[:80]!r}")
    text, value = parts[key]
    _, signature = parts[SIGNATURE_KEY]
    if not isinstance(value, dict) or not isinstance(signature, str):
        raise EvidenceError(f"{what}: expected an object and the text of its signature")
    return text, signature.lower()


def decode_chain(header: str, *, what: str) -> str:
    """Decodes a header with an issuer chain: percent-encoded PEM, with either kind of line end.

    Raises:
        EvidenceError: If it has characters no such header has, or is too long.
    """
    if len(header) > MAX_CHAIN_CHARACTERS or not _PLAIN.fullmatch(header):
        raise EvidenceError(
            f"{what}: expected at most {MAX_CHAIN_CHARACTERS} characters of percent-encoded PEM, "
            f"got {header[:60]!r}"
        )
    pem = _ESCAPED.sub(lambda match: chr(int(match.group(1), 16)), header)
    return pem.replace("\r\n", "\n").rstrip("\n") + "\n"


def read_crl(body: bytes, *, what: str) -> bytes:
    """Returns the DER of a revocation list that came as DER, as hex of it, or as PEM.

    Raises:
        EvidenceError: If it came as something else.
        EncodingError: If it is not a revocation list.
    """
    _check_size(body, what)
    crl = body
    if not body.startswith(_DER_SEQUENCE):
        crl = _from_text(body.strip(_WHITE_SPACE.encode("ascii")), what)
    certificate_bytes.load_crl(crl, what=what)
    return crl


def _from_text(text: bytes, what: str) -> bytes:
    try:
        if _HEX.fullmatch(text):
            return binascii.unhexlify(text)
        pem = _PEM_CRL.fullmatch(text.replace(b"\r\n", b"\n"))
        if pem is not None:
            return base64.b64decode(pem.group(1).replace(b"\n", b""), validate=True)
    except binascii.Error as error:
        raise EvidenceError(f"{what}: neither hexadecimal nor PEM: {error}") from error
    raise EvidenceError(f"{what}: expected DER, hexadecimal or PEM, got {text[:40]!r}")


def _check_size(body: bytes, what: str) -> None:
    if len(body) > MAX_BODY_BYTES:
        raise EvidenceError(f"{what}: expected at most {MAX_BODY_BYTES} bytes, got {len(body)}")


def _members(text: str, what: str) -> dict[str, tuple[str, Any]]:
    """Returns the members of the outer object, each with its spelling and its value."""
    decoder = json.JSONDecoder(
        object_pairs_hook=signed_json.unique, parse_constant=signed_json.refuse_constant
    )
    found: dict[str, tuple[str, Any]] = {}
    at = _expect(text, _skip(text, 0), "{", what)
    while True:
        key, at = decoder.raw_decode(text, _skip(text, at))
        start = _skip(text, _expect(text, _skip(text, at), ":", what))
        value, at = decoder.raw_decode(text, start)
        if not isinstance(key, str) or key in found:
            raise EvidenceError(f"{what}: expected distinct keys, got {str(key)[:40]!r}")
        found[key] = text[start:at], value
        at = _skip(text, at)
        if text[at : at + 1] != ",":
            break
        at += 1
    if _skip(text, _expect(text, at, "}", what)) != len(text):
        raise EvidenceError(f"{what}: bytes follow the JSON document")
    return found


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _WHITE_SPACE:
        at += 1
    return at


def _expect(text: str, at: int, character: str, what: str) -> int:
    if text[at : at + 1] != character:
        raise EvidenceError(f"{what}: expected {character!r} at character {at}, got {text[at : at + 20]!r}")
    return at + 1
