"""Collateral: nine texts, each in the one spelling it may have."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from palm_torch import codec
from palm_torch.cvm import collateral
from palm_torch.errors import EvidenceError, InputError

NAMES = [field.name for field in dataclasses.fields(collateral.Collateral)]


def test_it_survives_its_json_form(vendor: Any) -> None:
    made = vendor.collateral()
    assert collateral.from_json(codec.to_json(made)) == made


def test_keys_are_exact(vendor: Any) -> None:
    document = codec.to_json(vendor.collateral())
    with pytest.raises(EvidenceError, match="unknown key 'extra'"):
        collateral.from_json({**document, "extra": ""})
    for name in NAMES:
        with pytest.raises(EvidenceError, match=f"missing key '{name}'"):
            collateral.from_json({key: value for key, value in document.items() if key != name})
        with pytest.raises(EvidenceError, match=f"{name}: expected str"):
            collateral.from_json({**document, name: 1})


@pytest.mark.parametrize("name", NAMES)
def test_every_field_has_a_limit(vendor: Any, name: str) -> None:
    with pytest.raises(EvidenceError, match=f"{name}: expected at most"):
        dataclasses.replace(vendor.collateral(), **{name: "0" * 3_000_000})


@pytest.mark.parametrize("name", ["root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature"])
def test_hex_is_lower_case(vendor: Any, name: str) -> None:
    made = vendor.collateral()
    for other in (getattr(made, name).upper(), getattr(made, name)[:-1], "zz", " " + getattr(made, name)[1:]):
        with pytest.raises(InputError, match=name):
            dataclasses.replace(made, **{name: other})


@pytest.mark.parametrize(
    "name", ["pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain"]
)
def test_chains_have_two_certificates_in_canonical_pem(vendor: Any, name: str) -> None:
    made = vendor.collateral()
    text = getattr(made, name)
    for other in ("", text + text, text[:-1], text + "\n", text.replace("\n", "\r\n", 1), text + "\ud800"):
        with pytest.raises(InputError, match=name):
            dataclasses.replace(made, **{name: other})


def test_a_text_that_is_not_unicode_has_no_bytes(vendor: Any) -> None:
    made = dataclasses.replace(vendor.collateral(), tcb_info="\ud800")
    with pytest.raises(EvidenceError, match="not valid Unicode"):
        made.signed_text("tcb_info")
