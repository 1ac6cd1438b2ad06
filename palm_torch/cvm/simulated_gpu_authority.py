"""The simulated maker of GPUs: a root, a family, a provisioner, and chips with their certificates.

Formats are the real ones, so that the verifier needs no second path; trust is not: the root is made on the
machine that uses it, says "SIMULATED - NOT A TEE" in its subject, and is no one's default.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID

from palm_torch.cvm import certificates, der, gpu_certificate, gpu_names
from palm_torch.cvm.simulated_authority import Identity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

CHIPS: Final = 8
"""How many chips a maker has made: as many as one machine holds."""

FWID: Final = hashlib.sha384(b"palm-torch simulated GPU: firmware").digest()
"""Digest of the simulated firmware that holds the chips' keys."""

_YEARS: Final = 30
_DAYS_PER_YEAR: Final = 365
_CRL_AGE: Final = timedelta(hours=1)
_CRL_LIFE: Final = timedelta(days=30)
_DISTRIBUTION_POINT: Final = "http://crl.simulated.invalid/crl"
_OCSP: Final = "http://ocsp.simulated.invalid"
_CHIP_OF: Final = {architecture: chip for chip, architecture in gpu_names.CHIPS.items()}


@dataclass(frozen=True, slots=True)
class Chip:
    """One GPU.

    Attributes:
        key: What its firmware signs reports with, P-384.
        chain: Its certificates, DER, leaf first, one after the other.
    """

    key: ec.EllipticCurvePrivateKey
    chain: bytes


@dataclass(frozen=True, slots=True)
class Authority:
    """Everything that the simulated maker and its GPUs own.

    Attributes:
        root: Self-signed; the trust anchor.
        family: Issues provisioners.
        provisioner: Issues the certificates of boot ROMs.
        chips: The GPUs.
    """

    root: Identity
    family: Identity
    provisioner: Identity
    chips: tuple[Chip, ...]


def make_authority(
    now: datetime, *, count: int = CHIPS, architecture: gpu_names.Architecture = "HOPPER"
) -> Authority:
    """Makes all keys and certificates anew, valid from a day before `now`.

    Identities of chips are random: two simulated chips are two chips.

    Args:
        now: The current time, aware.
        count: How many chips to make.
        architecture: Their generation.
    """
    start = now - timedelta(days=1)
    name = _CHIP_OF[architecture]
    root = make_issuer("Simulated Device Identity CA", None, start)
    family = make_issuer(f"Simulated {name} Identity", root, start)
    provisioner = make_issuer(f"Simulated {name} Provisioner ICA 1", family, start)
    above = (provisioner, family, root)
    chips = tuple(make_chip(above, start, architecture=architecture) for _ in range(count))
    return Authority(root, family, provisioner, chips)


def make_issuer(common_name: str, issuer: Identity | None, start: datetime) -> Identity:
    """Makes a CA with a key of its own; self-signed without an issuer."""
    key = new_key()
    builder = _builder(_subject(common_name), issuer, start, key, is_ca=True)
    if issuer is not None:
        builder = builder.add_extension(x509.CRLDistributionPoints([_distribution_point()]), critical=False)
        builder = builder.add_extension(x509.AuthorityInformationAccess([_ocsp()]), critical=False)
    return Identity(key, builder.sign(issuer.key if issuer else key, hashes.SHA384()))


def make_chip(
    above: Sequence[Identity], start: datetime, *, architecture: gpu_names.Architecture = "HOPPER"
) -> Chip:
    """Makes a chip: a boot ROM with its certificate, and the firmware's key with the boot ROM's certificate.

    Args:
        above: Provisioner, family and root.
        start: Time from which on they are valid.
        architecture: Its generation.
    """
    name = _CHIP_OF[architecture]
    boot_rom = new_key()
    serial = x509.random_serial_number()
    subject = _subject(f"{name} A01 GSP BROM", serial)
    certificate = _builder(subject, above[0], start, boot_rom, is_ca=True, serial=serial).sign(
        above[0].key, hashes.SHA384()
    )
    issuer = Identity(boot_rom, certificate)
    key = new_key()
    leaf = make_leaf(
        key,
        issuer,
        start,
        common_name=f"{name} A01 GSP FMC LF",
        device_name=f"NVIDIA:{name}:{secrets.token_hex(8).upper()}",
        extensions=make_fwid(key, architecture=architecture),
    )
    return Chip(key, b"".join((leaf, issuer.der, *(identity.der for identity in above))))


