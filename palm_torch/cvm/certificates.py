"""Trust anchors, and the one chain walk that every hardware check uses.

A chain is given leaf first and includes its root, which must be a pinned certificate: a name proves
nothing (a second key named "Intel SGX Root CA" exists). Signatures are checked from the root down, so no
extension is read from a certificate that nobody vouched for. Algorithms are picked by the caller, who names
the vendor's hierarchy, and never by data.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from palm_torch.cvm import certificate_bytes, hierarchies
from palm_torch.errors import EncodingError, InputError, SignatureError, TrustAnchorError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric import ec

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

SIMULATED_ORGANISATION: Final = "SIMULATED - NOT A TEE"
"""Organisation in the subject of every simulated certificate."""

KNOWN_CRITICAL: Final = frozenset({x509.BasicConstraints.oid, x509.KeyUsage.oid})
"""Critical extensions that `check_certificate` understands."""


@dataclass(frozen=True, slots=True)
class TrustAnchor:
    """A root certificate that the verifier's own configuration names.

    Attributes:
        name: What reports call it.
        certificate_sha256: SHA-256 of the certificate's DER, 32 bytes.
        spki_sha256: SHA-256 of its SubjectPublicKeyInfo's DER, 32 bytes.
        simulated: Whether evidence under this root is simulated; never read from evidence.
    """

    name: str
    certificate_sha256: bytes
    spki_sha256: bytes
    simulated: bool

    @classmethod
    def from_certificate(cls, certificate: bytes, *, name: str, simulated: bool = True) -> TrustAnchor:
        """Pins a root certificate given as DER bytes.

        Raises:
            EncodingError: If the bytes are not one canonical certificate.
            TrustAnchorError: If a root that says it is simulated is to be trusted as real.
        """
        parsed = certificate_bytes.load_certificate(
            certificate, what=f"trust anchor {name!r}", algorithms=certificate_bytes.HARDWARE_VENDORS
        )
        try:
            marks = parsed.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)
        except certificate_bytes.FOREIGN_ERRORS as error:
            raise EncodingError(f"trust anchor {name!r}: its subject cannot be read: {error}") from error
        if not simulated and any(mark.value == SIMULATED_ORGANISATION for mark in marks):
            raise TrustAnchorError(f"trust anchor {name!r}: a simulated root cannot be trusted as hardware")
        return cls(name, hashlib.sha256(certificate).digest(), _spki_sha256(parsed), simulated)


INTEL_SGX_ROOT: Final = TrustAnchor(
    name="Intel SGX Root CA",
    certificate_sha256=bytes.fromhex("44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3"),
    spki_sha256=bytes.fromhex("a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e"),
    simulated=False,
)
"""The root of every production SGX and TDX platform, valid 2018-05-21 to 2049-12-31."""

AMD_ARK_MILAN: Final = TrustAnchor(
    name="AMD ARK-Milan",
    certificate_sha256=bytes.fromhex("69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd"),
    spki_sha256=bytes.fromhex("9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9"),
    simulated=False,
)
"""The root of every EPYC 7003 processor, valid 2020-10-22 to 2045-10-22."""

NVIDIA_DEVICE_ROOT: Final = TrustAnchor(
    name="NVIDIA Device Identity CA",
    certificate_sha256=bytes.fromhex("102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48"),
    spki_sha256=bytes.fromhex("a90c4eb5acfd3e3d03a25db6a26b84f720ad0503196c627c21ddd48dd85b06a4"),
    simulated=False,
)
"""The root of every confidential GPU (and NVSwitch), valid 2021-11-05 to 9999-12-31."""

NVIDIA_CORIM_ROOT: Final = TrustAnchor(
    name="NVIDIA CoRIM signing Root CA",
    certificate_sha256=bytes.fromhex("12977b5115acb0381179279fffeb5a8c4d264971ebb32298023a465fa41df5d1"),
    spki_sha256=bytes.fromhex("dec1dc316477aa851eebdf51327ae9f864bc8d89254657ed1e7eb9168af1e1a3"),
    simulated=False,
)
"""The root of the reference measurements of GPUs, valid 2023-03-16 to 2053-03-08."""


@dataclass(frozen=True, slots=True)
class VerifiedChain:
    """A chain that `verify_chain` has walked.

    Attributes:
        certificates: Leaf first, root last.
        anchor: The configured root it leads to.
    """

    certificates: tuple[x509.Certificate, ...]
    anchor: TrustAnchor

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate the chain is about."""
        return self.certificates[0]

    @property
    def root(self) -> x509.Certificate:
        """The pinned certificate."""
        return self.certificates[-1]


