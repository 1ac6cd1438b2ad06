"""The platform a VCEK or VLEK certificate speaks of: AMD's private extensions below 1.3.6.1.4.1.3704.1.

The certificate must have been verified before. A VCEK is the key of one chip at one TCB version and names the
chip; a VLEK was loaded by a cloud provider into many chips and names the provider. Whoever verifies has to
tell them apart, because they stand for different things under one root.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch.cvm import certificate_bytes, der, snp_report
from palm_torch.errors import EncodingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography import x509

AMD: Final = "1.3.6.1.4.1.3704.1"
STRUCT_VERSION: Final = f"{AMD}.1"
PRODUCT_NAME: Final = f"{AMD}.2"
TCB: Final = f"{AMD}.3"
HARDWARE_ID: Final = f"{AMD}.4"
CSP_ID: Final = f"{AMD}.5"

TCB_COMPONENTS: Final = {"boot_loader": 1, "tee": 2, "snp": 3, "microcode": 8}
"""Component of a TCB version → last arc of its extension's identifier."""

SPARE_COMPONENTS: Final = (4, 5, 6, 7)
"""Last arcs of the components that Milan and Genoa processors do not use: zero."""

IA5_STRING: Final = 0x16
_STRUCT_VERSION_MILAN_GENOA: Final = 0


@dataclass(frozen=True, slots=True)
class Endorsed:
    """What AMD says about the key in a VCEK or VLEK certificate.

    Attributes:
        product: Name of the product, "Milan-B0".
        tcb: TCB version the key was derived for.
        hardware_id: Identity of the chip, 64 bytes; None in a VLEK.
        csp_id: Identity of the cloud provider; None in a VCEK.
    """

    product: str
    tcb: snp_report.TcbVersion
    hardware_id: bytes | None
    csp_id: str | None


def read_endorsed(certificate: x509.Certificate, *, what: str) -> Endorsed:
    """Reads what a VCEK or VLEK certificate says about its key.

    Args:
        certificate: The certificate.
        what: Its name, for messages.

    Raises:
        EncodingError: If an extension is missing, is not canonical DER, or has a layout that is not the one
            of Milan and Genoa processors.

    Source: AMD 57230, VCEK Certificate and KDS Interface Specification.
    """
    try:
        found = {
            extension.oid.dotted_string: extension.value.public_bytes()
            for extension in certificate.extensions
            if extension.oid.dotted_string.startswith(f"{AMD}.")
        }
    except certificate_bytes.FOREIGN_ERRORS as error:
        raise EncodingError(f"{what}: its extensions cannot be read: {error}") from error
    version = _number(found, STRUCT_VERSION, what)
    if version != _STRUCT_VERSION_MILAN_GENOA:
        raise EncodingError(
            f"{what}: expected structure version {_STRUCT_VERSION_MILAN_GENOA} (Milan, Genoa), got {version}"
        )
    for component in SPARE_COMPONENTS:
        if _number(found, f"{TCB}.{component}", what):
            raise EncodingError(f"{what}: expected 0 in the spare TCB component {TCB}.{component}")
    components = {name: _number(found, f"{TCB}.{arc}", what) for name, arc in TCB_COMPONENTS.items()}
    return Endorsed(
        product=_text(found, PRODUCT_NAME, what),
        tcb=snp_report.TcbVersion(**components),
        hardware_id=_hardware_id(found[HARDWARE_ID], what) if HARDWARE_ID in found else None,
        csp_id=_text(found, CSP_ID, what) if CSP_ID in found else None,
    )


def speaks_for(certificate: bytes, report: snp_report.SnpReport) -> bool:
    """Returns whether a VCEK or VLEK certificate says that its key signs such reports; nothing is verified.

    Args:
        certificate: The certificate, DER.
        report: The report: kind of key, chip and TCB version are compared.

    Raises:
        EncodingError: If the certificate does not parse.
    """
    what = "VCEK or VLEK certificate"
    endorsed = read_endorsed(
        certificate_bytes.load_certificate(
            certificate, what=what, algorithms=certificate_bytes.AMD, zero_serial=True
        ),
        what=what,
    )
    chip = report.chip_id if snp_report.SIGNING_KEYS.get(report.signing_key) == "vcek" else None
    return (endorsed.hardware_id, endorsed.tcb) == (chip, report.reported_tcb)


def _hardware_id(value: bytes, what: str) -> bytes:
    """Returns the 64 bytes, which older certificates hold as they are and newer ones as an OCTET STRING."""
    if len(value) == snp_report.CHIP_ID_BYTES:
        return value
    name = f"{what}: extension {HARDWARE_ID}"
    octets = der.expect(der.read(value, what=name), der.OCTET_STRING, what=name)
    if len(octets) != snp_report.CHIP_ID_BYTES:
        raise EncodingError(f"{name}: expected {snp_report.CHIP_ID_BYTES} bytes, got {len(octets)}")
    return octets


def _number(found: Mapping[str, bytes], name: str, what: str) -> int:
    what = f"{what}: extension {name}"
    return der.read_integer(_element(found, name, what), what=what)


def _text(found: Mapping[str, bytes], name: str, what: str) -> str:
    what = f"{what}: extension {name}"
    content = der.expect(_element(found, name, what), IA5_STRING, what=what)
    if not content.isascii():
        raise EncodingError(f"{what}: expected ASCII text, got {content[:40]!r}")
    return content.decode("ascii")


def _element(found: Mapping[str, bytes], name: str, what: str) -> der.Element:
    if name not in found:
        raise EncodingError(f"{what} is missing")
    return der.read(found[name], what=what)
