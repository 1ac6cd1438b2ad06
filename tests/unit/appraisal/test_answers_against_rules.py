"""Answers against a policy's rules: the account of a session, and single receipts."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import answering
import pytest
from answering import chat, content

from palm_torch import receipt
from palm_torch.appraisal import (
    answer_openings,
    answer_receipts,
    answer_traces,
    answer_words,
    inference_claims,
    inference_template,
    policy_template,
    receipts,
)
from palm_torch.appraisal import claims as claims_of_all
from palm_torch.commit import answer_facts, answers, salted, trace
from palm_torch.commit.answers import Parameter, Revoked
from palm_torch.digest import sha256_digest, tagged_digest
from palm_torch.errors import ArtifactError, BindingError, ClaimError, EncodingError, EvidenceError
from palm_torch.policies import policy
from palm_torch.policies.bounds import Range
from palm_torch.policies.inference_rules import InferenceRules
from palm_torch.roles import EMPTY, Artifact, Source, Value

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from answering import Chat

    from palm_torch.properties import Session
    from palm_torch.receipt import AnswerReceipt
    from palm_torch.statement import Statement

pytestmark = pytest.mark.usefixtures("fresh_process")

OTHER = tagged_digest("palm-torch/example/v1", b"another")


@pytest.fixture(scope="module")
def talk() -> Iterator[Chat]:
    with answering.few_sources():
        yield chat(2)


@pytest.fixture(scope="module")
def training() -> Statement:
    import workshop

    return workshop.make_statement("run")


@pytest.fixture
def claims(talk: Chat) -> Session:
    return talk.end.claims


@pytest.fixture
def first(talk: Chat) -> AnswerReceipt:
    return content(talk.receipts[0])


def rules(**demands: Any) -> InferenceRules:
    return InferenceRules(**{"property": "session", "model": ("any",), "tokenizer": ("none",), **demands})


def said_of(claims: Session, **changes: Any) -> Session:
    """Returns claims with another account of the answers."""
    account = dataclasses.replace(answers.account_of(claims.decoding.value), **changes)
    return dataclasses.replace(claims, decoding=Value(source=Source.REPORTED, value=account.to_value()))


def number(least: float, greatest: float, *, said: int = 2, others: tuple[Any, ...] = ()) -> Parameter:
    return Parameter(said=said, least=least, greatest=greatest, others=others)


def flag(*values: Any, said: int = 2) -> Parameter:
    return Parameter(said=said, least=None, greatest=None, others=values)


BROKEN: list[tuple[dict[str, Any], dict[str, Parameter], str]] = [
    ({"answers": Range(least=3)}, {}, "answers: the policy demands >= 3, the evidence says 2"),
    ({"model": (str(OTHER),)}, {}, "model: the policy demands"),
    ({"tokenizer": (str(OTHER),)}, {}, "tokenizer: the policy demands .* the evidence says none"),
    ({"traced": True}, {}, "traced: the policy demands a trace of each answer, the evidence has 0 for 2"),
    ({"decoding": {"t": Range(least=0)}}, {}, "decoding.t: .* 2 of 2 answers do not say"),
    ({"decoding": {"t": Range(least=0)}}, {"t": number(1, 1, said=1)}, "1 of 2 answers do not say"),
    ({"decoding": {"t": Range(least=0)}}, {"t": flag("x")}, 'the evidence says "x"'),
    ({"decoding": {"t": Range(least=0)}}, {"t": number(1, 1, others=("x",))}, 'the evidence says "x"'),
    ({"decoding": {"t": Range(least=0)}}, {"t": number(-1, 1)}, "the evidence says -1"),
    ({"decoding": {"t": Range(greatest=0)}}, {"t": number(-1, 1)}, "the evidence says 1"),
    ({"choices": {"t": (True,)}}, {}, "decoding.t: .* one of true, 2 of 2 answers do not say"),
    ({"choices": {"t": (True,)}}, {"t": flag(True, said=1)}, "1 of 2 answers do not say"),
    ({"choices": {"t": (True,)}}, {"t": flag(False)}, "the evidence says false"),
    ({"choices": {"t": (1, 2)}}, {"t": number(1, 2)}, "numbers from 1 to 2"),
    ({"choices": {"t": (True,)}}, {"t": number(1, 1)}, "the evidence says 1"),
]
"""A rule, what the answers said, and why that is refused."""


@pytest.mark.parametrize(("demand", "parameters", "says"), BROKEN)
def test_a_session_that_breaks_a_rule_is_refused(
    claims: Session, demand: dict[str, Any], parameters: dict[str, Parameter], says: str
) -> None:
    with pytest.raises(ClaimError, match=says):
        inference_claims.check(said_of(claims, parameters=parameters), rules(**demand))


def test_every_rule_stands_in_a_table(claims: Session) -> None:
    apart = {"property", "revoked", "declared"}  # in tests of their own below
    found = {field.name for field in dataclasses.fields(InferenceRules)}
    assert {name for demand, *_ in BROKEN for name in demand} | apart == found
    inference_claims.check(claims, rules())


def test_declared_values_are_counted(talk: Chat) -> None:
    said = Artifact(source=Source.DECLARED, kind="file", digest=OTHER)
    end = dataclasses.replace(talk.end, claims=dataclasses.replace(talk.end.claims, tokenizer=said))
    claims_of_all.check_claims(end, rules(tokenizer=("any",), declared=1))
    with pytest.raises(ClaimError, match="the policy allows 0"):
        claims_of_all.check_claims(end, rules(tokenizer=("any",)))


def test_a_session_that_keeps_the_rules_is_accepted(claims: Session) -> None:
    kept = said_of(claims, parameters={"t": number(0.5, 1), "n": number(1, 1), "s": flag("a", None)})
    ranges = {"t": Range(least=0.5, greatest=1)}
    inference_claims.check(kept, rules(decoding=ranges, choices={"n": (1,), "s": (None, "a", "b")}))


def test_revoked_answers_are_counted_and_said(claims: Session, training: Statement) -> None:
    bent = said_of(claims, revoked=(Revoked(first=0, last=1, tensor="w"),))
    with pytest.raises(ClaimError, match="revoked: 2 of 2 answers, the policy allows 1"):
        inference_claims.check(bent, rules(revoked=1))
    inference_claims.check(bent, rules(revoked=2))
    (kept,) = inference_claims.reservations(bent)
    assert "answers 0 to 1 of 2 are revoked" in kept.reason
    assert list(inference_claims.waved_through(rules(revoked=2)))[-1].startswith("revoked: up to 2")
    ranged = rules(model=("none",), decoding={"t": Range(least=0)})
    assert list(inference_claims.waved_through(ranged)) == []
    assert list(inference_claims.reservations(training.claims)) == []
    assert list(inference_claims.said(training.claims)) == []
    assert inference_claims.left_open(training.claims) == []
    inference_claims.check_log(training, [])


def test_what_a_result_says_of_parameters(claims: Session) -> None:
    parameters = {"t": number(0.5, 1), "n": number(1, 1, said=1), "s": flag("a", None)}
    told = {name: words for name, words, _ in inference_claims.said(said_of(claims, parameters=parameters))}
    assert told["decoding t"] == "0.5 to 1"
    assert told["decoding n"] == "1 in 1 of 2 answers"
    assert told["decoding s"] == '"a" or null'
    assert answer_words.listed([]) == "nothing"


def test_rules_of_another_operation_do_not_fit(training: Statement) -> None:
    with pytest.raises(ClaimError, match="the rules are for 'session', the claims are Train"):
        inference_claims.check(training.claims, rules())


def test_a_log_without_answers_or_with_another_account_is_refused(talk: Chat) -> None:
    log = talk.run.evidence.bundle.log
    with pytest.raises(ClaimError, match="the event log has none"):
        inference_claims.check_log(talk.end, [])
    for name, changes in {
        "traced": {"traced": 1},
        "looks": {"looks": 5},
        "revoked": {"revoked": (Revoked(first=0, last=1, tensor="w"),)},
    }.items():
        end = dataclasses.replace(talk.end, claims=said_of(talk.end.claims, **changes))
        with pytest.raises(ClaimError, match=f"{name}: the statement says"):
            inference_claims.check_log(end, log)
    end = dataclasses.replace(talk.end, claims=_as_infer(talk.end.claims))
    with pytest.raises(ClaimError, match="inference is about one, the event log has 2"):
        inference_claims.check_log(end, log)
    unsettled = [entry for entry in log if answers.MEASURED.encode() not in entry]
    first_look = next(entry for entry in log if answers.MEASURED.encode() in entry)
    end = dataclasses.replace(talk.end, claims=said_of(talk.end.claims, looks=1))
    with pytest.raises(ClaimError, match="not measured after the last answer"):
        inference_claims.check_log(end, [first_look, *unsettled])


def _as_infer(claims: Session) -> Any:
    from palm_torch.properties import Infer

    members = {field.name: getattr(claims, field.name) for field in dataclasses.fields(Infer)}
    return Infer(**members)


# Receipts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("demand", "says"),
    [
        ({"model": (str(OTHER),)}, "model"),
        ({"tokenizer": (str(OTHER),)}, "tokenizer"),
        ({"traced": True}, "trace: the policy demands one of each answer, the receipt names none"),
        ({"decoding": {"t": Range(least=0)}}, "decoding.t: .* the receipt does not say"),
        ({"decoding": {"temperature": Range(least=1)}}, "the evidence says 0.5"),
        ({"decoding": {"do_sample": Range(least=1)}}, "expected a number"),
        ({"choices": {"t": (1,)}}, "decoding.t: .* the receipt says nothing"),
        ({"choices": {"do_sample": (False,)}}, "the receipt says true"),
    ],
)
def test_a_receipt_that_breaks_a_rule_is_refused(
    first: AnswerReceipt, demand: dict[str, Any], says: str
) -> None:
    with pytest.raises(ClaimError, match=says):
        answer_receipts.check(first, rules(**demand))


def test_a_receipt_that_keeps_the_rules_is_accepted(first: AnswerReceipt) -> None:
    demand = {"decoding": {"temperature": Range(least=0)}, "choices": {"do_sample": (True,)}}
    answer_receipts.check(dataclasses.replace(first, trace=OTHER), rules(**demand, traced=True))
    told = {name: words for name, words, _ in answer_receipts.said(dataclasses.replace(first, trace=OTHER))}
    assert told["trace"] == str(OTHER)
    assert told["decoding temperature"] == "0.5"
    assert "trace" not in {name for name, *_ in answer_receipts.said(first)}


def test_a_receipt_has_its_place_in_the_log_of_answers_alone(
    talk: Chat, first: AnswerReceipt, training: Statement
) -> None:
    log = answers.replay(talk.run.evidence.bundle.log)
    answer_receipts.check_place(first, talk.end, log)
    with pytest.raises(BindingError, match="the closing evidence is of 'train'"):
        answer_receipts.check_place(first, training, log)
    for changes in ({"trace": OTHER}, {"answer": 7}):
        with pytest.raises(BindingError, match="does not have it as the receipt does"):
            answer_receipts.check_place(dataclasses.replace(first, **changes), talk.end, log)
    end = dataclasses.replace(
        talk.end, claims=said_of(talk.end.claims, revoked=(Revoked(first=0, last=0, tensor="w"),))
    )
    with pytest.raises(ClaimError, match="answer 0 is revoked: tensor 'w'"):
        answer_receipts.check_place(first, end, log)


@pytest.mark.parametrize(
    "said", [{"temperature": 9.5}, {"temperature": "hot"}, {"temperature": True}, {"seed": 1}]
)
def test_parameters_that_no_answer_of_the_session_said_do_not_fit_its_statement(
    talk: Chat, first: AnswerReceipt, said: dict[str, object]
) -> None:
    replayed = answers.replay(talk.run.evidence.bundle.log)
    bent = dataclasses.replace(first, decoding=dataclasses.replace(first.decoding, value=said))
    with pytest.raises(BindingError, match="which by the session's statement no answer said"):
        answer_receipts.check_place(bent, talk.end, replayed)


def test_an_opening_belongs_to_one_answer_and_role(talk: Chat, first: AnswerReceipt) -> None:
    contents = [first, content(talk.receipts[1])]
    opening = talk.receipts[1].openings["query"]
    assert answer_openings.match(opening, contents) == (
        1,
        "query",
        salted.Content("int64[5]", opening.content),
    )
    for bent in (
        dataclasses.replace(opening, role="response"),
        dataclasses.replace(opening, digest=OTHER),
        dataclasses.replace(opening, content=b""),
    ):
        with pytest.raises(BindingError):
            answer_openings.match(bent, contents)


# Traces --------------------------------------------------------------------------------------------------


def context_of(first: AnswerReceipt, **changes: Any) -> trace.Context:
    facts = answer_facts.facts(
        query=first.query.digest,
        response=first.response.digest,
        tokenizer=first.tokenizer.digest,
        decoding=first.decoding.value,
        before=first.generators.before,
        after=first.generators.after,
    )
    made: dict[str, Any] = {
        "media_type": trace.MEDIA_TYPE,
        "scheme": "hash",
        "model": first.model,
        "groups": (),
        "coverage": (),
        "not_captured": (),
        "environment": {},
        "facts": {**facts, "more": OTHER},
    }
    return trace.Context(**{**made, **changes})


def bound(first: AnswerReceipt, context: trace.Context) -> AnswerReceipt:
    return dataclasses.replace(first, trace=trace.root(context.encode()))


def test_a_trace_is_that_of_the_answer(first: AnswerReceipt) -> None:
    context = context_of(first)
    assert answer_traces.check(context.encode(), bound(first, context)) == context
    with pytest.raises(BindingError, match="expected the trace none"):
        answer_traces.check(context.encode(), first)
    with pytest.raises(EvidenceError):
        answer_traces.check(b"{}", first)
    for model in (OTHER, None):
        foreign = context_of(first, model=model)
        with pytest.raises(BindingError, match="expected a trace of the model"):
            answer_traces.check(foreign.encode(), bound(first, foreign))


@pytest.mark.parametrize("fact", ["query", "response", "decoding", "generators.before", "generators.after"])
def test_a_trace_with_another_fact_or_none_is_refused(first: AnswerReceipt, fact: str) -> None:
    facts = context_of(first).facts
    for changed in ({**facts, fact: OTHER}, {name: one for name, one in facts.items() if name != fact}):
        context = context_of(first, facts=changed)
        with pytest.raises(BindingError, match=f"fact '{fact}': expected"):
            answer_traces.check(context.encode(), bound(first, context))


# The policy to start from --------------------------------------------------------------------------------


def template_of(talk: Chat, **changes: Any) -> str:
    end = dataclasses.replace(talk.end, claims=said_of(talk.end.claims, **changes))
    return "\n".join(inference_template.lines(end, end.claims))


def test_a_policy_to_start_from_accepts_the_session_that_it_was_made_of(talk: Chat) -> None:
    data = talk.run.evidence.bundle.encode()
    text = policy_template.starting_policy(data, what="evidence")
    found = policy.parse(text.encode())
    assert isinstance(found.claims, InferenceRules)
    inference_claims.check(talk.end.claims, found.claims)
    assert found.claims.decoding == {"temperature": Range(least=0.5, greatest=0.5)}
    assert found.claims.choices == {"do_sample": (True,)}
    assert found.claims.answers == Range(least=2, greatest=2)


def test_the_template_names_what_every_answer_said_and_nothing_longer(talk: Chat) -> None:
    parameters = {
        "tiny": number(1e-05, 1e16),
        "words": flag("a: #", False, None),
        "mixed": number(1, 2, others=("x",)),
        "seldom": number(1, 2, said=1),
        "rare": flag(True, said=1),
        "list": flag([1]),
        "long": flag("x" * 200),
        "n" * 200: number(1, 1),
        "f" * 200: flag(True),
    }
    text = template_of(talk, parameters=parameters)
    assert "{least: 1e-05, greatest: 1e+16}" in text
    assert '"words": ["a: #", false, null]' in text
    for left_out in ("mixed", "seldom", "rare", "list", "long", "nnn", "fff"):
        assert left_out not in text
    plain = template_of(talk, parameters={}, traced=2, revoked=(Revoked(first=1, last=1, tensor="w"),))
    assert "decoding:" not in plain
    assert "choices:" not in plain
    assert "\n  traced: true" in plain
    assert "\n  revoked: 1" in plain
    assert "revoked" not in text
    assert "traced" not in text


def test_the_template_names_the_tokenizer_and_what_is_declared(talk: Chat) -> None:
    named = dataclasses.replace(talk.end.claims.tokenizer, source=Source.MEASURED, kind="bytes", digest=OTHER)
    end = dataclasses.replace(talk.end, claims=dataclasses.replace(talk.end.claims, tokenizer=named))
    text = "\n".join(inference_template.lines(end, end.claims))
    assert f'tokenizer: ["{OTHER}"]' in text
    assert "declared: 0" in text
    assert "tokenizer: [none]" in template_of(talk)


def test_an_answer_has_a_question_and_rests_on_a_measurement_before_it(first: AnswerReceipt) -> None:
    nothing = Artifact(source=Source.DECLARED, kind=EMPTY, digest=None)
    for role in ("query", "response"):
        with pytest.raises(EncodingError, match="query, response: expected a digest of each"):
            dataclasses.replace(first, **{role: nothing})
    for changed in ({"answers": -1}, {"age_s": -1}, {"age_s": receipt.MAX_SEQUENCE}):
        with pytest.raises(EncodingError, match=f"{next(iter(changed))}: expected 0 to "):
            dataclasses.replace(first.rests_on, **changed)


def test_a_file_is_compared_with_the_tokenizer_of_a_receipt(first: AnswerReceipt, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(b"words")
    named = Artifact(source=Source.MEASURED, kind="file", digest=sha256_digest(b"words"))
    for digest, equal in ((named.digest, True), (sha256_digest(b"other words"), False)):
        tokenizer = dataclasses.replace(named, digest=digest)
        content = dataclasses.replace(first, tokenizer=tokenizer)
        with nullcontext() if equal else pytest.raises(ArtifactError, match="tokenizer"):
            receipts._compare("tokenizer", tmp_path / "tokenizer.json", content)
    with pytest.raises(ArtifactError, match="no role 'query' to compare a file with; it has tokenizer"):
        receipts._compare("query", tmp_path / "tokenizer.json", first)