def verify_chain(
    chain: Sequence[bytes],
    *,
    anchors: Sequence[TrustAnchor],
    now: datetime,
    what: str,
    hierarchy: hierarchies.Hierarchy = hierarchies.INTEL,
) -> VerifiedChain:
    """Walks a chain from its pinned root down to its leaf.

    1. The last certificate is, byte for byte, one of the anchors; no other certificate gets a say.
    2. Every issuer is a CA with keyCertSign, a key of its kind and room in its path length.
    3. Every certificate was signed by the next one's key and names it as issuer; the root by its own.
    4. Every certificate is valid at `now` and has no critical extension unknown to this library.
    5. The leaf has a key of its kind, is no CA and may sign data.

    Args:
        chain: DER certificates, leaf first, root last; at least two.
        anchors: The roots that the verifier's configuration admits.
        now: Time of verification, aware.
        what: Name of the chain, for messages.
        hierarchy: How the vendor makes its certificates.

    Raises:
        EncodingError: If a certificate does not parse.
        TrustAnchorError: If the chain does not lead to an anchor at that time.
        SignatureError: If a certificate's signature is wrong.

    Source: RFC 5280 section 6.1, without policies and names, which these hierarchies do not use.
    """
    check_time(now)
    if len(chain) < 2:  # noqa: PLR2004 (a leaf and a root)
        raise TrustAnchorError(f"{what}: expected a leaf and its issuers, got {len(chain)} certificates")
    certificates = tuple(
        certificate_bytes.load_certificate(
            certificate,
            what=f"{what}, certificate {position}",
            algorithms=hierarchy.algorithms,
            zero_serial=hierarchy.zero_serial and position == 0,
        )
        for position, certificate in enumerate(chain)
    )
    anchor = _matching_anchor(certificates[-1], chain[-1], anchors, what)  # 1
    hierarchies.public_key(certificates[-1], hierarchy.authority_key, what=f"{what}, root")  # 2
    _check_signature(certificates[-1], certificates[-1], f"{what}, root", "itself")  # 3
    check_certificate(certificates[-1], now, is_ca=True, below=len(chain) - 2, what=f"{what}, root")
    for position in range(len(chain) - 2, -1, -1):
        child, issuer = certificates[position], certificates[position + 1]
        name = f"{what}, certificate {position}"
        _check_signature(child, issuer, name, "the next certificate of its chain")  # 3
        hierarchies.public_key(
            child, hierarchy.authority_key if position else hierarchy.leaf_key, what=name
        )  # 2, 5
        check_certificate(  # 2, 4, 5
            child,
            now,
            is_ca=position > 0,
            below=position - 1,
            what=name,
            may_lack=frozenset() if position else hierarchy.leaf_may_lack,
        )
    return VerifiedChain(certificates, anchor)


def p256_key(certificate: x509.Certificate, *, what: str) -> ec.EllipticCurvePublicKey:
    """Returns a certificate's public key, which must be on the curve P-256.

    Raises:
        TrustAnchorError: If it is of another kind.
    """
    return cast("ec.EllipticCurvePublicKey", hierarchies.public_key(certificate, "P-256", what=what))


