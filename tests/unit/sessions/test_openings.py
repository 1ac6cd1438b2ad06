"""A verified opening is made in one place, and messages name the receipt."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
import relay
from workshop import NOW, put

from palm_torch import receipt
from palm_torch.digest import sha256_digest
from palm_torch.errors import BindingError, EvidenceError, SignatureError
from palm_torch.sessions import openings

if TYPE_CHECKING:
    from relay import ResumedRun


def verified(run: ResumedRun) -> openings.VerifiedOpening:
    policy = run.policy()
    return openings.verify(run.sessions[0].opening, requirements=policy.platform.requirements(), at=NOW)


def test_it_is_made_by_verifying_alone(resumed: ResumedRun) -> None:
    good = verified(resumed)
    with pytest.raises(TypeError, match=r"^a VerifiedOpening is made by openings\.verify alone$"):
        dataclasses.replace(good, token=None)


def test_a_receipt_of_another_session_is_told_from_this_one(resumed: ResumedRun) -> None:
    opening = verified(resumed)
    session = resumed.sessions[0]
    content = receipt.decode_content(session.file.envelope.payload)
    other = relay.signed(put(content, "issued.run_id", "x" * 99), session)
    with pytest.raises(BindingError) as caught:
        openings.verify_receipt(other.envelope, opening)
    assert str(caught.value) == (
        f"receipt: expected one of run {opening.opening.run_id}, got {'x' * 99!r:.80}"
    )
    other = relay.signed(put(content, "issued.begin", sha256_digest(b"")), session)
    with pytest.raises(BindingError) as caught:
        openings.verify_receipt(other.envelope, opening)
    assert str(caught.value) == (
        f"receipt: expected one of the session that began with quote {opening.quote_digest}, got "
        f"{sha256_digest(b'')}"
    )


def test_without_collateral_nothing_is_verified(resumed: ResumedRun) -> None:
    policy = resumed.policy()
    bare = put(resumed.sessions[0].opening, "collateral", None)
    with pytest.raises(EvidenceError) as caught:
        openings.verify(bare, requirements=policy.platform.requirements(), at=NOW)
    assert str(caught.value) == openings.NO_COLLATERAL
    assert "palm-torch collateral fetch EVIDENCE -o FILE" in openings.NO_COLLATERAL


def test_a_message_names_the_receipt(resumed: ResumedRun) -> None:
    envelope = put(resumed.sessions[0].file.envelope, "payload", b"{}")
    with pytest.raises(SignatureError, match=r"^receipt: the signature does not verify under key "):
        openings.verify_receipt(envelope, verified(resumed))
