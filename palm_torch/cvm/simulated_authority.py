"""The simulated vendor: a root of its own, and every key and certificate that Intel would hold.

Formats are the real ones, so that the verifier needs no second path; trust is not: the root is made on the
machine that uses it, says "SIMULATED - NOT A TEE" in its subject, and is no one's default.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from palm_torch.cvm import certificates, der, pck

FMSPC: Final = b"SIMULA"
PCE_ID: Final = bytes(pck.PCE_ID_BYTES)
SGX_COMPONENTS: Final = (2, 2, 2, 2, 3, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0)
"""Security versions of the simulated platform, one for each of the 16 components."""

PCE_SVN: Final = 11

_ROOT_YEARS: Final = 30
_OTHER_YEARS: Final = 20
_DAYS_PER_YEAR: Final = 365
_DISTRIBUTION_POINT: Final = "https://simulated.invalid/crl"
_SGX_TYPE_SCALABLE: Final = 1
_TRUE: Final = b"\xff"


@dataclass(frozen=True, slots=True)
class Identity:
    """A private key with the certificate of its public half."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        """The certificate's DER."""
        return self.certificate.public_bytes(Encoding.DER)


@dataclass(frozen=True, slots=True)
class Authority:
    """Everything one simulated platform and its vendor own.

    Attributes:
        root: Self-signed; the trust anchor.
        pck_ca: Issues PCK certificates and their revocation list.
        pck: The platform's provisioning certification key.
        tcb_signer: Signs TCB info and QE identity.
        attestation_key: The quoting enclave's key.
    """

    root: Identity
    pck_ca: Identity
    pck: Identity
    tcb_signer: Identity
    attestation_key: ec.EllipticCurvePrivateKey


def make_authority(now: datetime) -> Authority:
    """Makes all keys and certificates anew, valid from a day before `now`.

    The platform provisioning id is random: two simulated platforms are two platforms.
    """
    start = now - timedelta(days=1)
    root = _identity("Simulated SGX Root CA", None, start, years=_ROOT_YEARS, path_length=1)
    pck_ca = _identity("Simulated SGX PCK Platform CA", root, start, path_length=0)
    extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(pck.SGX_EXTENSION), _sgx_extension())
    return Authority(
        root=root,
        pck_ca=pck_ca,
        pck=_identity("Simulated SGX PCK Certificate", pck_ca, start, extra=extension),
        tcb_signer=_identity("Simulated SGX TCB Signing", root, start),
        attestation_key=new_key(),
    )


def new_key() -> ec.EllipticCurvePrivateKey:
    """Returns a new P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def _identity(
    common_name: str,
    issuer: Identity | None,
    start: datetime,
    *,
    years: int = _OTHER_YEARS,
    path_length: int | None = None,
    extra: x509.ExtensionType | None = None,
) -> Identity:
    """Makes a key and its certificate; a CA where `path_length` is given, self-signed without an issuer."""
    key = new_key()
    subject = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, certificates.SIMULATED_ORGANISATION),
        ]
    )
    signing_key = issuer.key if issuer else key
    is_ca = path_length is not None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=_DAYS_PER_YEAR * years))
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False
        )
        .add_extension(x509.CRLDistributionPoints([_distribution_point()]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_key_usage(is_ca=is_ca), critical=True)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=path_length), critical=True)
    )
    if extra is not None:
        builder = builder.add_extension(extra, critical=False)
    return Identity(key, builder.sign(signing_key, hashes.SHA256()))


def _key_usage(*, is_ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=not is_ca,
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


def _sgx_extension() -> bytes:
    """Returns Intel's extension about the platform, DER, with all seven parts a scalable platform has."""
    components = [
        _field(f"{pck.TCB}.{number}", der.write_integer(svn)) for number, svn in enumerate(SGX_COMPONENTS, 1)
    ]
    tcb = der.write(
        der.SEQUENCE,
        *components,
        _field(f"{pck.TCB}.17", der.write_integer(PCE_SVN)),
        _field(f"{pck.TCB}.18", der.write(der.OCTET_STRING, bytes(SGX_COMPONENTS))),
    )
    flags = [_field(f"{pck.CONFIGURATION}.{number}", der.write(der.BOOLEAN, _TRUE)) for number in (1, 2, 3)]
    return der.write(
        der.SEQUENCE,
        _field(pck.PPID, der.write(der.OCTET_STRING, secrets.token_bytes(pck.PPID_BYTES))),
        _field(pck.TCB, tcb),
        _field(pck.PCE_ID, der.write(der.OCTET_STRING, PCE_ID)),
        _field(pck.FMSPC, der.write(der.OCTET_STRING, FMSPC)),
        _field(pck.SGX_TYPE, der.write_integer(_SGX_TYPE_SCALABLE, tag=der.ENUMERATED)),
        _field(pck.PLATFORM_INSTANCE_ID, der.write(der.OCTET_STRING, secrets.token_bytes(16))),
        _field(pck.CONFIGURATION, der.write(der.SEQUENCE, *flags)),
    )


def _field(name: str, value: bytes) -> bytes:
    return der.write(der.SEQUENCE, der.write_oid(name), value)
