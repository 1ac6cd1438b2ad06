"""A prover who answers an audit with what suits: other rows, other requests, other traces, other weights."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import audited
import pytest

from palm_torch.challenge import answer, challenge, questions, request, scores_file, used
from palm_torch.challenge import tokens as audit_tokens
from palm_torch.codec import to_json
from palm_torch.commit import trace_opening
from palm_torch.committing import answering
from palm_torch.digest import sha256_digest
from palm_torch.encoding import encode_json
from palm_torch.errors import BindingError, DataError, EvidenceError, FreshnessError, RequestError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from palm_torch.challenge.answer import AuditAnswer
    from palm_torch.challenge.request import AuditRequest

OTHER = sha256_digest(b"another session")


def drawn(made: audited.Audited, **options: Any) -> AuditRequest:
    return request.draw(made.encoded, made.geometry, **{"claims": None, "queries": 4, **options})


def check(made: audited.Audited, asked: AuditRequest, shown: AuditAnswer) -> None:
    """Does what a verifier does before it computes anything."""
    wanted = questions.questions(asked, made.context, challenge.asked(asked, made.context))
    answer.check_asked(shown, asked, wanted, made.context)
    audit_tokens.verify(shown.tokens, made.context.facts.get(audit_tokens.FACT))
    for question, opening in zip(wanted, shown.openings, strict=True):
        trace_opening.verify(made.root, made.encoded, question, opening)


@pytest.fixture(scope="module")
def made() -> audited.Audited:
    return audited.Audited(audited.llama())


def test_attack_86_a_second_answer_after_the_first_was_looked_at(
    made: audited.Audited, tmp_path: Path
) -> None:
    asked = drawn(made)
    path = tmp_path / "ask.palm-audit.json"
    asked.save(path)
    first = answering.answer(asked, made.kept())
    used.use(path, first.digest)
    with pytest.raises(FreshnessError, match="another answer needs another request"):
        used.use(path, dataclasses.replace(first, decoding={"do_sample": False}).digest)


def test_attack_87_an_answer_to_another_request(made: audited.Audited) -> None:
    easy, hard = drawn(made), drawn(made)
    shown = answering.answer(easy, made.kept())
    check(made, easy, shown)
    with pytest.raises(BindingError, match="expected one to the request"):
        check(made, hard, shown)
    with pytest.raises(BindingError, match=r"openings, got|expected an answer to"):
        check(made, hard, dataclasses.replace(shown, request=hard.digest))


def test_attack_88_places_that_the_prover_would_rather_have(made: audited.Audited) -> None:
    """Nothing that a prover can still choose after the nonce moves a place; each byte of the seed does."""
    asked = drawn(made, nonce=audited.NONCE, queries=32)
    places = challenge.asked(asked, made.context).places
    assert challenge.asked(dataclasses.replace(asked, geometry=made.geometry), made.context).places == places
    for changed in (
        {"nonce": bytes(32).hex()},
        {"claims": OTHER},
        {"claims": sha256_digest(b"a third")},
        {"trace": audited.Audited(audited.llama(), tokens=None).root},
    ):
        other = dataclasses.replace(asked, **changed)
        assert challenge.asked(other, made.context).places != places


@pytest.mark.parametrize(
    ("bend", "says"),
    [
        (lambda shown: {"openings": shown.openings[1:]}, "openings, got"),
        (lambda shown: {"openings": shown.openings[::-1]}, "expected an answer to"),
        (lambda shown: {"openings": (*shown.openings, shown.openings[0])}, "openings, got"),
        (lambda _: {"tokens": None}, "expected the ids of the tokens"),
    ],
)
def test_attack_89_rows_left_out_or_exchanged(
    made: audited.Audited, bend: Callable[[AuditAnswer], dict[str, Any]], says: str
) -> None:
    asked = drawn(made)
    shown = answering.answer(asked, made.kept())
    with pytest.raises(BindingError, match=says):
        check(made, asked, dataclasses.replace(shown, **bend(shown)))


def test_attack_90_other_bytes_in_an_opening(made: audited.Audited) -> None:
    asked = drawn(made, queries=1)
    shown = answering.answer(asked, made.kept())
    for number, opening in enumerate(shown.openings):
        tiles = bytes([opening.tiles[0] ^ 1]) + opening.tiles[1:]
        bent = dataclasses.replace(opening, tiles=tiles)
        openings = (*shown.openings[:number], bent, *shown.openings[number + 1 :])
        with pytest.raises(BindingError, match="root"):
            check(made, asked, dataclasses.replace(shown, openings=openings))


def test_twin_an_honest_answer(made: audited.Audited) -> None:
    asked = drawn(made)
    check(made, asked, answering.answer(asked, made.kept()))


def test_attack_91_a_trace_of_another_session_or_of_nobody(made: audited.Audited) -> None:
    """It ran the model twice, and would answer from the run that was not sealed."""
    asked = drawn(made, claims=OTHER)
    other = audited.Audited(audited.llama(), tokens=audit_tokens.Tokens(((1,) * 9, (2,) * 9)))
    with pytest.raises(BindingError, match="expected one about the trace"):
        answering.answer(asked, other.kept())
    better = answering.answer(dataclasses.replace(asked, trace=other.root), other.kept())
    with pytest.raises(BindingError):
        check(made, asked, dataclasses.replace(better, request=asked.digest))
    with pytest.raises(BindingError, match="expected one to the request"):  # the same trace, other claims
        check(made, dataclasses.replace(asked, claims=None), answering.answer(asked, made.kept()))


def test_attack_92_a_trace_with_less_in_it_than_an_audit_needs() -> None:
    for left_out in ("model.layers.1.mlp.down_proj", "model.layers.0.self_attn.k_proj", "model.norm"):
        lean = audited.Audited(audited.llama(), left_out=(left_out,))
        with pytest.raises(DataError, match=left_out):
            challenge.asked(drawn(lean), lean.context)


def test_attack_93_other_ids_than_were_bound(made: audited.Audited) -> None:
    asked = drawn(made)
    shown = answering.answer(asked, made.kept())
    rows = [list(row) for row in audited.TOKENS.rows]
    rows[1][3] += 1
    lie = audit_tokens.opening(audit_tokens.Tokens(tuple(map(tuple, rows))), audited.SALT)
    with pytest.raises(BindingError, match="tokens"):
        check(made, asked, dataclasses.replace(shown, tokens=lie))


def test_attack_94_parts_that_no_audit_would_ever_draw(made: audited.Audited) -> None:
    """Published scores are 0 for a quarter of the layers and more: an attacker would edit those."""
    with pytest.raises(RequestError, match="weights: expected numbers from 1"):
        drawn(made, weights=(1, 0, 1, 1))
    nothing = scores_file.Scores(
        media_type=scores_file.MEDIA_TYPE,
        measure="alpha",
        parts=tuple(
            scores_file.PartScore(name=part.name, score=float(part.number == 1), cost=1)
            for part in challenge.asked(drawn(made), made.context).parts
        ),
        verifiers=(),
    )
    assert min(scores_file.weights_of(nothing, uniform=0.01, verifier=None)) >= 1


def test_attack_95_an_answer_that_takes_all_memory_or_ages(
    made: audited.Audited, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = drawn(made)
    shown = answering.answer(asked, made.kept())
    monkeypatch.setattr(answer, "MAX_BYTES", len(shown.encode()) - 1)
    with pytest.raises(EvidenceError, match="expected at most"):
        answer.decode(codec_of(shown), what="answer")
    with pytest.raises(RequestError, match="queries: expected a number from 0 to"):
        dataclasses.replace(asked, queries=request.MAX_QUERIES + 1)


def codec_of(shown: AuditAnswer) -> bytes:
    """Returns an answer's bytes whatever their number."""
    return encode_json(to_json(shown))
