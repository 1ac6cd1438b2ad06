"""The simulated AMD: an ARK, an ASK and a chip of its own, with their certificates.

Formats are the real ones, so that the verifier needs no second path; trust is not: the root is made on the
machine that uses it, says "SIMULATED - NOT A TEE" in its subject, and is no one's default.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from palm_torch.cvm import certificate_bytes, certificates, der, snp_report, vcek

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

PRODUCT: Final = "Simulated"
TCB: Final = snp_report.TcbVersion(boot_loader=3, tee=0, snp=8, microcode=115)
"""Security versions of the simulated platform."""

_RSA_EXPONENT: Final = 65537
_RSA_BITS: Final = 4096
_SALT_BYTES: Final = 48
_CA_YEARS: Final = 25
_CHIP_YEARS: Final = 7
_DAYS_PER_YEAR: Final = 365
_CRL_AGE: Final = timedelta(hours=1)
_CRL_LIFE: Final = timedelta(days=30)
_PSS: Final = padding.PSS(padding.MGF1(hashes.SHA384()), _SALT_BYTES)


@dataclass(frozen=True, slots=True)
class Issuer:
    """A certificate authority: its key with the certificate of its public half."""

    key: rsa.RSAPrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        """The certificate's DER."""
        return self.certificate.public_bytes(Encoding.DER)


@dataclass(frozen=True, slots=True)
class Authority:
    """Everything the simulated vendor and one of its chips own.

    Attributes:
        ark: Self-signed; the trust anchor.
        ask: Issues the certificates of chips.
        vcek_key: The chip's key, P-384.
        vcek: Its certificate.
    """

    ark: Issuer
    ask: Issuer
    vcek_key: ec.EllipticCurvePrivateKey
    vcek: x509.Certificate

    @property
    def chain(self) -> tuple[bytes, bytes, bytes]:
        """VCEK, ASK and ARK, DER."""
        return self.vcek.public_bytes(Encoding.DER), self.ask.der, self.ark.der


def make_authority(now: datetime) -> Authority:
    """Makes all keys and certificates anew, valid from a day before `now`; it takes a second or two.

    The chip's identity is random: two simulated chips are two chips.
    """
    start = now - timedelta(days=1)
    ark = make_issuer(f"ARK-{PRODUCT}", None, start)
    ask = make_issuer(f"SEV-{PRODUCT}", ark, start)
    key = ec.generate_private_key(ec.SECP384R1())
    extensions = make_extensions(hardware_id=secrets.token_bytes(snp_report.CHIP_ID_BYTES))
    return Authority(ark, ask, key, make_leaf("SEV-VCEK", key.public_key(), ask, start, extensions))


def make_issuer(
    common_name: str, issuer: Issuer | None, start: datetime, *, key: rsa.RSAPrivateKey | None = None
) -> Issuer:
    """Makes a CA, self-signed without an issuer, with a new key unless one is given."""
    key = key or rsa.generate_private_key(_RSA_EXPONENT, _RSA_BITS)
    builder = (
        _builder(common_name, issuer, start, _CA_YEARS)
        .public_key(key.public_key())
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.BasicConstraints(ca=True, path_length=None if issuer is None else 0), critical=True
        )
        .add_extension(_ca_usage(crl_sign=issuer is None), critical=True)
    )
    signing_key = issuer.key if issuer else key
    return Issuer(key, builder.sign(signing_key, hashes.SHA384(), rsa_padding=_PSS))


def make_leaf(
    common_name: str,
    key: ec.EllipticCurvePublicKey,
    issuer: Issuer,
    start: datetime,
    extensions: Mapping[str, bytes],
) -> x509.Certificate:
    """Makes the certificate of a report-signing key; as AMD's, with its own extensions alone and no number.

    Like AMD's it has the serial number 0, which `cryptography` reads and does not write.
    """
    builder = _builder(common_name, issuer, start, _CHIP_YEARS).public_key(key)
    for name, value in extensions.items():
        extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(name), value)
        builder = builder.add_extension(extension, critical=False)
    numbered = builder.sign(issuer.key, hashes.SHA384(), rsa_padding=_PSS)
    what = "simulated leaf certificate"
    signed, algorithm, _ = der.row(der.read(numbered.public_bytes(Encoding.DER), what=what), 3, what=what)
    version, _, *rest = (field.encoded for field in der.children(signed, what=what))
    fields = der.write(der.SEQUENCE, version, der.write_integer(0), *rest)
    signature = der.write(der.BIT_STRING, b"\x00", issuer.key.sign(fields, _PSS, hashes.SHA384()))
    return certificate_bytes.load_certificate(
        der.write(der.SEQUENCE, fields, algorithm.encoded, signature),
        what=what,
        algorithms=certificate_bytes.AMD,
        zero_serial=True,
    )


def make_extensions(
    *, hardware_id: bytes | None = None, csp_id: str | None = None, tcb: snp_report.TcbVersion = TCB
) -> dict[str, bytes]:
    """Returns AMD's extensions, identifier → value.

    Args:
        hardware_id: Identity of the chip, 64 bytes: for a VCEK.
        csp_id: Identity of the cloud provider: for a VLEK.
        tcb: Security versions that the key stands for.
    """
    found = {
        vcek.STRUCT_VERSION: der.write_integer(0),
        vcek.PRODUCT_NAME: der.write(vcek.IA5_STRING, PRODUCT.encode("ascii")),
    }
    found |= {f"{vcek.TCB}.{arc}": der.write_integer(0) for arc in vcek.SPARE_COMPONENTS}
    for name, arc in vcek.TCB_COMPONENTS.items():
        found[f"{vcek.TCB}.{arc}"] = der.write_integer(getattr(tcb, name))
    if hardware_id is not None:
        found[vcek.HARDWARE_ID] = hardware_id
    if csp_id is not None:
        found[vcek.CSP_ID] = der.write(vcek.IA5_STRING, csp_id.encode("ascii"))
    return found


def make_crl(issuer: Issuer, now: datetime, revoked: Sequence[x509.Certificate] = ()) -> bytes:
    """Returns an issuer's revocation list, DER: an hour old, valid for 30 days."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now - _CRL_AGE)
        .next_update(now + _CRL_LIFE)
        .add_extension(x509.CRLNumber(1), critical=False)
    )
    for certificate in revoked:
        entry = x509.RevokedCertificateBuilder(certificate.serial_number, now - _CRL_AGE)
        builder = builder.add_revoked_certificate(entry.build())
    signed = builder.sign(issuer.key, hashes.SHA384(), rsa_padding=_PSS)
    return signed.public_bytes(Encoding.DER)


def _builder(common_name: str, issuer: Issuer | None, start: datetime, years: int) -> x509.CertificateBuilder:
    subject = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, certificates.SIMULATED_ORGANISATION),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name),
        ]
    )
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=_DAYS_PER_YEAR * years))
    )


def _ca_usage(*, crl_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