def p384_key(certificate: x509.Certificate, *, what: str) -> ec.EllipticCurvePublicKey:
    """Returns a certificate's public key, which must be on the curve P-384.

    Raises:
        TrustAnchorError: If it is of another kind.
    """
    return cast("ec.EllipticCurvePublicKey", hierarchies.public_key(certificate, "P-384", what=what))


def check_certificate(
    certificate: x509.Certificate,
    now: datetime,
    *,
    is_ca: bool,
    below: int,
    what: str,
    known_critical: AbstractSet[x509.ObjectIdentifier] = KNOWN_CRITICAL,
    may_lack: AbstractSet[x509.ObjectIdentifier] = frozenset(),
) -> None:
    """Checks dates and extensions of a certificate whose signature (or pin) was checked.

    Args:
        certificate: The certificate.
        now: Time of verification, aware.
        is_ca: Whether it has to be a CA certificate, or has to be none.
        below: Number of CA certificates between it and the leaf.
        what: Name of the certificate, for messages.
        known_critical: Extensions that may be critical because the caller looks at them.
        may_lack: Which of basic constraints and key usage it need not have; one without the first is no CA.

    Raises:
        TrustAnchorError: If a date, a role or an extension does not allow what it signed.
    """
    try:
        starts, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        constraints = _extension(certificate, x509.BasicConstraints, may_lack)
        usage = _extension(certificate, x509.KeyUsage, may_lack)
        unknown = [
            extension.oid.dotted_string
            for extension in certificate.extensions
            if extension.critical and extension.oid not in known_critical
        ]
    except certificate_bytes.FOREIGN_ERRORS as error:
        raise TrustAnchorError(f"{what}: {error}") from error
    if not starts <= now <= ends:
        raise TrustAnchorError(f"{what}: expected {starts} ≤ time ≤ {ends}, got {now}")
    if unknown:
        raise TrustAnchorError(f"{what}: critical extension {unknown[0]} is not understood")
    if (constraints is not None and constraints.ca) is not is_ca:
        raise TrustAnchorError(f"{what}: expected {'a' if is_ca else 'no'} CA certificate")
    path_length = constraints.path_length if constraints is not None else None
    if is_ca and path_length is not None and path_length < below:
        raise TrustAnchorError(f"{what}: path length {path_length} < {below} CAs below it")
    if usage is not None and not (usage.key_cert_sign if is_ca else usage.digital_signature):
        raise TrustAnchorError(f"{what}: key usage does not allow what it signed")


def check_time(now: datetime) -> None:
    """Checks that a time of verification says which time zone it is in.

    Raises:
        InputError: If it does not.
    """
    if now.utcoffset() is None:
        raise InputError(f"time of verification: expected an aware datetime, got {now!r}")


def _matching_anchor(
    root: x509.Certificate, encoded: bytes, anchors: Sequence[TrustAnchor], what: str
) -> TrustAnchor:
    found = hashlib.sha256(encoded).digest()
    for anchor in anchors:
        if anchor.certificate_sha256 == found and anchor.spki_sha256 == _spki_sha256(root):
            return anchor
    names = ", ".join(repr(anchor.name) for anchor in anchors) or "none configured"
    raise TrustAnchorError(
        f"{what}: root certificate with SHA-256 {found.hex()} is not a configured trust anchor ({names})"
    )


def _check_signature(child: x509.Certificate, issuer: x509.Certificate, what: str, by: str) -> None:
    try:
        child.verify_directly_issued_by(issuer)
    except (InvalidSignature, *certificate_bytes.FOREIGN_ERRORS) as error:
        raise SignatureError(f"{what}: not signed by {by}") from error


def _extension(
    certificate: x509.Certificate, kind: type[_Extension], may_lack: AbstractSet[x509.ObjectIdentifier]
) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        if kind.oid not in may_lack:
            raise
        return None


def _spki_sha256(certificate: x509.Certificate) -> bytes:
    key = hierarchies.public_key(certificate, *hierarchies.KEY_KINDS, what="root certificate")
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
