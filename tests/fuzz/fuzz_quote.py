"""Quotes, SNP and GPU reports: parsed, written again from their fields, freed of what machines append."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from laws import REFUSED, accepted, ours

from palm_torch.cvm import certificate_bytes, gpu_names, gpu_opaque, quote, snp_endorsements, snp_report, spdm

if TYPE_CHECKING:
    from palm_torch.cvm.quote import Quote


def one_input(data: bytes) -> None:
    parsed = accepted(data, quote.parse_quote, written)
    cut = accepted(data, quote.canonical, None)
    if parsed is not REFUSED:
        assert cut == data
    if cut is not REFUSED:
        assert data.startswith(cut)
        assert not any(data[len(cut) :])
        assert quote.canonical(cut) == cut
        assert quote.canonical(cut + bytes(3)) == cut or len(cut) > quote.MAX_QUOTE_BYTES - 3
    accepted(data, snp_report.parse_report, snp_report.encode_report)
    gpu = accepted(data, spdm.parse_report, spdm.encode_report)
    if gpu is not REFUSED:
        assert gpu.signed + gpu.signature == data
        claims = ours(gpu_opaque.read_claims, gpu.opaque)
        assert claims is REFUSED or claims.mode in gpu_names.MODES
    table = ours(snp_endorsements.read_certificate_table, data)
    if table is not REFUSED:
        assert sum(len(content or b"") for content in dataclasses.astuple(table)) <= len(data)
        for signing_key in range(8):
            ours(table.endorsements, signing_key)


def written(parsed: Quote) -> bytes:
    """Writes a quote from its fields; whether a zero byte follows the chain is the quote's own business."""
    report = parsed.td_report
    body = b"".join(getattr(report, name) or b"" for name, _ in quote.TD15_FIELDS)
    if parsed.version == quote.VERSION_TD15:
        body = (3 if len(body) == 648 else 2).to_bytes(2, "little") + len(body).to_bytes(4, "little") + body
    header = (
        parsed.version.to_bytes(2, "little")
        + quote.ATTESTATION_KEY_ECDSA_P256.to_bytes(2, "little")
        + quote.TEE_TYPE_TDX.to_bytes(4, "little")
        + bytes(4)
        + quote.INTEL_QE_VENDOR_ID
        + parsed.user_data
    )
    assert parsed.signed == header + body
    chain = certificate_bytes.encode_pem(parsed.certificates) + b"\x00" * parsed.raw.endswith(b"\x00")
    certification = (
        parsed.qe_report
        + parsed.qe_report_signature
        + len(parsed.qe_authentication_data).to_bytes(2, "little")
        + parsed.qe_authentication_data
        + sized(quote.CERTIFICATION_PCK_CHAIN, chain)
    )
    signed = parsed.signature + parsed.attestation_key + sized(quote.CERTIFICATION_QE_REPORT, certification)
    return header + body + len(signed).to_bytes(4, "little") + signed


def sized(kind: int, data: bytes) -> bytes:
    """Returns type, size and data of one piece of certification data."""
    return kind.to_bytes(2, "little") + len(data).to_bytes(4, "little") + data
