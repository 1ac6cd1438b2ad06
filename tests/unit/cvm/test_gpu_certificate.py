"""What a GPU's leaf says about its device, and leaves that say it in another way."""

from __future__ import annotations

from typing import Any

import gpu_world
import pytest
from cryptography import x509

from palm_torch.cvm import certificate_bytes, der, gpu_certificate, simulated_gpu_authority
from palm_torch.cvm.simulated_gpu_authority import FWID
from palm_torch.errors import EncodingError, PlatformError

OID = der.write_oid(gpu_certificate.SHA384)
DIGEST = der.write(der.SEQUENCE, OID, der.write(der.OCTET_STRING, FWID))


def load(data: bytes) -> x509.Certificate:
    return certificate_bytes.load_certificate(data, what="x", algorithms=certificate_bytes.NVIDIA)


def leaf(**changes: Any) -> x509.Certificate:
    return load(gpu_certificate.split_chain(gpu_world.leaf_chain(**changes))[0])


def with_extensions(*extensions: x509.ExtensionType, names: int = 1) -> x509.Certificate:
    """Returns a leaf with extensions of the standard's; `names` of 2 doubles the common name."""
    attributes = [x509.NameAttribute(x509.NameOID.COMMON_NAME, "GH100 A01")] * names
    attributes.append(x509.NameAttribute(x509.NameOID.SERIAL_NUMBER, "05"))
    issuer = gpu_world.authority().root
    builder = (
        x509.CertificateBuilder()
        .issuer_name(issuer.certificate.subject)
        .subject_name(x509.Name(attributes))
        .public_key(issuer.key.public_key())
        .serial_number(5)
        .not_valid_before(gpu_world.START)
        .not_valid_after(gpu_world.NOW)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(issuer.key, simulated_gpu_authority.hashes.SHA384())


@pytest.mark.parametrize(("architecture", "chip"), [("HOPPER", "GH100"), ("BLACKWELL", "GB100")])
def test_both_forms_are_read(architecture: Any, chip: str) -> None:
    certificate = leaf(architecture=architecture)
    assert gpu_certificate.read_device(certificate) == gpu_certificate.GpuDevice(
        architecture=architecture,
        chip=chip,
        chip_id=f"NVIDIA:{chip}:0123456789ABCDEF",
        serial=certificate.serial_number,
        fwid=FWID,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"common_name": "GB100 A01 GSP FMC LF"}, "expected a common name that begins with GH100"),
        ({"device_name": "NVIDIA:GH100:0123456789abcdef"}, "expected a device name NVIDIA:CHIP:ID"),
        ({"device_name": "AMD:GH100:0123456789ABCDEF"}, "expected a device name NVIDIA:CHIP:ID"),
        ({"device_name": "NVIDIA:GH100:0123456789ABCDEF\n"}, "expected a device name NVIDIA:CHIP:ID"),
        ({"subject_serial": 7}, "expected serial number .* in the subject, got '07'"),
        ({"extensions": {}}, "expected one extension with the firmware's digest, got 0"),
        (
            {
                "extensions": {
                    gpu_certificate.TCG_DICE_FWID: b"\x05\x00",
                    gpu_certificate.TCG_DICE_TCB_INFO: b"\x05\x00",
                }
            },
            "expected one extension with the firmware's digest, got 2",
        ),
    ],
)
def test_other_words(change: dict[str, Any], message: str) -> None:
    with pytest.raises(EncodingError, match=message):
        gpu_certificate.read_device(leaf(**change))


