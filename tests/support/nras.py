"""A stand-in for NVIDIA's attestation service: its own key, real formats, claims that a test can bend."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from palm_torch.cvm import eat, jose, nras_claims

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW: Final = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
NONCE: Final = bytes(range(32))
SERIALS: Final = (2**150 + 1, 2**150 + 2)
KEY_ID: Final = "test-key"

REMOVED: Final = object()
"""In place of a claim: leave it out."""


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(part: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def bent(claims: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in (claims | changes).items() if value is not REMOVED}


def lifetime(now: datetime = NOW) -> dict[str, Any]:
    begin = int((now - timedelta(minutes=5)).timestamp())
    return {"iat": begin, "nbf": begin, "exp": begin + 3600, "jti": "1"}


def gpu_claims(serial: int = SERIALS[0], **changes: Any) -> dict[str, Any]:
    """Returns what the service claims of a GPU that is good."""
    good = {"x-nvidia-cert-status": "valid", "x-nvidia-cert-ocsp-status": "good"}
    claims = {
        "iss": eat.ISSUER,
        "eat_nonce": NONCE.hex(),
        "ueid": str(serial),
        "hwmodel": "GH100 A01 GSP BROM",
        "oemid": "5703",
        "measres": "success",
        "dbgstat": "disabled",
        "secboot": True,
        "x-nvidia-attestation-warning": None,
        "x-nvidia-gpu-driver-version": "550.90.07",
        "x-nvidia-gpu-vbios-version": "96.00.9F.00.01",
    }
    claims |= {f"x-nvidia-gpu-{check}": True for check in nras_claims.REQUIRED}
    claims |= {f"x-nvidia-gpu-{chain}": good for chain in nras_claims.REQUIRED_CHAINS}
    return bent(claims | lifetime(), changes)


@dataclass
class Service:
    """A service with a key."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP384R1()))
    key_id: str = KEY_ID

    @property
    def keys(self) -> jose.KeySet:
        return {self.key_id: self.key.public_key()}

    def jwk(self, **changes: Any) -> dict[str, Any]:
        numbers = self.key.public_key().public_numbers()
        x, y = (encode(value.to_bytes(48, "big")) for value in (numbers.x, numbers.y))
        key = {"kty": "EC", "crv": "P-384", "kid": self.key_id, "alg": "ES384", "use": "sig", "x": x, "y": y}
        return bent(key, changes)

    def sign(self, claims: object, **header: Any) -> str:
        """Returns a token; a header's field that is `REMOVED` is left out."""
        fields = bent({"kid": self.key_id, "alg": "ES384"}, header)
        signed = f"{encode(json.dumps(fields).encode())}.{encode(json.dumps(claims).encode())}"
        der = self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA384()))
        r, s = utils.decode_dss_signature(der)
        return f"{signed}.{encode(r.to_bytes(48, 'big') + s.to_bytes(48, 'big'))}"

    def overall(self, detached: Mapping[str, str], **changes: Any) -> str:
        digests = {
            name: ["DIGEST", ["SHA-256", hashlib.sha256(token.encode()).hexdigest()]]
            for name, token in detached.items()
        }
        claims = {
            "iss": eat.ISSUER,
            "sub": eat.SUBJECT,
            "eat_nonce": NONCE.hex(),
            "x-nvidia-ver": "3.0",
            "x-nvidia-overall-att-result": True,
            "submods": digests,
        }
        return self.sign(bent(claims | lifetime(), changes))

    def bundle(self, *gpus: dict[str, Any], **changes: Any) -> bytes:
        """Returns a bundle about GPUs, by their claims; `changes` bend the overall token."""
        detached = {f"GPU-{number}": self.sign(claims) for number, claims in enumerate(gpus)}
        return self.packed(self.overall(detached, **changes), detached)

    def packed(self, overall: object, detached: object) -> bytes:
        return json.dumps([["JWT", overall], detached], indent=2).encode()

    def again(self, bundle: bytes) -> bytes:
        """Returns a bundle with the same claims and headers, signed by this service instead."""
        (_, overall), detached = json.loads(bundle)
        signed = {name: self.sign(decode(token.split(".")[1])) for name, token in detached.items()}
        claims = decode(overall.split(".")[1])
        for name, token in signed.items():
            claims["submods"][name][1][1] = hashlib.sha256(token.encode()).hexdigest()
        return self.packed(self.sign(claims), signed)

    def verify(
        self,
        bundle: bytes,
        *,
        nonce: bytes = NONCE,
        serials: tuple[int, ...] = SERIALS[:1],
        now: datetime = NOW,
    ) -> eat.NrasOpinion:
        return eat.verify_nras(bundle, keys=self.keys, nonce=nonce, serials=serials, now=now)


def known() -> Service:
    """Returns a service whose key is always the same, so that what one process signed another one accepts."""
    return Service(key=ec.derive_private_key(int.from_bytes(NONCE, "big"), ec.SECP384R1()))
