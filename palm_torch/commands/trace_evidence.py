"""Evidence as the reason to believe a trace root: appraised, then asked for answers that it is of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palm_torch import statement
from palm_torch.appraisal import answer_traces
from palm_torch.challenge import sealed
from palm_torch.commands import evidence_appraisal
from palm_torch.commit import answer_facts, answers, trace
from palm_torch.digest import Digest
from palm_torch.errors import ArtifactError, BindingError, ClaimError
from palm_torch.properties import Infer, Session
from palm_torch.receipt import AnswerReceipt
from palm_torch.result import AttestationResult

if TYPE_CHECKING:
    from palm_torch.commit.answers import Turn
    from palm_torch.evidence import Bundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Whose trace a root is, by evidence that was accepted.

    Attributes:
        source: The receipt, or the evidence where there was no receipt.
        result: What its appraisal found.
        answers: Numbers of the answers that the trace is of.
        root: The trace root.
        claims: What an audit's request binds of it, as `palm_torch.challenge.sealed` says.
        decoding: How tokens were chosen, as the receipt says, whose digest is a fact of the trace; None of
            evidence, which says it of all answers together.
    """

    source: Path
    result: AttestationResult
    answers: tuple[int, ...]
    root: Digest
    claims: Digest
    decoding: dict[str, Any] | None = None

    @property
    def strength(self) -> str:
        """Who vouches for the root: whoever measured the model."""
        return next(claim.strength for claim in self.result.claims if claim.name == "model")


def named(
    context: bytes,
    what: str,
    *,
    evidence: Path | None,
    receipt: Path | None,
    **appraisal: Any,  # noqa: ANN401 (as in `evidence_appraisal.sealed`)
) -> Named:
    """Appraises evidence and finds the answers that a trace is of.

    1. The receipt is accepted, with the evidence as that of its session; or the evidence alone.
    2. It names the trace's root.
    3. The model of the trace, and what its facts say of question and answer, are those of that answer.
    4. The answer is not revoked.

    Args:
        context: The trace's context, of which nothing was checked yet.
        what: Its name, for messages.
        evidence: Sealed evidence of the session, or None.
        receipt: The receipt of an answer, or None; one of the two is given.
        appraisal: What they are appraised with, by the words of the command line.

    Raises:
        InputError: If a file is missing or malformed.
        RejectedError: If the evidence must not be believed, or names no such trace.
    """
    root = trace.root(context)
    if receipt is not None:
        result, content = evidence_appraisal.signed(receipt, evidence, **appraisal)
        if not isinstance(content, AnswerReceipt):
            raise ArtifactError(f"{receipt}: expected the receipt of an answer, got one of {content.KIND!r}")
        answer_traces.check(context, content, what=what)
        return Named(
            source=receipt,
            result=result,
            answers=(content.answer,),
            root=root,
            claims=sealed.of_receipt(content),
            decoding=content.decoding.value,
        )
    if evidence is None:
        raise ArtifactError(f"{what}: expected a receipt or evidence that names the trace, got none")
    result, bundle = evidence_appraisal.sealed(evidence, **appraisal)
    turns = _turns(context, what, evidence, bundle)
    return Named(
        source=evidence,
        result=result,
        answers=tuple(turn.answer for turn in turns),
        root=root,
        claims=sealed.of_evidence(bundle),
    )


def _turns(context: bytes, what: str, evidence: Path, bundle: Bundle) -> list[Turn]:
    end = statement.decode(bundle.end.statement)
    if not isinstance(end.claims, (Infer, Session)):
        raise ArtifactError(
            f"{evidence}: expected evidence of 'infer' or 'session', which names traces of answers, it is of "
            f"{end.operation!r}"
        )
    root, replayed = trace.root(context), answers.replay(bundle.log)
    found = [turn for turn in replayed.turns if turn.trace == root]
    if not found:
        traced = sum(turn.trace is not None for turn in replayed.turns)
        raise BindingError(
            f"{what}: the trace {root}: none of the {len(replayed.turns)} answers of {evidence}, {traced} "
            "with a trace, names it"
        )
    decoded = trace.decode(context, what=what)
    if decoded.model != end.claims.model.digest:
        raise BindingError(
            f"{what}: expected a trace of the model {end.claims.model.digest}, as {evidence} says, got one "
            f"of {decoded.model or 'none'}"
        )
    account = answers.account_of(end.claims.decoding.value)
    for turn in found:
        facts = {answer_facts.QUERY: turn.query, answer_facts.RESPONSE: turn.response}
        answer_traces.check_facts(
            decoded, facts, what=what, said=f"as {evidence} says of answer {turn.answer}"
        )
        if (revoked := account.is_revoked(turn.answer)) is not None:
            raise ClaimError(
                f"answer {turn.answer} is revoked: tensor {revoked.tensor!r:.200} was found changed, and "
                "nobody knows since when: what the trace shows may be of other weights"
            )
    return found
