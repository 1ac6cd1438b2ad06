"""Receipts of answers are bent: another response, an edited history, another session, a rolled-back turn."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import answering
import pytest
from answering import Talker, ask, chat, check, content, resealed, signed_by, verify_data

from palm_torch.appraisal import inference_claims
from palm_torch.attesting.attested import attested
from palm_torch.commit import answers
from palm_torch.digest import sha256_digest, tagged_digest
from palm_torch.errors import BindingError, ClaimError, EvidenceError, SignatureError

if TYPE_CHECKING:
    from answering import Chat

pytestmark = pytest.mark.usefixtures("fresh_process")

OTHER = tagged_digest("palm-torch/example/v1", b"another")


@pytest.fixture(scope="module")
def talk() -> Chat:
    return chat(4)


def test_a_swapped_response_breaks_the_signature(talk: Chat) -> None:
    first, second = (item.receipt for item in talk.receipts[:2])
    swapped = dataclasses.replace(
        first, envelope=dataclasses.replace(first.envelope, payload=second.envelope.payload)
    )
    with pytest.raises(SignatureError):
        check(swapped, talk.run)


def test_a_swapped_response_is_not_in_the_log_even_under_the_sessions_key(talk: Chat) -> None:
    response = dataclasses.replace(content(talk.receipts[1]).response, digest=OTHER)
    with pytest.raises(BindingError, match="does not hold receipt"):
        check(signed_by(talk.run, talk.receipts[1], response=response), talk.run, closing=talk.closing)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"history": sha256_digest(b"edited")}, "the history with it"),
        ({"history_before": sha256_digest(b"edited")}, "the history before it"),
        ({"answer": 2}, "the session's log does not have it"),
        ({"model": OTHER}, "the session's log does not have it"),
    ],
)
def test_a_receipt_that_tells_another_history_does_not_fit_the_log(
    talk: Chat, changes: dict[str, object], says: str
) -> None:
    bent = dataclasses.replace(content(talk.receipts[1]), **changes)
    with pytest.raises(BindingError, match=says):
        inference_claims.check_place(bent, talk.end, talk.run.evidence.bundle.log)


def test_a_measurement_that_the_log_does_not_have_is_nothing_to_rest_on(talk: Chat) -> None:
    said = content(talk.receipts[2])
    bent = dataclasses.replace(said, rests_on=dataclasses.replace(said.rests_on, answers=1))
    with pytest.raises(BindingError, match="rests on a measurement after 1 answers"):
        inference_claims.check_place(bent, talk.end, talk.run.evidence.bundle.log)


def test_a_receipt_of_another_session_is_not_closed_by_this_one(talk: Chat) -> None:
    other = chat(1)
    with pytest.raises(BindingError, match="none of them the receipt's"):
        check(other.receipts[0].receipt, talk.run, closing=talk.closing)
    with pytest.raises(BindingError, match="different sessions"):
        inference_claims.check_order([content(talk.receipts[0]), content(other.receipts[0])])


def test_receipts_tell_one_history_or_are_refused(talk: Chat) -> None:
    said = [content(item) for item in talk.receipts]
    inference_claims.check_order(reversed(said))
    inference_claims.check_order([said[0], said[3], said[3]])
    forked = dataclasses.replace(said[1], history=sha256_digest(b"fork"))
    with pytest.raises(BindingError, match="forked"):
        inference_claims.check_order([*said, forked])
    edited = dataclasses.replace(said[2], history_before=sha256_digest(b"edit"))
    with pytest.raises(BindingError, match="edited in between"):
        inference_claims.check_order([said[1], edited])
    rolled_back = dataclasses.replace(said[3], issued=said[0].issued)
    with pytest.raises(BindingError, match="issued first"):
        inference_claims.check_order([said[1], rolled_back])
    with pytest.raises(BindingError, match="different models"):
        inference_claims.check_order([said[0], dataclasses.replace(said[1], model=OTHER)])


def test_a_statement_with_a_turn_less_is_not_what_the_log_says(talk: Chat) -> None:
    """The machine seals it: the log, which the same quote seals, still has the turn."""
    claims = talk.end.claims
    replayed = answers.replay(talk.run.evidence.bundle.log)
    shorter = dataclasses.replace(claims.history, digest=replayed.history_root(3))
    with pytest.raises(ClaimError, match="history"):
        verify_data(resealed(talk.run, history=shorter), talk.run)
    account = dataclasses.replace(talk.account, answers=3, parameters={})
    fewer = dataclasses.replace(claims.decoding, value=account.to_value())
    with pytest.raises(ClaimError, match="answers: the statement says 3, the event log 4"):
        verify_data(resealed(talk.run, decoding=fewer), talk.run)
    earlier = dataclasses.replace(claims.response, digest=replayed.turns[2].response)
    with pytest.raises(ClaimError, match="response"):
        verify_data(resealed(talk.run, response=earlier), talk.run)


def test_revoked_answers_cannot_be_left_out_of_the_statement() -> None:
    model = Talker()
    with attested("session", attester="simulated") as run:
        run.model(model)
        ask(run, model, 0)
        model.wide.data[0, 0] += 1
    found = answering.Chat(run, [])
    silent = dataclasses.replace(found.account, revoked=())
    bent = dataclasses.replace(found.end.claims.decoding, value=silent.to_value())
    with pytest.raises(ClaimError, match="revoked: the statement says"):
        verify_data(resealed(run, decoding=bent), run, revoked=1)


def test_a_log_that_no_session_writes_is_refused(talk: Chat) -> None:
    log = list(talk.run.evidence.bundle.log)
    events = [entry for entry in log if b'"type":"answer"' in entry]
    measured = next(entry for entry in log if b'"type":"weights measured"' in entry)
    for bent, says in (
        ([events[0]], "after 0 of them"),
        ([measured, events[1]], "expected answer 0"),
        ([measured, events[0], events[0]], "expected answer 1"),
        ([measured, measured.replace(b'"answers":0', b'"answers":3')], "began after 3 answers"),
        ([measured.replace(b"null", b'"wide"')], "these do not fit"),
        ([b"{"], "not a JSON document"),
    ):
        with pytest.raises(EvidenceError, match=says):
            answers.replay(bent)
