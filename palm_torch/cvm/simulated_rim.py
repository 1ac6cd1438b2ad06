"""The simulated maker's reference measurements: its own signers, and manifests in the real format.

Formats are the real ones, so that the verifier needs no second path; trust is not: the root is made on the
machine that uses it, says "SIMULATED - NOT A TEE" in its subject, and is no one's default.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import AuthorityInformationAccessOID

from palm_torch.cvm import certificates, rim, rim_signature, simulated_gpu_authority
from palm_torch.cvm.simulated_authority import Identity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

SIGNER_LIFE: Final = timedelta(days=730)
"""How long a signer of measurements may sign; the real ones have two years as well."""

_OCSP: Final = "http://ocsp.simulated.invalid"
_NOTHING: Final = bytes(rim.MEASUREMENT_BYTES)


@dataclass(frozen=True, slots=True)
class RimAuthority:
    """Who signs the simulated maker's reference measurements.

    Attributes:
        root: Self-signed; the trust anchor, another one than that of the GPUs.
        family: Issues `product`.
        product: Issues signers.
        signer: Signs manifests.
    """

    root: Identity
    family: Identity
    product: Identity
    signer: Identity

    @property
    def chain(self) -> tuple[bytes, ...]:
        """The signer's certificates, DER, leaf first, root last."""
        return self.signer.der, self.product.der, self.family.der, self.root.der


def make_authority(now: datetime) -> RimAuthority:
    """Makes all keys and certificates anew, valid from a day before `now`."""
    start = now - timedelta(days=1)
    root = simulated_gpu_authority.make_issuer("Simulated CoRIM signing Root CA", None, start)
    family = simulated_gpu_authority.make_issuer("Simulated Reference Value GH100 CA", root, start)
    product = simulated_gpu_authority.make_issuer("Simulated Reference Value L3 GH100", family, start)
    return RimAuthority(root, family, product, make_signer("Simulated RIM L4 Signer", product, start))


def make_signer(
    common_name: str,
    issuer: Identity,
    start: datetime,
    *,
    uses: Sequence[x509.ObjectIdentifier] = (),
    life: timedelta = SIGNER_LIFE,
) -> Identity:
    """Makes one who signs data, not certificates.

    Args:
        common_name: Name in the subject.
        issuer: Who signs the certificate.
        start: Time from which on it is valid.
        uses: What it may be used for (extended key usage); nothing said by default.
        life: How long it is valid.
    """
    key = simulated_gpu_authority.new_key()
    subject = x509.Name(
        [
            x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, certificates.SIMULATED_ORGANISATION),
        ]
    )
    service = x509.AccessDescription(
        AuthorityInformationAccessOID.OCSP, x509.UniformResourceIdentifier(_OCSP)
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(), critical=True)
        .add_extension(x509.AuthorityInformationAccess([service]), critical=False)
    )
    if uses:
        builder = builder.add_extension(x509.ExtendedKeyUsage(uses), critical=False)
    return Identity(key, builder.sign(issuer.key, hashes.SHA384()))


def make_rim(
    authority: RimAuthority,
    *,
    version: str,
    golden: Mapping[int, Sequence[bytes]],
    product: str = "GH100",
) -> bytes:
    """Returns a signed manifest, XML.

    Args:
        authority: Who signs it.
        version: Of the driver ("550.144.03") or of the firmware image ("96.00.5E.00.01").
        golden: Index → the values that a report may have there, 48 bytes each; all other indices are
            written as inactive.
        product: The chip.
    """
    document = make_document(version=version, golden=golden, product=product)
    return rim_signature.sign(document, key=authority.signer.key, chain=authority.chain)


def make_document(
    *,
    version: str,
    golden: Mapping[int, Sequence[bytes]],
    product: str = "GH100",
    edition: str = rim.EDITION,
    manufacturer: str = rim.MANUFACTURER,
) -> bytes:
    """Returns a manifest without its signature: the arguments of `make_rim`, and what tests bend."""
    resources = "".join(
        _resource(index, golden.get(index, (_NOTHING,)), active=index in golden)
        for index in range(rim.MAX_MEASUREMENTS)
    )
    swid, sha384, information = (name.strip("{}") for name in (rim.SWID, rim.SHA384, rim.RIM))
    tag_id = hashlib.sha384(f"{product} {version}".encode()).hexdigest()
    owner = f'"{certificates.SIMULATED_ORGANISATION}"'
    return (
        f'<SoftwareIdentity xmlns="{swid}" xmlns:ns0="{swid}" xmlns:ns2="{sha384}" corpus="false" '
        f'name="{product}" patch="false" supplemental="false" tagId="{tag_id}" version="1.0" '
        f'tagVersion="0">\n'
        f'    <ns0:Entity name={owner} role="softwareCreator tagCreator"/>\n'
        f'    <ns0:Meta xmlns:ns1="{information}" colloquialVersion="{version}" edition="{edition}" '
        f'product="{product}" revision="r1" PayloadType="direct" ns1:BindingSpec="RIMIM" '
        f'ns1:BindingSpecVersion="1.01" ns1:PlatformManufacturerId="{manufacturer}" '
        f"ns1:PlatformManufacturerStr={owner} "
        f'ns1:PlatformModel="{product}" ns1:FirmwareManufacturer={owner} '
        f'ns1:FirmwareManufacturerId="{manufacturer}"/>\n'
        f'    <ns0:Payload xmlns:SHA384="{sha384}">\n{resources}    </ns0:Payload>\n</SoftwareIdentity>'
    ).encode("ascii")


def _resource(index: int, values: Sequence[bytes], *, active: bool) -> str:
    alternatives = "".join(f' ns2:Hash{number}="{value.hex()}"' for number, value in enumerate(values))
    return (
        f'        <ns0:Resource type="Measurement" index="{index}" active="{active}" '
        f'alternatives="{len(values)}"{alternatives} name="Measurement_{index}" '
        f'size="{rim.MEASUREMENT_BYTES}"/>\n'
    )


def _usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
