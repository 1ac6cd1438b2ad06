"""Ordinary keys that people keep in PEM files: ECDSA on P-256 or Ed25519, unencrypted.

Authorities sign reference values with them; nothing attests them. Who trusts one says so by handing its
public half to the verifier.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from palm_torch.errors import PolicyError

if TYPE_CHECKING:
    from palm_torch.dsse import PrivateKey, PublicKey

MAX_KEY_BYTES: Final = 64 << 10


def load_public(pem: bytes, *, what: str = "authority key") -> PublicKey:
    """Loads a public key from PEM (SubjectPublicKeyInfo).

    Args:
        pem: The file's bytes.
        what: Name of the file, for messages.

    Raises:
        PolicyError: If the text is no public key, or one that is neither ECDSA on P-256 nor Ed25519.
    """
    if b"PRIVATE KEY-----" in pem:
        raise PolicyError(f"{what}: expected the authority's public key, got a private key")
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PolicyError(f"{what}: not a public key in PEM: {error}") from error
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise _wrong_kind(what, key)


def load_private(pem: bytes, *, what: str = "signing key") -> PrivateKey:
    """Loads an unencrypted private key from PEM.

    Args:
        pem: The file's bytes.
        what: Name of the file, for messages.

    Raises:
        PolicyError: If the text is no private key, an encrypted one, or one that is neither ECDSA on P-256
            nor Ed25519.
    """
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError as error:  # cryptography's way of asking for a password
        raise PolicyError(
            f"{what}: the key is encrypted; decrypt it first (openssl pkey -in KEY -out PLAIN)"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PolicyError(f"{what}: not a private key in PEM: {error}") from error
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise _wrong_kind(what, key)


def _wrong_kind(what: str, key: object) -> PolicyError:
    curve = getattr(getattr(key, "curve", None), "name", None)
    kind = f"one on {curve}" if curve else type(key).__name__.lstrip("_")
    return PolicyError(f"{what}: expected an Ed25519 key or an ECDSA key on P-256, got {kind}")
