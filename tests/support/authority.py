"""A trusted authority: keys of every kind in PEM, and the reference values it signs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import records_at_hand as at_hand
import yaml
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from palm_torch.cvm import simulated_quote
from palm_torch.policies.reference_values import ClaimValues, PlatformValues, ReferenceValues, TdxValues

AT: Final = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
HEX: Final = "ab" * 48
DIGEST: Final = "palm-sha256:" + "11" * 32

VALUES: Final = ReferenceValues(
    issuer="Example Laboratory",
    issued="2026-01-01T00:00:00Z",
    expires="2027-01-01T00:00:00Z",
    platform=PlatformValues(tdx=TdxValues(mr_td=(HEX, simulated_quote.MR_TD.hex()))),
    claims=ClaimValues(data=(at_hand.MANIFEST.digest,)),
)


def make_key(kind: str) -> Any:
    """Returns a private key: ``ed25519``, ``p256``, ``p384`` or ``rsa``."""
    makers: dict[str, Any] = {
        "ed25519": ed25519.Ed25519PrivateKey.generate,
        "p256": lambda: ec.generate_private_key(ec.SECP256R1()),
        "p384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "rsa": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    }
    return makers[kind]()


def pem_of(key: Any, *, password: bytes | None = None) -> bytes:
    """Returns a private key as PEM (PKCS 8), encrypted if a password is given."""
    protection = NoEncryption() if password is None else BestAvailableEncryption(password)
    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)
    return pem


def public_pem(key: Any) -> bytes:
    """Returns the public half of a private key as PEM."""
    pem: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


def values_text(changes: dict[str, Any]) -> bytes:
    """Returns reference values in YAML as an authority writes them, parts changed; None takes one out."""
    document: dict[str, Any] = {
        "issuer": VALUES.issuer,
        "issued": VALUES.issued,
        "expires": VALUES.expires,
        "platform": {"tdx": {"mr_td": [HEX]}},
        "claims": {"data": [str(at_hand.MANIFEST.digest)]},
    }
    changed = {name: value for name, value in (document | changes).items() if value is not None}
    return yaml.safe_dump(changed, allow_unicode=True).encode("utf-8")