def make_leaf(
    key: ec.EllipticCurvePrivateKey,
    issuer: Identity,
    start: datetime,
    *,
    common_name: str,
    device_name: str,
    extensions: Mapping[str, bytes],
    subject_serial: int | None = None,
) -> bytes:
    """Returns the certificate of firmware's key, DER; like NVIDIA's it has no basic constraints.

    Args:
        key: The firmware's key.
        issuer: The boot ROM.
        start: Time from which on it is valid.
        common_name: Name in its subject.
        device_name: Name of the device, beside the subject.
        extensions: Identifier → value of further extensions, such as `make_fwid` makes.
        subject_serial: Serial number in its subject; by default that of the certificate.
    """
    serial = x509.random_serial_number()
    subject = _subject(common_name, serial if subject_serial is None else subject_serial)
    name = x509.OtherName(
        x509.ObjectIdentifier(gpu_certificate.DEVICE_ID),
        der.write(gpu_certificate.UTF8_STRING, device_name.encode()),
    )
    builder = _builder(subject, issuer, start, key, is_ca=False, serial=serial).add_extension(
        x509.SubjectAlternativeName([name]), critical=False
    )
    for oid, value in extensions.items():
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(issuer.key, hashes.SHA384()).public_bytes(Encoding.DER)


def make_fwid(
    key: ec.EllipticCurvePrivateKey,
    *,
    fwid: bytes = FWID,
    architecture: gpu_names.Architecture = "HOPPER",
) -> dict[str, bytes]:
    """Returns the extension with the digest of the firmware that holds a key, in an architecture's form."""
    digest = der.write(der.SEQUENCE, der.write_oid(gpu_certificate.SHA384), der.write(der.OCTET_STRING, fwid))
    if architecture == "HOPPER":
        spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        value = der.write(der.SEQUENCE, der.write_integer(1), spki, digest)
        return {gpu_certificate.TCG_DICE_FWID: value}
    none = der.write(
        der.SEQUENCE, der.write_oid(gpu_certificate.SHA384), der.write(der.OCTET_STRING, bytes(len(fwid)))
    )
    value = der.write(
        der.SEQUENCE,
        der.write(der.CONTEXT, b"NVIDIA"),
        der.write(der.CONTEXT | 1, b"GB100 A01 GSP"),
        der.write(der.CONTEXT | 2, b"01"),
        der.write_integer(1, tag=der.CONTEXT | 3),
        der.write_integer(1, tag=der.CONTEXT | 4),
        der.write_integer(0, tag=der.CONTEXT | 5),
        der.write(gpu_certificate.FWIDS_TAG, digest, none),
    )
    return {gpu_certificate.TCG_DICE_TCB_INFO: value}


def make_crl(issuer: Identity, now: datetime, revoked: Sequence[x509.Certificate] = ()) -> bytes:
    """Returns an issuer's revocation list, DER: an hour old, valid for 30 days; what it names is on hold."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now - _CRL_AGE)
        .next_update(now + _CRL_LIFE)
        .add_extension(x509.CRLNumber(1), critical=False)
    )
    for certificate in revoked:
        entry = x509.RevokedCertificateBuilder(certificate.serial_number, now - _CRL_AGE).add_extension(
            x509.CRLReason(x509.ReasonFlags.certificate_hold), critical=False
        )
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(issuer.key, hashes.SHA384()).public_bytes(Encoding.DER)


def new_key() -> ec.EllipticCurvePrivateKey:
    """Returns a new P-384 key."""
    return ec.generate_private_key(ec.SECP384R1())


def _subject(common_name: str, serial: int | None = None) -> x509.Name:
    attributes = [
        x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name),
        x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, certificates.SIMULATED_ORGANISATION),
    ]
    if serial is not None:
        digits = gpu_certificate.serial_digits(serial)
        attributes.append(x509.NameAttribute(x509.NameOID.SERIAL_NUMBER, digits))
    return x509.Name(attributes)


def _builder(
    subject: x509.Name,
    issuer: Identity | None,
    start: datetime,
    key: ec.EllipticCurvePrivateKey,
    *,
    is_ca: bool,
    serial: int | None = None,
) -> x509.CertificateBuilder:
    signing_key = issuer.key if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number() if serial is None else serial)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=_DAYS_PER_YEAR * _YEARS))
    )
    if is_ca:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    return (
        builder.add_extension(_key_usage(is_ca=is_ca), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False
        )
    )


def _key_usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )


def _distribution_point() -> x509.DistributionPoint:
    return x509.DistributionPoint(
        full_name=[x509.UniformResourceIdentifier(_DISTRIBUTION_POINT)],
        relative_name=None,
        reasons=None,
        crl_issuer=None,
    )


def _ocsp() -> x509.AccessDescription:
    return x509.AccessDescription(AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(_OCSP))
