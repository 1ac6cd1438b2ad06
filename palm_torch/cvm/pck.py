"""The platform a PCK certificate speaks of: Intel's private extension 1.2.840.113741.1.13.1.

The certificate must have been verified before; what its security versions are worth is for the TCB appraisal
to say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509

from palm_torch.cvm import certificate_bytes, der
from palm_torch.errors import EncodingError

if TYPE_CHECKING:
    from collections.abc import Mapping

SGX_EXTENSION: Final = "1.2.840.113741.1.13.1"
PPID: Final = f"{SGX_EXTENSION}.1"
TCB: Final = f"{SGX_EXTENSION}.2"
PCE_ID: Final = f"{SGX_EXTENSION}.3"
FMSPC: Final = f"{SGX_EXTENSION}.4"
SGX_TYPE: Final = f"{SGX_EXTENSION}.5"
PLATFORM_INSTANCE_ID: Final = f"{SGX_EXTENSION}.6"
CONFIGURATION: Final = f"{SGX_EXTENSION}.7"

PPID_BYTES: Final = 16
PCE_ID_BYTES: Final = 2
FMSPC_BYTES: Final = 6
COMPONENTS: Final = 16
"""Number of security versions of a processor."""

_PCE_SVN_ARC: Final = COMPONENTS + 1
_GREATEST_COMPONENT: Final = 0xFF
_GREATEST_PCE_SVN: Final = 0xFFFF

_WHAT: Final = "PCK certificate: Intel SGX extension"


@dataclass(frozen=True, slots=True)
class Platform:
    """Identity of the physical platform.

    Attributes:
        ppid: Platform provisioning id, 16 bytes.
        fmspc: Family, model, stepping, platform type and custom SKU, 6 bytes.
        pce_id: Identity of the provisioning certification enclave, 2 bytes.
        platform_instance_id: Identity of a multi-package platform, 16 bytes; None for others.
    """

    ppid: bytes
    fmspc: bytes
    pce_id: bytes
    platform_instance_id: bytes | None


@dataclass(frozen=True, slots=True)
class SecurityVersions:
    """Versions of a platform's trusted computing base when its PCK certificate was issued.

    Attributes:
        components: Those of the processor, one for each of 16 components.
        pce: That of the provisioning certification enclave.
    """

    components: tuple[int, ...]
    pce: int


def read_platform(certificate: x509.Certificate) -> Platform:
    """Reads the platform's identity from a PCK certificate.

    Raises:
        EncodingError: If the extension is missing, not canonical DER, or lacks a part.
    """
    fields = _extension(certificate)
    instance = der.write_oid(PLATFORM_INSTANCE_ID)
    return Platform(
        ppid=_octets(fields, PPID, PPID_BYTES),
        fmspc=_octets(fields, FMSPC, FMSPC_BYTES),
        pce_id=_octets(fields, PCE_ID, PCE_ID_BYTES),
        platform_instance_id=_octets(fields, PLATFORM_INSTANCE_ID, 16) if instance in fields else None,
    )


def read_security_versions(certificate: x509.Certificate) -> SecurityVersions:
    """Reads the platform's security versions from a PCK certificate.

    Raises:
        EncodingError: If the extension is missing, not canonical DER, or lacks one.
    """
    fields = _fields(_field(_extension(certificate), TCB))
    return SecurityVersions(
        components=tuple(
            _number(fields, f"{TCB}.{arc}", _GREATEST_COMPONENT) for arc in range(1, COMPONENTS + 1)
        ),
        pce=_number(fields, f"{TCB}.{_PCE_SVN_ARC}", _GREATEST_PCE_SVN),
    )


def _extension(certificate: x509.Certificate) -> dict[bytes, der.Element]:
    try:
        extension = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier(SGX_EXTENSION)).value
    except certificate_bytes.FOREIGN_ERRORS as error:
        raise EncodingError(f"{_WHAT}: missing: {error}") from error
    return _fields(der.read(extension.public_bytes(), what=_WHAT))


def _fields(sequence: der.Element) -> dict[bytes, der.Element]:
    fields: dict[bytes, der.Element] = {}
    for pair in der.children(sequence, what=_WHAT):
        name, value = _pair(pair)
        if name in fields:
            raise EncodingError(f"{_WHAT}: object identifier {name.hex()} occurs twice")
        fields[name] = value
    return fields


def _pair(element: der.Element) -> tuple[bytes, der.Element]:
    parts = der.children(element, what=_WHAT)
    if len(parts) != 2:  # noqa: PLR2004 (an identifier and its value)
        raise EncodingError(f"{_WHAT}: expected pairs of identifier and value, got {len(parts)} parts")
    name, value = parts
    der.expect(name, der.OBJECT_IDENTIFIER, what=_WHAT)
    return name.encoded, value


def _field(fields: Mapping[bytes, der.Element], name: str) -> der.Element:
    element = fields.get(der.write_oid(name))
    if element is None:
        raise EncodingError(f"{_WHAT}: {name} is missing")
    return element


def _octets(fields: Mapping[bytes, der.Element], name: str, size: int) -> bytes:
    octets = der.expect(_field(fields, name), der.OCTET_STRING, what=f"{_WHAT}: {name}")
    if len(octets) != size:
        raise EncodingError(f"{_WHAT}: {name}: expected {size} bytes, got {len(octets)}")
    return octets


def _number(fields: Mapping[bytes, der.Element], name: str, greatest: int) -> int:
    number = der.read_integer(_field(fields, name), what=f"{_WHAT}: {name}")
    if number > greatest:
        raise EncodingError(f"{_WHAT}: {name}: expected at most {greatest}, got {number}")
    return number
