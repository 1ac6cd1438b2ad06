"""Ordinary keys from PEM: which are taken, and what is said of the others."""

from __future__ import annotations

import re

import pytest
from authority import make_key, pem_of, public_pem

from palm_torch import dsse
from palm_torch.errors import PolicyError
from palm_torch.policies import signing_keys


@pytest.mark.parametrize("kind", ["ed25519", "p256"])
def test_the_two_halves_of_a_key(kind: str) -> None:
    key = make_key(kind)
    private, public = signing_keys.load_private(pem_of(key)), signing_keys.load_public(public_pem(key))
    assert dsse.key_id(private.public_key()) == dsse.key_id(public) == dsse.key_id(key.public_key())


@pytest.mark.parametrize(
    ("kind", "says"),
    [("p384", "got one on secp384r1"), ("rsa", "got RSAPublicKey|got RSAPrivateKey")],
)
def test_keys_of_another_kind(kind: str, says: str) -> None:
    key = make_key(kind)
    expected = rf"^k\.pem: expected an Ed25519 key or an ECDSA key on P-256, ({says})$"
    with pytest.raises(PolicyError, match=expected):
        signing_keys.load_public(public_pem(key), what="k.pem")
    with pytest.raises(PolicyError, match=expected):
        signing_keys.load_private(pem_of(key), what="k.pem")


def test_an_encrypted_key_is_not_asked_for_its_password() -> None:
    encrypted = pem_of(make_key("p256"), password=b"secret")
    with pytest.raises(PolicyError, match=r"^k\.pem: the key is encrypted; decrypt it first") as caught:
        signing_keys.load_private(encrypted, what="k.pem")
    assert "secret" not in str(caught.value)


def test_the_private_key_is_not_taken_for_the_public_one() -> None:
    for pem in (pem_of(make_key("p256")), pem_of(make_key("p256"), password=b"x")):
        with pytest.raises(PolicyError, match="expected the authority's public key, got a private key"):
            signing_keys.load_public(pem)


def test_the_public_key_is_not_taken_for_the_private_one() -> None:
    with pytest.raises(PolicyError, match="not a private key in PEM"):
        signing_keys.load_private(public_pem(make_key("ed25519")))


@pytest.mark.parametrize(
    "pem", [b"", b"key", b"\xff" * 40, b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"]
)
def test_what_is_no_key(pem: bytes) -> None:
    with pytest.raises(PolicyError, match=re.escape("authority key: not a public key in PEM")):
        signing_keys.load_public(pem)
    with pytest.raises(PolicyError, match=re.escape("signing key: not a private key in PEM")):
        signing_keys.load_private(pem)
