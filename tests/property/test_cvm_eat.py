"""Laws of tokens: what is changed is refused, with an error of ours."""

from __future__ import annotations

import contextlib

import hypothesis
import hypothesis.strategies as st
import nras
import pytest
from nras import Service, gpu_claims

from palm_torch.cvm import jose
from palm_torch.errors import InputError, PalmTorchError

SERVICE = Service()
TOKEN = SERVICE.sign({"claim": "value"})
BUNDLE = SERVICE.bundle(gpu_claims())

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=8), inner))


@hypothesis.given(st.integers(0, len(TOKEN) - 1), st.characters())
def test_a_token_with_one_other_character_is_refused(position: int, character: str) -> None:
    hypothesis.assume(TOKEN[position] != character)
    changed = TOKEN[:position] + character + TOKEN[position + 1 :]
    with pytest.raises(PalmTorchError):
        jose.verify(changed, SERVICE.keys, what="token")


@hypothesis.given(
    st.text(max_size=200) | st.lists(st.text(max_size=20), min_size=3, max_size=3).map(".".join)
)
def test_text_is_no_token(text: str) -> None:
    with pytest.raises(PalmTorchError):
        jose.verify(text, SERVICE.keys, what="token")


@hypothesis.given(VALUES)
def test_whatever_is_signed_is_read_or_refused(value: object) -> None:
    token = SERVICE.sign(value)
    with contextlib.suppress(InputError):
        assert jose.verify(token, SERVICE.keys, what="token").claims.value == value
    with pytest.raises(PalmTorchError):
        SERVICE.verify(SERVICE.packed(token, {"GPU-0": token}))


@hypothesis.given(st.sampled_from(sorted(gpu_claims())), VALUES)
def test_a_claim_that_has_another_value_is_refused_or_says_nothing(name: str, value: object) -> None:
    said = {"hwmodel", "jti", "iat", "x-nvidia-attestation-warning"}
    said |= {"x-nvidia-gpu-driver-version", "x-nvidia-gpu-vbios-version"}
    hypothesis.assume(gpu_claims()[name] != value or type(gpu_claims()[name]) is not type(value))
    try:
        SERVICE.verify(SERVICE.bundle(gpu_claims(**{name: value})))
    except PalmTorchError:
        return
    assert name in said | {"nbf", "exp"}


@hypothesis.given(st.integers(0, len(BUNDLE) - 1), st.integers(0, 7))
def test_a_bundle_with_a_flipped_bit_is_refused_or_means_the_same(position: int, bit: int) -> None:
    flipped = bytearray(BUNDLE)
    flipped[position] ^= 1 << bit
    try:
        found = SERVICE.verify(bytes(flipped))
    except PalmTorchError:
        return
    assert chr(BUNDLE[position]).isspace()  # JSON's white space between values
    assert found == SERVICE.verify(BUNDLE)
    assert found.key_ids == (nras.KEY_ID,)
