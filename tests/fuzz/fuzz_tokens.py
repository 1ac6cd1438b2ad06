"""Tokens of NVIDIA's attestation service, its keys, and what its tokens claim."""

from __future__ import annotations

import base64
import json

import nras
from laws import REFUSED, accepted, ours

from palm_torch.cvm import eat, jose, nras_claims

JSON = True
SERVICE = nras.known()


def one_input(data: bytes) -> None:
    keys = ours(jose.read_key_set, data)
    if keys is not REFUSED:
        assert len(keys) == len(json.loads(data)["keys"])
        assert all(key.curve.name == "secp384r1" for key in keys.values())
    nonce = ours(eat.nonce_of, data)
    for asked in {nras.NONCE, nonce} - {REFUSED}:
        opinion = ours(SERVICE.verify, data, nonce=asked)
        if opinion is not REFUSED:
            assert asked == nonce
            assert opinion.key_ids == (nras.KEY_ID,)
            assert [gpu.serial for gpu in opinion.gpus] == [nras.SERIALS[0]]
    claims = ours(jose.read_json, data, what="claims", max_bytes=jose.MAX_TOKEN_CHARACTERS)
    if claims is not REFUSED:
        gpu = ours(nras_claims.read_gpu, claims, name="GPU-0")
        assert gpu is REFUSED or str(gpu.serial) == claims.value["ueid"]
        signed = ours(SERVICE.verify, SERVICE.bundle(claims.value))
        assert gpu is not REFUSED or signed is REFUSED
    text = data.decode("utf-8", "replace")
    looked_into = ours(jose.look_into, text, what="token")
    verified = ours(jose.verify, text, SERVICE.keys, what="token")
    if verified is not REFUSED:
        assert looked_into == verified.claims
    accepted(data, lambda found: jose.decode_base64url(found.decode("latin-1"), what="text"), written)


def written(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
