"""Receipts of answers are bent: another response, an edited history, another session, a rolled-back turn."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import answering
import pytest
import torch
from answering import Talker, ask, chat, check, content, resealed, signed_by, verify_data

import palm_torch
from palm_torch.appraisal import answer_receipts, answer_traces
from palm_torch.attesting.attested import attested
from palm_torch.commit import answers, trace
from palm_torch.digest import sha256_digest, tagged_digest
from palm_torch.errors import BindingError, ClaimError, EvidenceError, SignatureError

if TYPE_CHECKING:
    from answering import Chat

    from palm_torch.committing.proof import Proof

pytestmark = pytest.mark.usefixtures("fresh_process", "few_sources")


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
        answer_receipts.check_place(bent, talk.end, answers.replay(talk.run.evidence.bundle.log))


def test_a_measurement_that_the_log_does_not_have_is_nothing_to_rest_on(talk: Chat) -> None:
    said = content(talk.receipts[2])
    bent = dataclasses.replace(said, rests_on=dataclasses.replace(said.rests_on, answers=1))
    with pytest.raises(BindingError, match="rests on a measurement after 1 answers"):
        answer_receipts.check_place(bent, talk.end, answers.replay(talk.run.evidence.bundle.log))


def test_a_receipt_of_another_session_is_not_closed_by_this_one(talk: Chat) -> None:
    other = chat(1)
    with pytest.raises(BindingError, match="none of them the receipt's"):
        check(other.receipts[0].receipt, talk.run, closing=talk.closing)
    with pytest.raises(BindingError, match="different sessions"):
        answer_receipts.check_order([content(talk.receipts[0]), content(other.receipts[0])])


def test_receipts_tell_one_history_or_are_refused(talk: Chat) -> None:
    said = [content(item) for item in talk.receipts]
    answer_receipts.check_order(reversed(said))
    answer_receipts.check_order([said[0], said[3], said[3]])
    forked = dataclasses.replace(said[1], history=sha256_digest(b"fork"))
    with pytest.raises(BindingError, match="forked"):
        answer_receipts.check_order([*said, forked])
    edited = dataclasses.replace(said[2], history_before=sha256_digest(b"edit"))
    with pytest.raises(BindingError, match="edited in between"):
        answer_receipts.check_order([said[1], edited])
    rolled_back = dataclasses.replace(said[3], issued=said[0].issued)
    with pytest.raises(BindingError, match="issued first"):
        answer_receipts.check_order([said[1], rolled_back])
    with pytest.raises(BindingError, match="different models"):
        answer_receipts.check_order([said[0], dataclasses.replace(said[1], model=OTHER)])


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


@pytest.fixture(scope="module")
def traced() -> tuple[Chat, list[Proof]]:
    """Two answers to one question, each with the trace of its computation."""
    model = torch.nn.Sequential(torch.nn.Linear(4, 4))
    asked = torch.ones(1, 4)
    proofs, given = [], []
    with attested("session", attester="simulated") as run:
        run.model(model)
        for _ in range(2):
            with palm_torch.commit(model, layers="all") as proof:
                response = model(asked)
            given.append(run.answer(query=asked, response=response, proof=proof))
            proofs.append(proof)
    return answering.Chat(run, given), proofs


def test_a_trace_of_another_answer_is_refused(traced: tuple[Chat, list[Proof]]) -> None:
    talk, (first, second) = traced
    answer = content(talk.receipts[0])
    assert answer_traces.check(first.context, answer) == first.trace
    with pytest.raises(BindingError, match="expected the trace"):
        answer_traces.check(second.context, answer)
    swapped = dataclasses.replace(answer, trace=second.root)  # as attested code never says it
    with pytest.raises(BindingError, match="fact 'query'"):
        answer_traces.check(second.context, swapped)
    with pytest.raises(BindingError, match="the session's log does not have it"):
        answer_receipts.check_place(swapped, talk.end, answers.replay(talk.run.evidence.bundle.log))


def test_the_root_of_a_trace_is_no_test_for_guesses(traced: tuple[Chat, list[Proof]]) -> None:
    """Whoever has the model and guesses the question computes the same tensors, and another root."""
    talk, (first, second) = traced
    assert first.trace.activations() == second.trace.activations()
    assert first.root != second.root
    guess = dataclasses.replace(first.trace, facts={})
    assert trace.root(guess.encode()) not in {first.root, second.root}
    assert content(talk.receipts[0]).query.digest != content(talk.receipts[1]).query.digest


def test_a_session_does_not_say_that_more_answers_have_traces_than_its_log(
    traced: tuple[Chat, list[Proof]], talk: Chat
) -> None:
    del traced
    account = dataclasses.replace(talk.account, traced=talk.account.answers)
    bent = dataclasses.replace(talk.end.claims.decoding, value=account.to_value())
    with pytest.raises(ClaimError, match="traced: the statement says 4, the event log 0"):
        verify_data(resealed(talk.run, decoding=bent), talk.run, traced=True)
