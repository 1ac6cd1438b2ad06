"""The device that a GPU's attestation certificate speaks of: architecture, identity, firmware.

The leaf is made by the GPU's boot ROM for the firmware that it has loaded, and is another one after an
update of that firmware; the chip's identity stays. The certificates must have been verified before: what is
read here decides which rules apply, and nothing else does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509

from palm_torch.cvm import certificate_bytes, der, gpu_names
from palm_torch.errors import EncodingError, PlatformError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_CHAIN_BYTES: Final = 5120
"""Most that NVIDIA's driver gives out for one device, in PEM; in DER it is less."""

CHAIN_CERTIFICATES: Final = 5
"""Firmware, boot ROM, provisioner, identity of the family, root."""

FWID_BYTES: Final = 48
DEVICE_ID: Final = "1.3.6.1.4.1.412.274.1"
"""DMTF's kind of name for a device, in the leaf's subject alternative name."""

TCG_DICE_FWID: Final = "2.23.133.5.4.1"
TCG_DICE_TCB_INFO: Final = "2.23.133.5.4.1.1"
SHA384: Final = "2.16.840.1.101.3.4.2.2"
UTF8_STRING: Final = 0x0C
FWIDS_TAG: Final = der.CONTEXT | der.CONSTRUCTED | 6
"""Tag of the list of firmware digests in a DICE TCB description."""

_DEVICE: Final = re.compile(r"NVIDIA:([A-Z0-9_]{1,16}):([0-9A-F]{16})")
_FWID_PARTS: Final = 3
_VERSION_1: Final = 1


@dataclass(frozen=True, slots=True)
class GpuDevice:
    """What NVIDIA and the boot ROM say about the key in a leaf.

    Attributes:
        architecture: "HOPPER" or "BLACKWELL".
        chip: Its chip, "GH100".
        chip_id: Identity of the one chip, "NVIDIA:GH100:48B02D92494BADF4": firmware does not change it.
        serial: The leaf's serial number: firmware changes it. NVIDIA's own service calls it ``ueid``.
        fwid: Digest of the firmware that holds the key, 48 bytes.
    """

    architecture: gpu_names.Architecture
    chip: str
    chip_id: str
    serial: int
    fwid: bytes


def split_chain(chain: bytes) -> tuple[bytes, ...]:
    """Returns the five certificates of a chain that travels as DER, leaf first, one after the other.

    Raises:
        EncodingError: If it is too long, or is not exactly five DER elements.
    """
    if len(chain) > MAX_CHAIN_BYTES:
        raise EncodingError(
            f"GPU certificate chain: expected at most {MAX_CHAIN_BYTES} bytes, got {len(chain)}"
        )
    what = "GPU certificate chain"
    row = der.Element(der.SEQUENCE, chain, chain)
    return tuple(part.encoded for part in der.row(row, CHAIN_CERTIFICATES, what=what))


def read_device(leaf: x509.Certificate) -> GpuDevice:
    """Reads what a leaf says about its device.

    1. Its alternative name is one DMTF device name of NVIDIA's; the common name begins with the same chip.
    2. The chip is a GPU that this library knows.
    3. The subject's serial number is the certificate's.
    4. One extension holds the digest of the firmware: of the form that Hopper has (TCG DICE FWID), or of the
       one that Blackwell has (TCG DICE TCB info, whose first digest it is).

    Raises:
        EncodingError: If a part is missing, there twice, or has another form.
        PlatformError: If the device is no GPU that this library knows: an NVSwitch, for one.

    Source: DMTF DSP0274, section 10.6.1.1; TCG DICE Attestation Architecture, section 6.1.
    """
    what = "GPU certificate"
    common_name, subject_serial = (
        _attribute(leaf, oid, what) for oid in (x509.NameOID.COMMON_NAME, x509.NameOID.SERIAL_NUMBER)
    )
    extensions = _extensions(leaf, what)
    chip_id, chip = _device_name(extensions, what)  # 1
    if common_name.split(" ")[0] != chip:
        raise EncodingError(f"{what}: expected a common name that begins with {chip}, got {common_name!r}")
    if chip not in gpu_names.CHIPS:  # 2
        raise PlatformError(
            f"{what}: expected a GPU of the kinds {', '.join(gpu_names.CHIPS)}, "
            f"got a device of the kind {chip}"
        )
    digits = serial_digits(leaf.serial_number)
    if subject_serial != digits:  # 3
        raise EncodingError(f"{what}: expected serial number {digits} in the subject, got {subject_serial!r}")
    return GpuDevice(
        architecture=gpu_names.CHIPS[chip],
        chip=chip,
        chip_id=chip_id,
        serial=leaf.serial_number,
        fwid=_fwid(extensions, what),  # 4
    )


