"""Tokens about GPUs that lie: each attack by its number, on the real bundle wherever that is enough."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import nras
import pytest
from cryptography import x509
from nras import NOW, SERIALS, Service, gpu_claims

from palm_torch.cvm import eat
from palm_torch.errors import BindingError, FreshnessError, SignatureError, TrustAnchorError

Vectors = Callable[[str], bytes]

BUNDLE = "nvidia/attestation-sdk/hopperClaimsv3_detached_eat.json"
CHAIN = "nvidia/nvtrust/hopperCertChain.txt"
OTHER_CHAINS = (
    "nvidia/attestation-sdk/gpu/hopperCertChain.txt",
    "nvidia/attestation-sdk/gpu/hopperCertChainExpired.txt",
    "nvidia/attestation-sdk/gpu/blackwellCertChain.txt",
)
NONCE = bytes.fromhex("931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb")
BEGIN = datetime(2025, 6, 11, 0, 30, 58, tzinfo=UTC)
END = datetime(2025, 6, 11, 1, 30, 58, tzinfo=UTC)


def serial(pem: bytes) -> int:
    return x509.load_pem_x509_certificates(pem)[0].serial_number


class Real:
    """The real bundle, its claims signed again by a service whose key is known; everything else as it was."""

    def __init__(self, vectors: Vectors) -> None:
        self.service = Service()
        self.bundle = self.service.again(vectors(BUNDLE))
        self.serial = serial(vectors(CHAIN))

    def verify(self, bundle: bytes | None = None, **changes: Any) -> eat.NrasOpinion:
        asked = {"nonce": NONCE, "serials": (self.serial,), "now": BEGIN} | changes
        return self.service.verify(self.bundle if bundle is None else bundle, **asked)


def unsigned(header: dict[str, Any], claims: object, signature: bytes = b"") -> str:
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(nras.encode(part) for part in parts)


def test_attack_34_a_token_that_nobody_signed() -> None:
    service = Service()
    for name in ("none", "None", "NONE", ""):
        detached = {"GPU-0": unsigned({"alg": name, "kid": nras.KEY_ID}, gpu_claims())}
        overall = nras.decode(service.overall(detached).split(".")[1])
        bundle = service.packed(unsigned({"alg": name, "kid": nras.KEY_ID}, overall), detached)
        with pytest.raises(SignatureError, match="token: expected a signature by ES384"):
            service.verify(bundle)
        signed_outside_only = service.packed(service.overall(detached), detached)
        with pytest.raises(SignatureError, match="token: GPU-0: expected a signature by ES384"):
            service.verify(signed_outside_only)


def test_attack_35_a_token_signed_with_a_secret_that_everybody_knows() -> None:
    service = Service()
    for secret in (b"secret", b"notasecret"):
        text = unsigned({"alg": "HS256", "typ": "JWT", "kid": nras.KEY_ID}, gpu_claims()).rpartition(".")[0]
        code = hmac.new(secret, text.encode(), hashlib.sha256).digest()
        local = f"{text}.{nras.encode(code)}"
        for bundle in (
            service.packed(local, {"GPU-0": local}),
            service.packed(service.overall({"GPU-0": local}), {"GPU-0": local}),
        ):
            with pytest.raises(SignatureError, match="expected a signature by ES384, got 'HS256'"):
                service.verify(bundle)


def test_attack_36_a_token_signed_by_a_key_that_is_not_configured(vectors: Vectors) -> None:
    real = Real(vectors)
    assert real.verify()
    for now in (BEGIN, END, NOW):
        with pytest.raises(TrustAnchorError, match="which is none of the 1 keys configured"):
            real.verify(vectors(BUNDLE), now=now)
    stranger = Service()
    with pytest.raises(SignatureError, match="does not verify"):
        real.verify(stranger.again(vectors(BUNDLE)))
    embedded = stranger.sign(gpu_claims(), kid="other", jwk=stranger.jwk(), x5c=[], jku="https://example.com")
    with pytest.raises(TrustAnchorError, match="'other', which is none"):
        real.verify(stranger.packed(embedded, {"GPU-0": embedded}))


def test_attack_37_a_detached_token_that_is_not_the_one_that_was_digested(vectors: Vectors) -> None:
    real = Real(vectors)
    (_, overall), detached = json.loads(real.bundle)
    again = real.service.sign(nras.decode(detached["GPU-0"].split(".")[1]))
    assert again != detached["GPU-0"]  # the same claims by the same key: ECDSA signs anew
    swapped = real.service.packed(overall, {"GPU-0": again})
    with pytest.raises(SignatureError, match="expected the SHA-256 of the detached token"):
        real.verify(swapped)
    for position in range(0, len(detached["GPU-0"]), 97):
        letters = list(detached["GPU-0"])
        letters[position] = "A" if letters[position] != "A" else "B"
        with pytest.raises(SignatureError, match="expected the SHA-256 of the detached token"):
            real.verify(real.service.packed(overall, {"GPU-0": "".join(letters)}))
    for name in ("GPU-1", "gpu-0"):
        with pytest.raises(SignatureError, match="as there are detached tokens"):
            real.verify(real.service.packed(overall, {name: detached["GPU-0"]}))
    claims = nras.decode(overall.split(".")[1])
    for digest in (["DIGEST", ["SHA256", eat.detached_digest(detached["GPU-0"])]], ["DIGEST", []], None):
        claims["submods"] = {"GPU-0": digest}
        with pytest.raises(SignatureError, match="expected the SHA-256 of the detached token"):
            real.verify(real.service.packed(real.service.sign(claims), detached))


def test_attack_38_a_token_out_of_its_time_or_of_another_issuer(vectors: Vectors) -> None:
    real = Real(vectors)
    second = timedelta(seconds=1)
    for now in (BEGIN, END - second):
        assert real.verify(now=now)
    for now in (BEGIN - second, END, NOW):
        with pytest.raises(FreshnessError, match="token: expected 2025-06-11 00:30:58"):
            real.verify(now=now)
    service = Service()
    for issuer in (
        "https://nras.attestation-stg.nvidia.com",
        "https://nras.attestation.nvidia.com/",
        "https://nras.attestation.nvidia.com.example.com",
        "LOCAL_GPU_VERIFIER",
    ):
        for bundle in (service.bundle(gpu_claims(), iss=issuer), service.bundle(gpu_claims(iss=issuer))):
            with pytest.raises(TrustAnchorError, match="expected issuer"):
                service.verify(bundle)


def test_attack_39_a_token_about_another_nonce(vectors: Vectors) -> None:
    real = Real(vectors)
    for nonce in (bytes(32), NONCE[::-1], NONCE[:31]):
        with pytest.raises(BindingError, match=f"expected nonce {nonce.hex()}, got {NONCE.hex()}"):
            real.verify(nonce=nonce)
    service = Service()
    old = gpu_claims(eat_nonce=NONCE.hex())
    with pytest.raises(BindingError, match="token: GPU-0: expected nonce"):
        service.verify(service.bundle(old))


def test_attack_40_a_token_about_another_gpu(vectors: Vectors) -> None:
    real = Real(vectors)
    for name in OTHER_CHAINS:
        other = serial(vectors(name))
        with pytest.raises(BindingError, match=f"serial number {other}, got {real.serial}"):
            real.verify(serials=(other,))
    service = Service()
    with pytest.raises(BindingError, match="serial number"):
        service.verify(service.bundle(gpu_claims(SERIALS[0])), serials=SERIALS[1:])


def test_twin_a_token_whose_base64_is_respelled_is_another_token() -> None:
    service = Service()
    token = service.sign(gpu_claims())
    padded = base64.urlsafe_b64encode(base64.urlsafe_b64decode(token.split(".")[2])).decode()
    assert padded == token.split(".")[2]  # 96 bytes need no padding; the header does
    assert service.verify(service.packed(service.overall({"GPU-0": token}), {"GPU-0": token}))
