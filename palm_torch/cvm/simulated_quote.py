"""Quotes of the simulated trust domain: versions 4 and 5, byte for byte as a TDX machine makes them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from palm_torch.cvm import certificate_bytes, quote

if TYPE_CHECKING:
    from palm_torch.cvm.simulated_authority import Authority


Version: TypeAlias = Literal[4, 5]
"""Of the quotes that can be made."""


def _measurement(name: str) -> bytes:
    return hashlib.sha384(f"palm-torch simulated TD: {name}".encode("ascii")).digest()


MR_TD: Final = _measurement("mr_td")
RTMR0: Final = _measurement("rtmr0")
RTMR1: Final = _measurement("rtmr1")
RTMR2: Final = _measurement("rtmr2")
"""Measurements of the simulated trust domain: SHA-384 of "palm-torch simulated TD: " and the name."""

MR_SEAM: Final = _measurement("mr_seam")
RTMR_ZERO: Final = bytes(quote.REGISTER_BYTES)
TEE_TCB_SVN: Final = bytes((4, 1, 3)) + bytes(13)
"""TDX module 1 at version 4, on microcode 3."""

TD_ATTRIBUTES: Final = bytes.fromhex("0000001000000000")
XFAM: Final = bytes.fromhex("e702060000000000")

QE_MR_SIGNER: Final = hashlib.sha256(b"palm-torch simulated QE: mr_signer").digest()
QE_MR_ENCLAVE: Final = hashlib.sha256(b"palm-torch simulated QE: mr_enclave").digest()
QE_ATTRIBUTES: Final = bytes.fromhex("1100000000000000e700000000000000")
QE_ISV_PROD_ID: Final = 2
QE_ISV_SVN: Final = 4
_QE_ID: Final = hashlib.sha256(b"palm-torch simulated QE: id").digest()[:16]
_QE_CPU_SVN: Final = bytes.fromhex("0303191b04ff00060000000000000000")
_AUTHENTICATION_DATA: Final = bytes(range(quote.AUTHENTICATION_DATA_BYTES))


def make_td_report(
    report_data: bytes, *, rtmr3: bytes = RTMR_ZERO, version: Version = quote.VERSION_TD10
) -> quote.TdReport:
    """Returns the report of the simulated trust domain: TD 1.0 for quotes of version 4, TD 1.5 for 5."""
    is_td15 = version == quote.VERSION_TD15
    return quote.TdReport(
        tee_tcb_svn=TEE_TCB_SVN,
        mr_seam=MR_SEAM,
        mr_signer_seam=RTMR_ZERO,
        seam_attributes=bytes(8),
        td_attributes=TD_ATTRIBUTES,
        xfam=XFAM,
        mr_td=MR_TD,
        mr_config_id=RTMR_ZERO,
        mr_owner=RTMR_ZERO,
        mr_owner_config=RTMR_ZERO,
        rtmr0=RTMR0,
        rtmr1=RTMR1,
        rtmr2=RTMR2,
        rtmr3=rtmr3,
        report_data=report_data,
        tee_tcb_svn2=TEE_TCB_SVN if is_td15 else None,
        mr_service_td=RTMR_ZERO if is_td15 else None,
    )


def sign_quote(authority: Authority, report: quote.TdReport) -> bytes:
    """Returns the canonical quote over a report, of the version that has such a body."""
    fields: tuple[tuple[str, int], ...]
    if report.tee_tcb_svn2 is None:
        fields, header = quote.TD10_FIELDS, make_header(quote.VERSION_TD10)
    else:
        fields, header = quote.TD15_FIELDS, make_header(quote.VERSION_TD15, body=quote.BODY_TD15)
    return sign_bytes(authority, header + b"".join(getattr(report, name) for name, _ in fields))


def make_header(version: int, *, body: tuple[int, int] | None = None) -> bytes:
    """Returns a quote's header, with the descriptor of its body (type, size) where it has one."""
    header = (
        version.to_bytes(2, "little")
        + quote.ATTESTATION_KEY_ECDSA_P256.to_bytes(2, "little")
        + quote.TEE_TYPE_TDX.to_bytes(4, "little")
        + bytes(4)
        + quote.INTEL_QE_VENDOR_ID
        + _QE_ID
        + bytes(4)
    )
    return header if body is None else header + body[0].to_bytes(2, "little") + body[1].to_bytes(4, "little")


def sign_bytes(authority: Authority, signed: bytes) -> bytes:
    """Returns header and body with all that a quoting enclave puts behind them."""
    attestation_key = authority.attestation_key.public_key().public_bytes(
        Encoding.X962, PublicFormat.UncompressedPoint
    )[1:]
    bound = hashlib.sha256(attestation_key + _AUTHENTICATION_DATA).digest()
    qe_report = make_qe_report(bound.ljust(quote.REPORT_DATA_BYTES, b"\x00"))
    chain = certificate_bytes.encode_pem(
        [identity.der for identity in (authority.pck, authority.pck_ca, authority.root)]
    )
    certification = (
        qe_report
        + sign_raw(authority.pck.key, qe_report)
        + len(_AUTHENTICATION_DATA).to_bytes(2, "little")
        + _AUTHENTICATION_DATA
        + _sized(quote.CERTIFICATION_PCK_CHAIN, chain + b"\x00")
    )
    signature_data = (
        sign_raw(authority.attestation_key, signed)
        + attestation_key
        + _sized(quote.CERTIFICATION_QE_REPORT, certification)
    )
    return signed + len(signature_data).to_bytes(4, "little") + signature_data


def make_qe_report(report_data: bytes) -> bytes:
    """Returns the report on the simulated quoting enclave, 384 bytes."""
    return (
        _QE_CPU_SVN
        + bytes(4 + 28)  # miscselect, reserved
        + QE_ATTRIBUTES
        + QE_MR_ENCLAVE
        + bytes(32)
        + QE_MR_SIGNER
        + bytes(96)
        + QE_ISV_PROD_ID.to_bytes(2, "little")
        + QE_ISV_SVN.to_bytes(2, "little")
        + bytes(60)
        + report_data
    )


def sign_raw(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """Signs with ECDSA P-256 and SHA-256; returns r ‖ s, 64 bytes."""
    r, s = utils.decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def _sized(kind: int, data: bytes) -> bytes:
    return kind.to_bytes(2, "little") + len(data).to_bytes(4, "little") + data
