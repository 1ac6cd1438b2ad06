"""How each hardware vendor makes its certificates: which keys, which signatures, which omissions.

The code that knows which vendor's evidence it reads names the hierarchy; the evidence has no say in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from palm_torch.cvm import certificate_bytes
from palm_torch.errors import TrustAnchorError

PublicKey: TypeAlias = "ec.EllipticCurvePublicKey | rsa.RSAPublicKey"
KeyKind = Literal["P-256", "P-384", "RSA-4096"]
KEY_KINDS: Final[tuple[KeyKind, ...]] = get_args(KeyKind)
_CURVES: Final = {"secp256r1": "P-256", "secp384r1": "P-384"}


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """What the chain walk has to know about a vendor.

    Attributes:
        algorithms: What certificates and lists are signed with: AlgorithmIdentifier, DER → name.
        authority_key: Kind of the keys of the root and of every other issuer.
        leaf_key: Kind of the leaf's key.
        leaf_may_lack: Extensions that a leaf need not have; if they are there, they count.
        zero_serial: Whether a leaf's serial number may be zero.
    """

    algorithms: Mapping[bytes, str]
    authority_key: KeyKind
    leaf_key: KeyKind
    leaf_may_lack: frozenset[x509.ObjectIdentifier] = frozenset()
    zero_serial: bool = False


INTEL: Final = Hierarchy(certificate_bytes.INTEL, authority_key="P-256", leaf_key="P-256")
"""PCK certificates and signers of TCB info, below the SGX root."""

AMD: Final = Hierarchy(
    certificate_bytes.AMD,
    authority_key="RSA-4096",
    leaf_key="P-384",
    leaf_may_lack=frozenset({x509.BasicConstraints.oid, x509.KeyUsage.oid}),
    zero_serial=True,
)
"""VCEK and VLEK certificates, below an ARK."""

NVIDIA: Final = Hierarchy(
    certificate_bytes.NVIDIA,
    authority_key="P-384",
    leaf_key="P-384",
    leaf_may_lack=frozenset({x509.BasicConstraints.oid}),
)
"""Attestation keys of GPUs and switches, below the device identity root."""

CORIM: Final = Hierarchy(certificate_bytes.NVIDIA, authority_key="P-384", leaf_key="P-384")
"""Signers of reference measurements (RIMs), below the CoRIM root."""


def public_key(certificate: x509.Certificate, *kinds: KeyKind, what: str) -> PublicKey:
    """Returns a certificate's public key, which must be of one of the kinds given.

    Raises:
        TrustAnchorError: If it is of another kind.
    """
    expected = " or ".join(kinds)
    try:
        key = certificate.public_key()
    except certificate_bytes.FOREIGN_ERRORS as error:
        raise TrustAnchorError(f"{what}: expected a {expected} key: {error}") from error
    if isinstance(key, ec.EllipticCurvePublicKey) and _CURVES.get(key.curve.name) in kinds:
        return key
    if isinstance(key, rsa.RSAPublicKey) and f"RSA-{key.key_size}" in kinds:
        return key
    raise TrustAnchorError(f"{what}: expected a {expected} key, got {type(key).__name__}")
