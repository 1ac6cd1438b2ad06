"""What statements and receipts say of answers, against each other and against the rules of a policy.

A statement of inference is checked against the event log that was sealed with it, which has every answer and
every measurement of the weights (`palm_torch.commit.answers`):

1. The log replays: answers in order, measurements of one root.
2. Question and answer that the statement names are those of the last answer.
3. The history is that of the answers in the log; an `Infer` has one answer.
4. The account names as many answers and measurements, and the revoked ones, as the log.
5. Unless answers are revoked, the weights were measured after the last of them.

A receipt of one answer, given the log:

6. The answer is the log's, right before the receipt, and is not revoked.
7. The histories before and with it are those that the log's answers make; what it rests on is the last
   measurement that the log has before it.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

from palm_torch.appraisal import demands
from palm_torch.commit import answers
from palm_torch.encoding import encode_json
from palm_torch.errors import BindingError, ClaimError
from palm_torch.policies.bounds import ANY
from palm_torch.properties import Infer, Session
from palm_torch.result import Reservation
from palm_torch.roles import Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from palm_torch.commit.answers import Account, Parameter
    from palm_torch.policies.bounds import Range
    from palm_torch.policies.inference_rules import InferenceRules
    from palm_torch.properties import Property
    from palm_torch.receipt import AnswerReceipt
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
    found = (len(replayed.turns), len(replayed.looks), replayed.revoked(), replayed.looks[0].root)
    said_so = (account.answers, account.looks, account.revoked, claims.model.digest)
    for name, said, logged in zip(  # 4
        ("answers", "looks", "revoked", "model"), said_so, found, strict=True
    ):
        if said != logged:
            raise ClaimError(f"{name}: the statement says {said}, the event log {logged}")
    if account.traced > account.answers:
        raise ClaimError(f"traced: {account.traced} of {account.answers} answers")
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


def check_receipt(content: AnswerReceipt, rules: InferenceRules) -> None:
    """Checks one answer's receipt against the rules, as far as it can tell.

    Raises:
        ClaimError: Naming the claim, what the policy demands and what the receipt says.
    """
    demands.reference("model", content.model, rules.references("model"))
    demands.reference("tokenizer", content.tokenizer.digest, rules.references("tokenizer"))
    if rules.traced and content.trace is None:
        raise ClaimError("trace: the policy demands one of each answer, the receipt names none")
    said: Mapping[str, Any] = content.decoding.value
    for name, allowed in rules.decoding.items():
        if name not in said:
            raise ClaimError(f"decoding.{name}: the policy demands {allowed}, the receipt does not say")
        demands.in_range(f"decoding.{name}", demands.number(f"decoding.{name}", said[name]), allowed)
    for name, choices in rules.choices.items():
        if name not in said or not _is_among(said[name], choices):
            raise ClaimError(
                f"decoding.{name}: the policy demands one of {_words(choices)}, the receipt says "
                f"{_words([said[name]]) if name in said else 'nothing'}"
            )


def check_place(content: AnswerReceipt, end: Statement, log: Sequence[bytes]) -> None:
    """Checks a receipt against the sealed statement and log of its session; both have been verified.

    Raises:
        BindingError: If the session did not give this answer there.
        ClaimError: If the answer is revoked.
    """
    claims = end.claims
    if not isinstance(claims, (Infer, Session)):
        raise BindingError(f"answer {content.answer}: the closing evidence is of {end.operation!r}")
    replayed = answers.replay(log)
    number = content.answer
    turn = replayed.turns[number] if number < len(replayed.turns) else None
    if (
        turn is None  # 6
        or (turn.query, turn.response) != (content.query.digest, content.response.digest)
        or replayed.log_sizes[number] + 1 != content.issued.log_size
        or content.model != claims.model.digest
        or content.tokenizer != claims.tokenizer
    ):
        raise BindingError(
            f"answer {number}: the session's log does not have it as the receipt does: "
            f"{content.response.digest} to {content.query.digest}, from the model {content.model}"
        )
    for name, size, root in (
        ("before", number, content.history_before),
        ("with", number + 1, content.history),
    ):
        if replayed.history_root(size) != root:  # 7
            raise BindingError(
                f"answer {number}: the history {name} it is {root} by the receipt, "
                f"{replayed.history_root(size)} by the session's log"
            )
    logged = answers.replay(log[: content.issued.log_size])
    if logged.looks[-1].answers != content.rests_on.answers:
        raise BindingError(
            f"answer {number}: rests on a measurement after {content.rests_on.answers} answers by the "
            f"receipt, after {logged.looks[-1].answers} by the session's log"
        )
    revoked = answers.account_of(claims.decoding.value).is_revoked(number)
    if revoked is not None:
        raise ClaimError(
            f"answer {number} is revoked: tensor {revoked.tensor!r:.200} was found changed, and nobody knows "
            f"since when: answers {revoked.first} to {revoked.last} rest on nothing"
        )


def check_order(receipts: Iterable[AnswerReceipt]) -> None:
    """Checks that receipts of one session tell one history, without its closing evidence.

    Args:
        receipts: Contents of receipts that were verified, in any order.

    Raises:
        BindingError: If they are of several sessions, or two of them exclude each other.
    """
    ordered = sorted(receipts, key=lambda one: one.answer)
    for before, after in itertools.pairwise(ordered):
        between = f"answers {before.answer} and {after.answer}"
        if (before.issued.run_id, before.issued.begin) != (after.issued.run_id, after.issued.begin):
            raise BindingError(f"{between}: receipts of different sessions")
        if before.answer == after.answer and before != after:
            raise BindingError(
                f"{between}: two answers of one session have one number: its history was forked"
            )
        if before.answer == after.answer:
            continue
        if before.model != after.model:
            raise BindingError(f"{between}: of different models, {before.model} and {after.model}")
        later = (
            before.issued.sequence < after.issued.sequence and before.issued.log_size < after.issued.log_size
        )
        if not later or before.rests_on.answers > after.rests_on.answers:
            raise BindingError(f"{between}: the later one was issued first")
        if before.answer + 1 == after.answer and before.history != after.history_before:
            raise BindingError(
                f"{between}: the history goes from {before.history} to {after.history_before}: it was edited "
                "in between"
            )


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


def said_of_receipt(content: AnswerReceipt) -> Iterator[tuple[str, str, Source]]:
    """Yields name, words and source of what a result says of one answer's receipt."""
    rests = content.rests_on
    yield "answer", f"number {content.answer} of its session", Source.MEASURED
    yield (
        "model",
        f"{content.model}, measured {rests.age_s} s and {content.answer - rests.answers} answers before",
        Source.MEASURED,
    )
    for role in ("tokenizer", "query", "response"):
        artifact = getattr(content, role)
        yield role, str(artifact.digest or "none"), artifact.source
    yield "history", str(content.history), Source.MEASURED
    if content.trace is not None:
        yield "trace", str(content.trace), Source.MEASURED
    for name, value in content.decoding.value.items():
        yield f"decoding {name}", _words([value]), content.decoding.source


