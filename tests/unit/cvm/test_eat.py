"""Tokens of NVIDIA's attestation service: an opinion, if everything in them is as it should be."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import nras
import pytest
from cryptography import x509
from nras import NONCE, NOW, REMOVED, SERIALS, Service, gpu_claims

from palm_torch.cvm import eat, jose, nras_claims, signed_json
from palm_torch.errors import (
    BindingError,
    EncodingError,
    EvidenceError,
    FreshnessError,
    PalmTorchError,
    PlatformError,
    SignatureError,
    TrustAnchorError,
)

Vectors = Callable[[str], bytes]

BUNDLE = "nvidia/attestation-sdk/hopperClaimsv3_detached_eat.json"
DECODED = "nvidia/attestation-sdk/hopperClaimsv3_decoded.json"
ITS_CHAIN = "nvidia/nvtrust/hopperCertChain.txt"
ITS_NONCE = bytes.fromhex("931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb")
ITS_TIME = datetime.fromtimestamp(1749601858, UTC)
ITS_KEY = "nv-eat-kid-prod-20250609211310110-93b13aa1-17e4-4c14-9d33-dba2323329f2"


@pytest.fixture(scope="module")
def service() -> Service:
    return Service()


def test_an_opinion(service: Service) -> None:
    warned = gpu_claims(SERIALS[1], sub=eat.SUBJECT, **{"x-nvidia-attestation-warning": "old driver"})
    found = service.verify(service.bundle(gpu_claims(), warned), serials=SERIALS)
    assert found.key_ids == (nras.KEY_ID,)
    assert [(gpu.name, gpu.serial, gpu.warning) for gpu in found.gpus] == [
        ("GPU-0", SERIALS[0], None),
        ("GPU-1", SERIALS[1], "old driver"),
    ]
    assert found.gpus[0].driver_version == "550.90.07"
    assert found.gpus[0].vbios_version == "96.00.9F.00.01"
    assert found.gpus[0].model == "GH100 A01 GSP BROM"
    assert found.issued == NOW - timedelta(minutes=5)
    assert found.expires == NOW + timedelta(minutes=55)
    assert found.label == (
        f"opinion of {eat.ISSUER}, beside the evidence: 2 GPUs good at 2026-11-21 11:55:00+00:00"
    )
    with pytest.raises(TypeError, match="made by verify_nras alone"):
        eat.NrasOpinion(issuer=eat.ISSUER, key_ids=(), gpus=(), issued=NOW, expires=NOW, token=object())


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"[]",
        b'[["JWT", "a"]]',
        b'[["JWT", "a"], {}]',
        b'[["JWT", "a"], {"GPU-0": 1}]',
        b'[["JWT", 1], {"GPU-0": "a"}]',
        b'[["CWT", "a"], {"GPU-0": "a"}]',
        b'[["JWT", "a"], {"GPU-0": "a"}, {}]',
        b'[["JWT", "a"], {"GPU-0": "a", "GPU-0": "a"}]',
        b'[["JWT", "a"], {"GPU-0": "a"}] x',
        json.dumps([["JWT", "a"], {str(number): "a" for number in range(65)}]).encode(),
        b" " * (eat.MAX_BUNDLE_BYTES + 1),
    ],
)
def test_bundles_that_do_not_parse(service: Service, text: bytes) -> None:
    with pytest.raises(EvidenceError, match="token"):
        service.verify(text)


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"iss": "https://nras.attestation-stg.nvidia.com"}, TrustAnchorError, "expected issuer"),
        ({"sub": "other"}, PlatformError, "sub: expected 'NVIDIA-PLATFORM-ATTESTATION'"),
        ({"sub": REMOVED}, EvidenceError, "missing key 'sub'"),
        ({"x-nvidia-ver": "2.0"}, PlatformError, "x-nvidia-ver: expected '3.0', got '2.0'"),
        ({"x-nvidia-overall-att-result": False}, PlatformError, "did not find everything good"),
        ({"x-nvidia-overall-att-result": 1}, PlatformError, "did not find everything good"),
        ({"nbf": int(NOW.timestamp()) + 1}, FreshnessError, "≤ time <"),
        ({"exp": int(NOW.timestamp())}, FreshnessError, "≤ time <"),
        ({"exp": True}, EvidenceError, "expected a number"),
        ({"exp": 10**15}, EvidenceError, "expected a number"),
        ({"eat_nonce": bytes(32).hex()}, BindingError, "expected nonce 0001"),
        ({"eat_nonce": NONCE.hex().upper()}, EvidenceError, "lower-case"),
        ({"eat_nonce": NONCE[:31].hex()}, EvidenceError, "expected 32 bytes, got 31"),
        ({"submods": None}, SignatureError, "as there are detached tokens"),
        ({"submods": {}}, SignatureError, "as there are detached tokens"),
        ({"submods": {"GPU-0": "DIGEST"}}, SignatureError, "expected the SHA-256"),
    ],
)
def test_overall_claims_that_are_refused(
    service: Service, changes: dict[str, Any], error: type[PalmTorchError], said: str
) -> None:
    with pytest.raises(error, match=said):
        service.verify(service.bundle(gpu_claims(), **changes))


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"iss": "https://example.com"}, TrustAnchorError, "token: GPU-0: expected issuer"),
        ({"sub": "other"}, PlatformError, "token: GPU-0: sub: expected"),
        ({"exp": int(NOW.timestamp())}, FreshnessError, "token: GPU-0: expected"),
        ({"eat_nonce": bytes(32).hex()}, BindingError, "token: GPU-0: expected nonce"),
        ({"ueid": "7"}, BindingError, f"serial number {SERIALS[0]}, got 7"),
        ({"ueid": "07"}, EvidenceError, "ueid: expected a decimal number"),
        ({"ueid": 7}, EvidenceError, "expected text"),
        ({"measres": "failure"}, PlatformError, "measres: expected 'success', got 'failure'"),
        ({"dbgstat": "enabled"}, PlatformError, "dbgstat"),
        ({"oemid": "1"}, PlatformError, "oemid"),
        ({"secboot": False}, PlatformError, "secboot: expected true, got False"),
        ({"secboot": REMOVED}, EvidenceError, "missing key 'secboot'"),
        ({"x-nvidia-gpu-something-new": False}, PlatformError, "something-new false"),
        ({"x-nvidia-attestation-warning": 1}, EvidenceError, "expected text"),
        ({"x-nvidia-gpu-driver-version": REMOVED}, EvidenceError, "missing key"),
    ],
)
def test_claims_about_a_gpu_that_are_refused(
    service: Service, changes: dict[str, Any], error: type[PalmTorchError], said: str
) -> None:
    with pytest.raises(error, match=said):
        service.verify(service.bundle(gpu_claims(**changes)))


@pytest.mark.parametrize("check", nras_claims.REQUIRED)
def test_each_check_must_have_been_made_and_found_good(service: Service, check: str) -> None:
    claim = f"x-nvidia-gpu-{check}"
    for value, error in ((False, PlatformError), (1, EvidenceError), (REMOVED, EvidenceError)):
        with pytest.raises(error, match=claim):
            service.verify(service.bundle(gpu_claims(**{claim: value})))


@pytest.mark.parametrize("chain", nras_claims.REQUIRED_CHAINS)
def test_each_chain_must_be_valid_and_not_revoked(service: Service, chain: str) -> None:
    for status, revocation in (("invalid", "good"), ("valid", "revoked"), ("valid", "unknown")):
        bad = {"x-nvidia-cert-status": status, "x-nvidia-cert-ocsp-status": revocation}
        with pytest.raises(PlatformError, match="x-nvidia-cert"):
            service.verify(service.bundle(gpu_claims(**{f"x-nvidia-gpu-{chain}": bad})))


def test_gpus_that_are_others_than_those_of_the_evidence(service: Service) -> None:
    two = [gpu_claims(serial) for serial in SERIALS]
    with pytest.raises(BindingError, match="expected 1 GPUs, as there is evidence, got 2"):
        service.verify(service.bundle(*two))
    with pytest.raises(BindingError, match="serial number"):
        service.verify(service.bundle(*two[::-1]), serials=SERIALS)
    detached = {"SWITCH-0": service.sign(gpu_claims())}
    with pytest.raises(BindingError, match="got no GPU-0"):
        service.verify(service.packed(service.overall(detached), detached))


def test_a_detached_token_that_is_no_ascii() -> None:
    with pytest.raises(EvidenceError, match="expected ASCII"):
        eat.detached_digest("\u00e9")


def serial_of(pem: bytes) -> int:
    return x509.load_pem_x509_certificates(pem)[0].serial_number


def test_the_real_bundle_has_no_key_that_anybody_knows(vectors: Vectors, service: Service) -> None:
    serials = (serial_of(vectors(ITS_CHAIN)),)
    with pytest.raises(TrustAnchorError, match=f"signed by key '{ITS_KEY}', which is none of the 1 keys"):
        service.verify(vectors(BUNDLE), nonce=ITS_NONCE, serials=serials, now=ITS_TIME)


def test_all_else_of_the_real_bundle_is_as_it_should_be(vectors: Vectors) -> None:
    (_, overall), detached = json.loads(vectors(BUNDLE))
    named = nras.decode(overall.split(".")[1])["submods"]["GPU-0"]
    assert named == ["DIGEST", ["SHA-256", eat.detached_digest(detached["GPU-0"])]]
    ours = Service(key_id=ITS_KEY)
    serials = (serial_of(vectors(ITS_CHAIN)),)
    found = ours.verify(ours.again(vectors(BUNDLE)), nonce=ITS_NONCE, serials=serials, now=ITS_TIME)
    assert found.key_ids == (ITS_KEY,)
    assert (found.gpus[0].driver_version, found.gpus[0].serial) == ("550.90.07", serials[0])
    assert found.expires - found.issued == timedelta(hours=1)


def test_the_real_claims_unsigned_are_no_token(vectors: Vectors, service: Service) -> None:
    text = vectors(DECODED)
    with pytest.raises(EvidenceError, match='expected \\[\\["JWT", token\\]'):
        service.verify(text)
    claims = json.loads(text)["GPU-0"]
    _, detached = json.loads(vectors(BUNDLE))
    assert nras.decode(detached["GPU-0"].split(".")[1]) == claims
    found = nras_claims.read_gpu(signed_json.Node("claims", claims), name="GPU-0")
    assert (found.vbios_version, found.model) == ("96.00.9F.00.01", "GH100 A01 GSP BROM")


def test_a_real_token_is_in_canonical_form(vectors: Vectors) -> None:
    (_, overall), _ = json.loads(vectors(BUNDLE))
    for part in overall.split("."):
        assert nras.encode(jose.decode_base64url(part, what="part")) == part
    with pytest.raises(EncodingError):
        jose.decode_base64url(part + "=", what="part")
