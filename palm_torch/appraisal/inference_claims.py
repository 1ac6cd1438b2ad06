"""What statements say of answers, against the log of their session and against the rules of a policy.

A statement of inference is checked against the event log that was sealed with it, which has every answer and
every measurement of the weights (`palm_torch.commit.answers`):

1. The log replays: answers in order, measurements of one root.
2. Question and answer that the statement names are those of the last answer.
3. The history is that of the answers in the log; an `Infer` has one answer.
4. The account names as many answers, traces and measurements, and the revoked ones, as the log.
5. Unless answers are revoked, the weights were measured after the last of them.

Receipts of single answers are the business of `palm_torch.appraisal.answer_receipts`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from palm_torch.appraisal import answer_words, demands
from palm_torch.commit import answers
from palm_torch.errors import ClaimError
from palm_torch.policies.bounds import ANY
from palm_torch.properties import Infer, Session
from palm_torch.result import Reservation
from palm_torch.roles import Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from palm_torch.commit.answers import Account, Parameter
    from palm_torch.policies.bounds import Range
    from palm_torch.policies.inference_rules import InferenceRules
    from palm_torch.properties import Property
    from palm_torch.statement import Statement

NOT_SHOWN: Final = (
    "what was asked and answered: their digests are salted, and openings of their owner show them"
)


def check_log(end: Statement, log: Sequence[bytes]) -> None:
    """Checks a statement of inference against the event log; other statements pass.

    Args:
        end: The statement.
        log: The event log that was sealed with it, its numbers checked.

    Raises:
        EvidenceError: If the log or the account does not parse.
        ClaimError: Naming what the statement says and what the log says.
    """
    claims = end.claims
    if not isinstance(claims, (Infer, Session)):
        return
    account = answers.account_of(claims.decoding.value)
    replayed = answers.replay(log)  # 1
    if not replayed.turns:
        raise ClaimError("answers: the event log has none")
    last = replayed.turns[-1]
    for role, digest in (("query", last.query), ("response", last.response)):  # 2
        said = getattr(claims, role).digest
        if said != digest:
            raise ClaimError(f"{role}: the statement says {said}, the event log's last answer {digest}")
    if isinstance(claims, Session) and claims.history.digest != replayed.history_root():  # 3
        raise ClaimError(
            f"history: the statement says {claims.history.digest}, the answers of the event log make "
            f"{replayed.history_root()}"
        )
    if isinstance(claims, Infer) and len(replayed.turns) != 1:
        raise ClaimError(f"answers: inference is about one, the event log has {len(replayed.turns)}")
    traced = sum(turn.trace is not None for turn in replayed.turns)
    found = {
        "answers": (account.answers, len(replayed.turns)),
        "traced": (account.traced, traced),
        "looks": (account.looks, len(replayed.looks)),
        "revoked": (account.revoked, replayed.revoked()),
        "model": (claims.model.digest, replayed.looks[0].root),
    }
    for name, (said, logged) in found.items():  # 4
        if said != logged:
            raise ClaimError(f"{name}: the statement says {said}, the event log {logged}")
    if not replayed.settled:  # 5
        raise ClaimError("the weights were not measured after the last answer")


def check(claims: Property, rules: InferenceRules) -> None:
    """Checks answers against the rules.

    Raises:
        EvidenceError: If the account does not parse.
        ClaimError: Naming the claim, what the policy demands and what the statement says.
    """
    if not isinstance(claims, (Infer, Session)):
        raise ClaimError(f"the rules are for {rules.property!r}, the claims are {type(claims).__name__}")
    account = answers.account_of(claims.decoding.value)
    demands.reference("model", claims.model.digest, rules.references("model"))
    demands.reference("tokenizer", claims.tokenizer.digest, rules.references("tokenizer"))
    demands.in_range("answers", account.answers, rules.answers)
    if account.revoked_answers > rules.revoked:
        span = account.revoked[0]
        raise ClaimError(
            f"revoked: {account.revoked_answers} of {account.answers} answers, the policy allows "
            f"{rules.revoked}: tensor {span.tensor!r:.200} was found changed, which revokes answers "
            f"{span.first} to {span.last}"
        )
    if rules.traced and account.traced != account.answers:
        raise ClaimError(
            f"traced: the policy demands a trace of each answer, the evidence has {account.traced} for "
            f"{account.answers}"
        )
    for name, allowed in rules.decoding.items():
        _check_range(name, account.parameters.get(name), account.answers, allowed)
    for name, choices in rules.choices.items():
        _check_choices(name, account.parameters.get(name), account.answers, choices)


def waved_through(rules: InferenceRules) -> Iterator[str]:
    """Yields what rules let pass unread."""
    for role in rules.ROLES:
        if rules.references(role).word == ANY:
            yield f"{role}: the policy accepts any"
    if not rules.decoding and not rules.choices:
        yield "decoding: any parameters"
    if rules.revoked:
        yield f"revoked: up to {rules.revoked} answers of which nobody knows what weights gave them"


def left_open(claims: Property) -> list[str]:
    """Returns what evidence of answers leaves unchecked."""
    return [NOT_SHOWN] if isinstance(claims, (Infer, Session)) else []


def reservations(claims: Property) -> Iterator[Reservation]:
    """Yields what answers leave open, whatever a policy says."""
    if not isinstance(claims, (Infer, Session)):
        return
    account = answers.account_of(claims.decoding.value)
    for span in account.revoked:
        yield Reservation(
            about="claims",
            reason=f"answers {span.first} to {span.last} of {account.answers} are revoked: tensor "
            f"{span.tensor:.160} was found changed, and nobody knows since when",
            advice="believe none of their receipts; ask again, in a session whose weights stay as they are",
        )


def said(claims: Property) -> Iterator[tuple[str, str, Source]]:
    """Yields name, words and source of what a result says beside artifacts and weights."""
    if not isinstance(claims, (Infer, Session)):
        return
    account = answers.account_of(claims.decoding.value)
    yield (
        "answers",
        (
            f"{account.answers}, {account.revoked_answers} revoked, {account.traced} with a trace; weights "
            f"measured {account.looks} times"
        ),
        Source.MEASURED,
    )
    for name, parameter in account.parameters.items():
        yield f"decoding {name}", _parameter(parameter, account), claims.decoding.source


def _check_range(name: str, found: Parameter | None, count: int, allowed: Range) -> None:
    what = f"decoding.{name}"
    if found is None or found.said < count:
        said_in = 0 if found is None else found.said
        raise ClaimError(
            f"{what}: the policy demands {allowed}, {count - said_in} of {count} answers do not say"
        )
    if found.others or found.least is None or found.greatest is None:
        raise ClaimError(
            f"{what}: the policy demands {allowed}, the evidence says {answer_words.listed(found.others)}"
        )
    for value in (found.least, found.greatest):
        demands.in_range(what, value, allowed)


def _check_choices(name: str, found: Parameter | None, count: int, choices: Sequence[Any]) -> None:
    what = f"decoding.{name}: the policy demands one of {answer_words.listed(choices)}"
    if found is None or found.said < count:
        said_in = 0 if found is None else found.said
        raise ClaimError(f"{what}, {count - said_in} of {count} answers do not say")
    numbers = () if found.least is None else {found.least, found.greatest}
    if len(numbers) > 1:
        raise ClaimError(f"{what}, the evidence says numbers from {found.least} to {found.greatest}")
    for value in (*found.others, *numbers):
        if not answer_words.is_among(value, choices):
            raise ClaimError(f"{what}, the evidence says {answer_words.listed([value])}")


def _parameter(parameter: Parameter, account: Account) -> str:
    words = [answer_words.listed([item]) for item in parameter.others[:4]]
    if parameter.least is not None:
        one = parameter.least == parameter.greatest
        words.append(f"{parameter.least}" if one else f"{parameter.least} to {parameter.greatest}")
    told = "" if parameter.said == account.answers else f" in {parameter.said} of {account.answers} answers"
    return " or ".join(words)[:160] + told