def _check_range(name: str, found: Parameter | None, count: int, allowed: Range) -> None:
    what = f"decoding.{name}"
    if found is None or found.said < count:
        said_in = 0 if found is None else found.said
        raise ClaimError(
            f"{what}: the policy demands {allowed}, {count - said_in} of {count} answers do not say"
        )
    if found.others or found.least is None or found.greatest is None:
        raise ClaimError(f"{what}: the policy demands {allowed}, the evidence says {_words(found.others)}")
    for value in (found.least, found.greatest):
        demands.in_range(what, value, allowed)


def _check_choices(name: str, found: Parameter | None, count: int, choices: Sequence[Any]) -> None:
    what = f"decoding.{name}: the policy demands one of {_words(choices)}"
    if found is None or found.said < count:
        said_in = 0 if found is None else found.said
        raise ClaimError(f"{what}, {count - said_in} of {count} answers do not say")
    numbers = () if found.least is None else {found.least, found.greatest}
    if len(numbers) > 1:
        raise ClaimError(f"{what}, the evidence says numbers from {found.least} to {found.greatest}")
    for value in (*found.others, *numbers):
        if not _is_among(value, choices):
            raise ClaimError(f"{what}, the evidence says {_words([value])}")


def _is_among(value: object, choices: Sequence[Any]) -> bool:
    return encode_json(value) in {encode_json(choice) for choice in choices}  # type: ignore[arg-type] # of decoded JSON


def _parameter(parameter: Parameter, account: Account) -> str:
    words = [_words([item]) for item in parameter.others[:4]]
    if parameter.least is not None:
        one = parameter.least == parameter.greatest
        words.append(f"{parameter.least}" if one else f"{parameter.least} to {parameter.greatest}")
    told = "" if parameter.said == account.answers else f" in {parameter.said} of {account.answers} answers"
    return " or ".join(words)[:160] + told


def _words(values: Sequence[Any]) -> str:
    return ", ".join(encode_json(value).decode()[:80] for value in values) or "nothing"
