"""Somebody who is not the authority wants a policy to accept his digests as the authority's."""

from __future__ import annotations

import dataclasses
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import records_at_hand as at_hand
from authority import AT, VALUES, make_key
from cryptography.hazmat.primitives.asymmetric import ec
from workshop import put

from palm_torch import dsse
from palm_torch.encoding import decode_json, encode_json
from palm_torch.errors import (
    ClaimError,
    FreshnessError,
    InputError,
    PolicyError,
    RejectedError,
    SignatureError,
)
from palm_torch.policies import policy, reference_values
from palm_torch.policies.reference_values import ClaimValues, ReferenceValues

if TYPE_CHECKING:
    from workshop import GoodRun

AUTHORITY = make_key("p256")
KEY = AUTHORITY.public_key()
SIGNED = reference_values.sign(VALUES, key=AUTHORITY)
HIS = dataclasses.replace(VALUES, claims=ClaimValues(data=(at_hand.MODEL.digest,)))


def verify(data: bytes, **changes: Any) -> ReferenceValues:
    return reference_values.verify(data, **({"key": KEY, "at": AT} | changes)).values


def test_the_authoritys_own_values_pass() -> None:
    assert verify(SIGNED) == VALUES


def test_he_signs_his_values_with_a_key_of_his_own() -> None:
    for kind in ("p256", "ed25519"):
        with pytest.raises(SignatureError, match="expected a signature of key"):
            verify(reference_values.sign(HIS, key=make_key(kind)))


def test_he_puts_the_authoritys_key_id_over_his_signature() -> None:
    his = reference_values.decode(reference_values.sign(HIS, key=make_key("p256")))
    dressed = put(his, "signatures.0.keyid", dsse.key_id(KEY))
    with pytest.raises(SignatureError, match="does not verify under key"):
        verify(encode_json(dressed.to_json()))


@pytest.mark.parametrize(
    "edit",
    [
        lambda payload: HIS.encode(),  # noqa: ARG005 (takes the place of the payload)
        lambda payload: payload.replace(b"2027-01-01", b"2037-01-01"),
        lambda payload: payload.replace(b"Example Laboratory", b"Example laboratory"),
        lambda payload: payload + b"\n",
    ],
    ids=["his values", "a later end", "another name", "a byte more"],
)
def test_he_edits_what_the_authority_signed(edit: Any) -> None:
    with pytest.raises(SignatureError, match="does not verify under key"):
        verify(encode_json(put(reference_values.decode(SIGNED), "payload", edit).to_json()))


def test_he_edits_bits_until_something_passes() -> None:
    """No flipped bit of the file is accepted, and none makes anything but an error of this library."""
    for bit in range(0, len(SIGNED) * 8, 3):
        flipped = bytearray(SIGNED)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises((InputError, RejectedError)):
            verify(bytes(flipped))


def test_he_adds_his_signature_beside_the_authoritys() -> None:
    document: Any = decode_json(SIGNED, what="x", max_bytes=1 << 20)
    his: Any = decode_json(reference_values.sign(HIS, key=make_key("p256")), what="x", max_bytes=1 << 20)
    document["signatures"] += his["signatures"]
    with pytest.raises(PolicyError, match="expected exactly one"):
        verify(encode_json(document))


def test_he_spells_the_authoritys_signature_in_another_way() -> None:
    envelope = reference_values.decode(SIGNED)
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

    r, s = decode_dss_signature(envelope.signatures[0].sig)
    with pytest.raises(SignatureError, match="canonical"):
        verify(encode_json(put(envelope, "signatures.0.sig", encode_dss_signature(r, order - s)).to_json()))


def test_he_brings_values_that_expired() -> None:
    for at in (AT.replace(year=2027), AT.replace(year=2025), AT + timedelta(days=365)):
        with pytest.raises(
            FreshnessError, match="they hold from 2026-01-01T00:00:00Z to 2027-01-01T00:00:00Z"
        ):
            verify(SIGNED, at=at)


def test_he_passes_off_another_document_that_the_authority_signed() -> None:
    """A key that also signs receipts or anything else: the type of the document is part of what is signed."""
    receipt = dsse.sign(VALUES.encode(), payload_type=dsse.IN_TOTO_PAYLOAD, key=AUTHORITY)
    with pytest.raises(SignatureError, match="expected payloadType"):
        verify(encode_json(receipt.to_json()))
    with pytest.raises(SignatureError, match="does not verify"):
        verify(encode_json(put(receipt, "payloadType", reference_values.PAYLOAD_TYPE).to_json()))


def test_reference_values_are_no_receipt() -> None:
    with pytest.raises(SignatureError, match="expected payloadType"):
        dsse.verify(
            reference_values.decode(SIGNED), payload_type=dsse.IN_TOTO_PAYLOAD, key=KEY, what="receipt"
        )


def test_the_session_signs_reference_values_for_itself(good: GoodRun) -> None:
    """A session's key is a P-256 key too, and travels along: it counts only if the verifier says so."""
    session = ec.generate_private_key(ec.SECP256R1())
    signed = reference_values.sign(HIS, key=session)
    with pytest.raises(SignatureError, match="expected a signature of key"):
        verify(signed)
    assert dsse.key_id(dsse.session_public_key(good.bundle.session_key)) != dsse.key_id(KEY)


def test_a_policy_accepts_his_values_only_under_his_key(good: GoodRun) -> None:
    """The twin: where the verifier hands over the wrong key, the forgery decides."""
    his_key = make_key("p256")
    forged = reference_values.sign(HIS, key=his_key)
    text = good.policy_text({"claims.data": ["authority"]})
    believed = policy.parse(text, references=reference_values.verify(forged, key=his_key.public_key(), at=AT))
    assert believed.claims.data == (str(at_hand.MODEL.digest),)
    with pytest.raises(ClaimError):
        good.verify(policy=believed)
    assert good.verify(
        policy=policy.parse(text, references=reference_values.verify(SIGNED, key=KEY, at=AT))
    ).checks


def test_no_key_in_the_file_speaks_about_trust() -> None:
    for key in ("key", "public_key", "certificate", "jwk"):
        document: Any = json.loads(SIGNED)
        document[key] = dsse.key_id(KEY)
        with pytest.raises(PolicyError, match=f"unknown key '{key}'"):
            verify(encode_json(document))
