"""The trace that an answer's receipt names: what its context says, against what the receipt says.

1. The context is that of the root which the receipt names.
2. It is of the model that the receipt names.
3. Its facts are the answer's: the commitments to question and answer, the tokenizer, the parameters of
   decoding, and the states of the random number generators around it. It may have others besides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch.commit import answer_facts, trace
from palm_torch.errors import BindingError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from palm_torch.commit.trace import Context
    from palm_torch.digest import Digest
    from palm_torch.receipt import AnswerReceipt


def check(context: bytes, content: AnswerReceipt, *, what: str = "trace") -> Context:
    """Checks that a trace's context is that of an answer, and returns it.

    Args:
        context: The context's bytes, from `palm_torch.committing.proof.Proof.save`.
        content: What the answer's receipt says; the receipt has been verified.
        what: Name of the context, for messages.

    Raises:
        EvidenceError: If the bytes are no context.
        BindingError: If it is another trace's, or another answer's.
    """
    found = trace.decode(context, what=what)
    root = trace.root(context)
    if root != content.trace:  # 1
        raise BindingError(
            f"{what}: expected the trace {content.trace or 'none'}, which the receipt of answer "
            f"{content.answer} names, got {root}"
        )
    if found.model != content.model:  # 2
        raise BindingError(
            f"{what}: expected a trace of the model {content.model}, got one of {found.model or 'none'}"
        )
    expected = answer_facts.facts(
        query=content.query.digest,
        response=content.response.digest,
        tokenizer=content.tokenizer.digest,
        decoding=content.decoding.value,
        before=content.generators.before,
        after=content.generators.after,
    )
    check_facts(found, expected, what=what, said=f"as the receipt of answer {content.answer} says")  # 3
    return found


def check_facts(context: Context, expected: Mapping[str, Digest], *, what: str, said: str) -> None:
    """Checks that a trace's context has facts; it may have others besides.

    Args:
        context: The context.
        expected: Name → digest.
        what: Name of the context, for messages.
        said: Who says so, for messages.

    Raises:
        BindingError: If one is missing or another.
    """
    for name, digest in expected.items():
        if context.facts.get(name) != digest:
            raise BindingError(
                f"{what}: fact {name!r}: expected {digest}, {said}, got {context.facts.get(name) or 'none'}"
            )
