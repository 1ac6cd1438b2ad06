"""The audit of the example in the specification, chapter 57 section 8, and what a verifier does with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import audited

from palm_torch.challenge import answer as answers
from palm_torch.challenge import challenge, questions, weights_asked
from palm_torch.challenge import request as requests
from palm_torch.challenge import tokens as audit_tokens
from palm_torch.challenge.tokens import Tokens
from palm_torch.commit import trace, trace_opening, weights_opening
from palm_torch.commit.trace import Calls
from palm_torch.committing import answering
from palm_torch.digest import sha256_digest
from palm_torch.errors import BindingError

if TYPE_CHECKING:
    from palm_torch.commit.trace_opening import Shown

NONCE: Final = bytes([13]) * 32
CLAIMS: Final = sha256_digest(b"claims")
MODEL: Final = audited.llama(
    vocab_size=4,
    hidden_size=2,
    intermediate_size=2,
    num_hidden_layers=1,
    num_attention_heads=1,
    num_key_value_heads=1,
    head_dim=2,
)
FED: Final = (Calls(0, 1, (1, 3)), Calls(1, 2, (1, 1)))
SHOWN: Final = (Calls(0, 3, (1, 1)),)
TOKENS: Final = Tokens(((-1, 2, 0, 3, 1, 1),))
WEIGHTS: Final = (1, 2, 1)

MADE: Final = audited.Audited(MODEL, fed=FED, shown=SHOWN, tokens=TOKENS)
REQUEST: Final = requests.draw(
    MADE.encoded, MODEL, claims=CLAIMS, queries=3, whole=0, coordinates=0, weights=WEIGHTS, nonce=NONCE
)
ANSWER: Final = answering.answer(REQUEST, MADE.kept())


def verify(request: bytes, context: bytes, answer: bytes) -> list[Shown]:
    """Does everything that a verifier does but the arithmetic, and returns what was opened."""
    asked = requests.decode(request, what="request")
    if (root := trace.root(context)) != asked.trace:
        raise BindingError(f"context: expected the root {asked.trace}, got {root}")
    decoded = trace.decode(context, what="context")
    found = answers.decode(answer, what="answer")
    drawn = challenge.asked(asked, decoded)
    wanted = questions.questions(asked, decoded, drawn)
    answers.check_asked(found, asked, wanted, decoded)
    ids = None
    if found.tokens is not None:
        ids = audit_tokens.verify(found.tokens, decoded.facts.get(audit_tokens.FACT))
        ids.require_fit(drawn.extents.batch, drawn.extents.tokens)
    blocks = weights_asked.weights_questions(asked, drawn, ids)
    weights_asked.check(found.weights, blocks, decoded.model or root)
    for opening in found.weights:
        weights_opening.verify(opening, decoded.model or root)
    return [
        trace_opening.verify(root, context, question, opening)
        for question, opening in zip(wanted, found.openings, strict=True)
    ]
