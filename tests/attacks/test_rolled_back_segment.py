"""The operator did not like how a run went on, and resumes from an older checkpoint.

An older checkpoint is as genuine as the newest, and crashes do happen: going back is accepted and *visible*.
What is refused is to hide it: to keep what was counted later, or to claim receipts of what was thrown away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import relay
from workshop import NOW, put

from palm_torch import receipt
from palm_torch.appraisal import receipts
from palm_torch.digest import Digest
from palm_torch.errors import BindingError, ClaimError
from palm_torch.sessions import segments

if TYPE_CHECKING:
    from relay import ResumedRun

    from palm_torch.receipt import Receipt


def later_checkpoint(run: ResumedRun) -> Receipt:
    """Returns a receipt that session 2 signed after the one that the run went on from."""
    session = run.sessions[1]
    assert session.segment is not None
    content = receipt.decode_content(session.segment.envelope.payload)
    later = put(put(put(content, "steps.taken", 3), "issued.log_size", 5), "issued.sequence", 2)
    return relay.signed(put(later, "model", Digest("palm-sha256", b"\3" * 32)), session)


def test_going_back_is_visible_in_the_result(resumed: ResumedRun) -> None:
    result = resumed.verify()
    (detail,) = [check.detail for check in result.checks if check.name == "segments"]
    run = resumed.sessions[1].opening.run_id[:8]
    assert f"from step 2 of session {run}" in detail
    assert segments.NOT_CHECKED in result.not_checked


def test_a_receipt_of_what_was_thrown_away_is_never_closed(resumed: ResumedRun) -> None:
    """Whoever was given it can show it: the sealed run did not go on from there."""
    later = later_checkpoint(resumed)
    policy = resumed.policy()
    alone = receipts.verify(later, policy=policy, at=NOW, challenge=resumed.request)
    assert alone.session == "unclosed"
    with pytest.raises(BindingError, match="issued in a part of the session that the run did not go on from"):
        receipts.verify(later, policy=policy, at=NOW, challenge=resumed.request, closing=resumed.data)


def test_the_newer_checkpoint_cannot_be_put_in_its_place(resumed: ResumedRun) -> None:
    with pytest.raises(BindingError, match="segment 2: an event log of 3 entries"):
        resumed.verify(put(resumed.bundle, "segments.1.receipt", later_checkpoint(resumed).envelope))


def test_steps_and_records_that_were_thrown_away_cannot_be_kept(resumed: ResumedRun) -> None:
    """The chain goes back to a checkpoint that is behind the one before it."""
    for path, new, message in (
        ("steps.taken", 0, "after segment 1: steps taken: 1 at the checkpoint, then 0"),
        (
            "data.dataset1.uses",
            {},
            "after segment 1: data.dataset1.train: 3 records at the checkpoint, then none",
        ),
    ):
        bent = resumed.bent(
            relay.only("receipt", 2, lambda content, path=path, new=new: put(content, path, new))
        )
        with pytest.raises(ClaimError, match=message):
            resumed.verify(bent)


def test_the_end_cannot_be_before_the_last_checkpoint(resumed: ResumedRun) -> None:
    bent = resumed.bent(relay.only("end", 3, lambda end: put(end, "claims.steps.taken", 1)))
    with pytest.raises(ClaimError, match="after segment 2: steps taken: 2 at the checkpoint, then 1"):
        resumed.verify(bent)


def test_an_older_session_cannot_be_skipped_over(resumed: ResumedRun) -> None:
    """Session 3 went on from session 2; shown as if it had gone on from session 1, it is refused."""
    with pytest.raises(BindingError, match="the sealed session: it goes on from"):
        resumed.verify(put(resumed.bundle, "segments", resumed.bundle.segments[:1]))
