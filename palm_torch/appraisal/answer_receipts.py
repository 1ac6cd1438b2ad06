"""What receipts of answers say, against a policy, against the log of their session, and against each other.

A receipt of one answer, given the event log that its session sealed:

1. The answer is the log's, right before the receipt, with the same trace.
2. The histories before and with it are those that the log's answers make.
3. It rests on the last measurement of the weights that the log has before it.
4. Each parameter of decoding is one that the statement says of the session's answers.
5. It is not revoked.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from palm_torch.appraisal import answer_words, demands
from palm_torch.commit import answers
from palm_torch.errors import BindingError, ClaimError
from palm_torch.evidence import MAX_LOG_ENTRIES
from palm_torch.properties import Infer, Session
from palm_torch.roles import Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from palm_torch.commit.answers import Replayed
    from palm_torch.policies.inference_rules import InferenceRules
    from palm_torch.receipt import AnswerReceipt
    from palm_torch.statement import Statement


def check(content: AnswerReceipt, rules: InferenceRules) -> None:
    """Checks one answer's receipt against the rules, as far as it can tell.

    Raises:
        BindingError: If it says a place that no session's log has.
        ClaimError: Naming the claim, what the policy demands and what the receipt says.
    """
    if not content.answer < content.issued.log_size <= MAX_LOG_ENTRIES:
        raise BindingError(
            f"answer {content.answer}: expected that many answers and at most {MAX_LOG_ENTRIES} entries in "
            f"the session's log, the receipt says {content.issued.log_size}"
        )
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
        if name not in said or not answer_words.is_among(said[name], choices):
            raise ClaimError(
                f"decoding.{name}: the policy demands one of {answer_words.listed(choices)}, the receipt "
                f"says {answer_words.listed([said[name]]) if name in said else 'nothing'}"
            )


def check_place(content: AnswerReceipt, end: Statement, replayed: Replayed) -> None:
    """Checks a receipt against the sealed statement of its session and its log; both have been verified.

    Raises:
        BindingError: If the session did not give this answer there.
        ClaimError: If the answer is revoked.
    """
    claims = end.claims
    if not isinstance(claims, (Infer, Session)):
        raise BindingError(f"answer {content.answer}: the closing evidence is of {end.operation!r}")
    number = content.answer
    turn = replayed.turns[number] if number < len(replayed.turns) else None
    if (
        turn is None  # 1
        or (turn.query, turn.response) != (content.query.digest, content.response.digest)
        or turn.trace != content.trace
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
        if (logged := replayed.history_root(size)) != root:  # 2
            raise BindingError(
                f"answer {number}: the history {name} it is {root} by the receipt, {logged} by the session's "
                "log"
            )
    look = replayed.look_before(number)
    if look.answers != content.rests_on.answers:  # 3
        raise BindingError(
            f"answer {number}: rests on a measurement after {content.rests_on.answers} answers by the "
            f"receipt, after {look.answers} by the session's log"
        )
    account = answers.account_of(claims.decoding.value)
    for name, value in content.decoding.value.items():
        if not account.has_said(name, value):  # 4
            raise BindingError(
                f"answer {number}: decoding.{name:.80}: the receipt says {answer_words.listed([value])}, "
                "which by the session's statement no answer said"
            )
    revoked = account.is_revoked(number)
    if revoked is not None:  # 5
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
        if before.tokenizer != after.tokenizer:
            raise BindingError(
                f"{between}: of different tokenizers, {before.tokenizer.digest or 'none'} and "
                f"{after.tokenizer.digest or 'none'}"
            )
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


def said(content: AnswerReceipt) -> Iterator[tuple[str, str, Source]]:
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
        yield f"decoding {name}", answer_words.listed([value]), content.decoding.source