@pytest.mark.parametrize(
    ("oid", "value", "message"),
    [
        (gpu_certificate.TCG_DICE_FWID, der.write(der.SEQUENCE, DIGEST), "expected 3 DER elements, got 1"),
        (
            gpu_certificate.TCG_DICE_FWID,
            der.write(der.SEQUENCE, der.write_integer(2), DIGEST, DIGEST),
            "expected version 1",
        ),
        (
            gpu_certificate.TCG_DICE_FWID,
            der.write(der.SEQUENCE, der.write_integer(1), DIGEST, DIGEST) + b"\x05\x00",
            "2 bytes after the DER element",
        ),
        (
            gpu_certificate.TCG_DICE_FWID,
            der.write(
                der.SEQUENCE,
                der.write_integer(1),
                DIGEST,
                der.write(der.SEQUENCE, der.write_oid("1.2.3"), der.write(der.OCTET_STRING, FWID)),
            ),
            "expected a SHA-384 digest of 48 bytes",
        ),
        (
            gpu_certificate.TCG_DICE_FWID,
            der.write(
                der.SEQUENCE,
                der.write_integer(1),
                DIGEST,
                der.write(der.SEQUENCE, OID, der.write(der.OCTET_STRING, FWID[1:])),
            ),
            "expected a SHA-384 digest of 48 bytes",
        ),
        (gpu_certificate.TCG_DICE_TCB_INFO, der.write(der.SET, b""), "expected DER tag 0x30"),
        (gpu_certificate.TCG_DICE_TCB_INFO, der.write(der.SEQUENCE), "expected one list of firmware digests"),
        (
            gpu_certificate.TCG_DICE_TCB_INFO,
            der.write(der.SEQUENCE, der.write(gpu_certificate.FWIDS_TAG)),
            "expected one list of firmware digests",
        ),
        (
            gpu_certificate.TCG_DICE_TCB_INFO,
            der.write(der.SEQUENCE, *[der.write(gpu_certificate.FWIDS_TAG, DIGEST)] * 2),
            "expected one list of firmware digests",
        ),
    ],
)
def test_other_forms_of_the_digest(oid: str, value: bytes, message: str) -> None:
    with pytest.raises(EncodingError, match=message):
        gpu_certificate.read_device(leaf(extensions={oid: value}))


@pytest.mark.parametrize(
    ("extensions", "names", "message"),
    [
        ((), 1, "subject alternative name: No"),
        ((), 2, "expected one 2.5.4.3 in the subject, got 2"),
        ((), 0, "expected one 2.5.4.3 in the subject, got 0"),
        ((x509.SubjectAlternativeName([x509.DNSName("a")]),), 1, "expected one device name, got 1"),
        (
            (
                x509.SubjectAlternativeName(
                    [x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x0c\x01a")] * 2
                ),
            ),
            1,
            "expected one device name, got 2",
        ),
        (
            (x509.SubjectAlternativeName([x509.OtherName(x509.ObjectIdentifier("1.2.3"), b"\x0c\x01a")]),),
            1,
            "expected a device name .*, got 1.2.3",
        ),
    ],
)
def test_other_names(extensions: tuple[x509.ExtensionType, ...], names: int, message: str) -> None:
    with pytest.raises(EncodingError, match=message):
        gpu_certificate.read_device(with_extensions(*extensions, names=names))


def test_an_unknown_chip() -> None:
    certificate = leaf(common_name="GX200 A01", device_name="NVIDIA:GX200:0123456789ABCDEF")
    with pytest.raises(PlatformError, match=r"expected a GPU of the kinds GH100, GB100, got .* GX200"):
        gpu_certificate.read_device(certificate)


@pytest.mark.parametrize(("position", "name"), [(1, "boot ROM"), (2, "provisioner")])
def test_issuers_of_another_chip(position: int, name: str) -> None:
    hopper, blackwell = (
        [load(part) for part in gpu_certificate.split_chain(gpu_world.authority(kind).chips[0].chain)]
        for kind in ("HOPPER", "BLACKWELL")
    )
    gpu_certificate.check_issuers(hopper, "GH100")
    hopper[position] = blackwell[position]
    with pytest.raises(PlatformError, match=f"certificate {position}: expected the {name} of a GH100"):
        gpu_certificate.check_issuers(hopper, "GH100")


def test_a_chain_that_is_too_long() -> None:
    with pytest.raises(EncodingError, match="expected at most 5120 bytes, got 5121"):
        gpu_certificate.split_chain(bytes(5121))


def test_serial_numbers_have_whole_bytes() -> None:
    assert [gpu_certificate.serial_digits(number) for number in (5, 0xABC)] == ["05", "0ABC"]


def test_a_subject_that_cannot_be_read() -> None:
    encoded, *_ = gpu_certificate.split_chain(gpu_world.leaf_chain())
    at = encoded.rindex(b"\x0c\x14GH100 A01 GSP FMC LF")
    with pytest.raises(EncodingError, match="GPU certificate: its subject cannot be read"):
        gpu_certificate.read_device(load(encoded[:at] + b"\x8c" + encoded[at + 1 :]))


def test_extensions_that_cannot_be_read() -> None:
    encoded, *_ = gpu_certificate.split_chain(gpu_world.leaf_chain())
    at = encoded.rindex(b"\x0c\x1dNVIDIA:GH100:") - 18
    name = encoded.index(b"\xa0", at)  # the one alternative name
    with pytest.raises(EncodingError, match="GPU certificate: its extensions cannot be read"):
        gpu_certificate.read_device(load(encoded[:name] + b"\xaf" + encoded[name + 1 :]))
