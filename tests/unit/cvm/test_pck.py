"""Security versions of a platform, from the extension of its PCK certificate."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from palm_torch.cvm import der, pck, simulated_authority
from palm_torch.errors import EncodingError

if TYPE_CHECKING:
    from collections.abc import Callable

Fields = dict[str, bytes]


def with_versions(vendor: Any, change: Callable[[Fields], object]) -> x509.Certificate:
    fields = {f"{pck.TCB}.{arc}": der.write_integer(arc) for arc in range(1, 18)}
    change(fields)
    tcb = der.write(der.SEQUENCE, *(der.write(der.SEQUENCE, der.write_oid(k), v) for k, v in fields.items()))
    value = der.write(der.SEQUENCE, der.write(der.SEQUENCE, der.write_oid(pck.TCB), tcb))
    identity = vendor.authority.pck
    return (
        x509.CertificateBuilder()
        .subject_name(identity.certificate.subject)
        .issuer_name(identity.certificate.subject)
        .public_key(identity.key.public_key())
        .serial_number(1)
        .not_valid_before(vendor.now)
        .not_valid_after(vendor.now + timedelta(days=1))
        .add_extension(
            x509.UnrecognizedExtension(x509.ObjectIdentifier(pck.SGX_EXTENSION), value), critical=False
        )
        .sign(identity.key, hashes.SHA256())
    )


def test_versions_are_read(vendor: Any) -> None:
    found = pck.read_security_versions(vendor.authority.pck.certificate)
    assert found.components == simulated_authority.SGX_COMPONENTS
    assert found.pce == simulated_authority.PCE_SVN
    found = pck.read_security_versions(with_versions(vendor, lambda _: None))
    assert (found.components, found.pce) == (tuple(range(1, 17)), 17)
    limits = {f"{pck.TCB}.16": der.write_integer(255), f"{pck.TCB}.17": der.write_integer(65535)}
    found = pck.read_security_versions(with_versions(vendor, lambda fields: fields.update(limits)))
    assert (found.components[-1], found.pce) == (255, 65535)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda fields: fields.pop(f"{pck.TCB}.16"), r"1\.2\.16 is missing"),
        (lambda fields: fields.pop(f"{pck.TCB}.17"), r"1\.2\.17 is missing"),
        (lambda fields: fields.update({f"{pck.TCB}.1": der.write_integer(256)}), "expected at most 255"),
        (lambda fields: fields.update({f"{pck.TCB}.17": der.write_integer(65536)}), "at most 65535"),
        (lambda fields: fields.update({f"{pck.TCB}.1": b"\x02\x01\xff"}), "expected a DER integer from 0"),
        (lambda fields: fields.update({f"{pck.TCB}.1": b"\x02\x02\x00\x01"}), "expected a DER integer"),
        (lambda fields: fields.update({f"{pck.TCB}.1": b"\x04\x01\x01"}), "expected DER tag"),
    ],
)
def test_other_versions_are_refused(vendor: Any, change: Callable[[Fields], object], message: str) -> None:
    with pytest.raises(EncodingError, match=message):
        pck.read_security_versions(with_versions(vendor, change))


def test_a_certificate_without_them(vendor: Any) -> None:
    with pytest.raises(EncodingError, match="missing"):
        pck.read_security_versions(vendor.authority.root.certificate)
