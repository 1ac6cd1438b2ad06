"""What an audit did not look at, in words: with its findings, the other half of what it says."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING

from palm_torch.audit import arithmetic, spoken
from palm_torch.challenge.tokens import PADDING
from palm_torch.commit import answer_facts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from palm_torch.audit.findings import Finding
    from palm_torch.audit.part_checks import Shown
    from palm_torch.challenge.request import AuditRequest
    from palm_torch.commit.trace import Context


def words(request: AuditRequest, context: Context, shown: Shown, found: Sequence[Finding]) -> Iterator[str]:
    """Yields everything that was not looked at, or was taken for granted; one sentence each.

    Args:
        request: What was asked.
        context: The trace's context.
        shown: What the answer shows.
        found: What was found.
    """
    if request.claims is None:
        yield (
            "nothing that was sealed is named: whoever made the trace may have made it for this audit, and "
            "may have answered others with something else"
        )
    if context.model is None:
        whose = "that the prover used them is what the findings say, and nothing else says it"
        yield f"the trace names no weights: it was compared with those at hand; {whose}"
    if shown.tokens is None:
        yield (
            "the trace binds no tokens: that the embedding looked up the prompt, and that the answer is what "
            "the logits gave, was not looked at; a sequence alone was taken to have no padding"
        )
    else:
        if left := [role for role in spoken.ROLES if role not in shown.spoken]:
            yield (
                f"that the ids which the trace binds are those of the {' and the '.join(left)} you know: "
                "compare them, or open both with --opening"
            )
        if padding := sum(row.count(PADDING) for row in shown.tokens.rows):
            yield f"that {padding} ids, which the trace binds as padding, were none of the question"
        yield (
            f"the first {shown.asked.extents.given} ids of each sequence were given to the model: none of "
            "them was looked at as chosen from logits; what of the answer is among them may be anything"
        )
        if answer_facts.DECODING not in context.facts:
            yield "how tokens were chosen is in the prover's words, which nothing binds"
    if shown.drawn:
        yield (
            f"of each linear layer, the logits among them, all but {request.coordinates} outputs at each "
            "place: one changed logit makes any token the chosen one, and is found only where it was drawn"
        )
    reasons = Counter(
        (one.operation, one.words) for one in found if one.verdict == "not checked" and not one.blind
    )
    for (operation, why), count in reasons.items():
        yield f"{operation}, at {count} of the places: {why}"
    parts, there = shown.asked.parts, shown.asked.extents
    total = (len(parts) - 1) * there.batch * there.tokens + there.batch * there.shown
    looked = len(dict.fromkeys(shown.asked.places))
    yield (
        f"{total - looked} of {total} places were not drawn: a change at one of them alone, after which the "
        "trace goes on as before, is not seen"
    )
    yield "changes within the rounding bounds, at any place, are not seen, nor what they add up to"
    yield "tokens that were sampled: that the generator drew them, and not another draw that suited better"
    yield "rotary positions, epsilons and other buffers: those of the configuration are your own word"
    numbers = {place.part for place in shown.asked.places} | set(shown.asked.whole)
    dtypes = sorted({shown.opened.dtype(parts[number].anchor) for number in numbers})
    told = [arithmetic.of(dtype, context.environment).assumptions for dtype in dtypes]
    yield from dict.fromkeys(itertools.chain.from_iterable(told))