def serial_digits(serial: int) -> str:
    """Returns a serial number as subjects of device certificates spell it: upper-case hex of whole bytes."""
    return serial.to_bytes((serial.bit_length() + 7) // 8, "big").hex().upper()


def check_issuers(certificates: Sequence[x509.Certificate], chip: str) -> None:
    """Checks that boot ROM and provisioner are of the chip that the leaf names.

    A device's own key can sign whatever name; what the factory signed says which kind of device it is.

    Raises:
        EncodingError: If a subject has no common name.
        PlatformError: If one of them is of another kind of device.
    """
    for position, name, word in ((1, "boot ROM", 0), (2, "provisioner", 1)):
        what = f"GPU certificate chain, certificate {position}"
        common_name = _attribute(certificates[position], x509.NameOID.COMMON_NAME, what)
        if common_name.split(" ")[word : word + 1] != [chip]:
            raise PlatformError(f"{what}: expected the {name} of a {chip}, got {common_name!r}")


def _attribute(certificate: x509.Certificate, oid: x509.ObjectIdentifier, what: str) -> str:
    try:
        found = [str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(oid)]
    except certificate_bytes.FOREIGN_ERRORS as error:
        raise EncodingError(f"{what}: its subject cannot be read: {error}") from error
    if len(found) != 1:
        raise EncodingError(f"{what}: expected one {oid.dotted_string} in the subject, got {len(found)}")
    return found[0]


def _extensions(certificate: x509.Certificate, what: str) -> x509.Extensions:
    try:
        return certificate.extensions
    except certificate_bytes.FOREIGN_ERRORS as error:
        raise EncodingError(f"{what}: its extensions cannot be read: {error}") from error


def _device_name(extensions: x509.Extensions, what: str) -> tuple[str, str]:
    """Step 1: identity and chip."""
    try:
        names = list(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound as error:
        raise EncodingError(f"{what}: subject alternative name: {error}") from error
    if len(names) != 1 or not isinstance(names[0], x509.OtherName):
        raise EncodingError(f"{what}: expected one device name, got {len(names)} alternative names")
    if names[0].type_id.dotted_string != DEVICE_ID:
        raise EncodingError(
            f"{what}: expected a device name ({DEVICE_ID}), got {names[0].type_id.dotted_string}"
        )
    content = der.expect(der.read(names[0].value, what=f"{what}: device name"), UTF8_STRING, what=what)
    found = _DEVICE.fullmatch(content.decode("utf-8", "replace"))
    if found is None:
        raise EncodingError(f"{what}: expected a device name NVIDIA:CHIP:ID, got {content[:80]!r}")
    return found.group(0), found.group(1)


def _fwid(extensions: x509.Extensions, what: str) -> bytes:
    """Step 4."""
    found = {
        extension.oid.dotted_string: extension.value.public_bytes()
        for extension in extensions
        if extension.oid.dotted_string in (TCG_DICE_FWID, TCG_DICE_TCB_INFO)
    }
    if len(found) != 1:
        raise EncodingError(f"{what}: expected one extension with the firmware's digest, got {len(found)}")
    ((name, value),) = found.items()
    what = f"{what}: extension {name}"
    element = der.read(value, what=what)
    if name == TCG_DICE_FWID:
        version, _, digest = der.row(element, _FWID_PARTS, what=what)
        if der.read_integer(version, what=what) != _VERSION_1:
            raise EncodingError(f"{what}: expected version {_VERSION_1}")
        return _sha384(digest, what)
    der.expect(element, der.SEQUENCE, what=what)
    lists = [part for part in der.children(element, what=what) if part.tag == FWIDS_TAG]
    if len(lists) != 1 or not lists[0].content:
        raise EncodingError(f"{what}: expected one list of firmware digests")
    return _sha384(der.children(lists[0], what=what)[0], what)


def _sha384(element: der.Element, what: str) -> bytes:
    """Returns the digest of a pair {algorithm, digest}, which must be SHA-384."""
    algorithm, digest = der.row(element, 2, what=what)
    octets = der.expect(digest, der.OCTET_STRING, what=what)
    if algorithm.encoded != der.write_oid(SHA384) or len(octets) != FWID_BYTES:
        raise EncodingError(f"{what}: expected a SHA-384 digest of {FWID_BYTES} bytes")
    return octets
