"""Certificates, revocation lists and chains, against `cryptography`."""

from __future__ import annotations

from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from laws import REFUSED, accepted, ours

from palm_torch import dsse
from palm_torch.cvm import certificate_bytes, certificates, gpu_certificate, pck, revocation

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
COUNTS = (1, 2, 3)


def one_input(data: bytes) -> None:
    for count in COUNTS:
        accepted(
            data,
            lambda raw, count=count: certificate_bytes.decode_pem(raw, what="x", count=count),
            certificate_bytes.encode_pem,
        )
    certificate = accepted(
        data,
        lambda raw: certificate_bytes.load_certificate(raw, what="x"),
        lambda found: found.public_bytes(Encoding.DER),
    )
    if certificate is not REFUSED:
        assert certificate == x509.load_der_x509_certificate(data)
        ours(pck.read_platform, certificate)
        anchor = ours(certificates.TrustAnchor.from_certificate, data, name="x")
        anchors = () if anchor is REFUSED else (anchor,)
        ours(certificates.verify_chain, (data, data), anchors=anchors, now=NOW, what="x")
        ours(revocation.verify_crl, data, issuer=certificate, now=NOW, what="x")
    accepted(
        data,
        lambda raw: certificate_bytes.load_crl(raw, what="x"),
        lambda found: found.public_bytes(Encoding.DER),
    )
    ours(gpu_certificate.split_chain, data)
    leaf = ours(certificate_bytes.load_certificate, data, what="x", algorithms=certificate_bytes.NVIDIA)
    if leaf is not REFUSED:
        device = ours(gpu_certificate.read_device, leaf)
        assert device is REFUSED or len(device.fwid) == gpu_certificate.FWID_BYTES
    key = ours(dsse.session_public_key, data)
    if key is not REFUSED:
        assert len(dsse.key_id(key)) == 64
