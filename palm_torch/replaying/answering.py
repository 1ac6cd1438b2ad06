"""Answering a replay's request: the rows that it asks for, out of one trace that was kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch.challenge import answer as answers
from palm_torch.challenge.answer import AuditAnswer
from palm_torch.commit import trace_opening, trace_rows
from palm_torch.errors import BindingError
from palm_torch.replaying import request as requests

if TYPE_CHECKING:
    from palm_torch.committing.answering import KeptTrace
    from palm_torch.replaying.request import ReplayRequest


def answer(request: ReplayRequest, kept: KeptTrace) -> AuditAnswer:
    """Returns the answer to a request.

    Args:
        request: The request.
        kept: The trace, from `palm_torch.committing.saved_trace.opened`.

    Raises:
        BindingError: If the request is about another trace.
        DataError: If the trace lacks a block, is not of one run, or what was kept is lost.
    """
    if request.trace != kept.root:
        raise BindingError(
            f"request: expected one about the trace {kept.root}, got one about {request.trace}"
        )
    openings = []
    for question in requests.asked(request, kept.context).questions:
        group, _ = trace_rows.find(kept.context, question.site, None)
        read = kept.read(question.site, group)
        openings.append(trace_opening.make(kept.root, kept.context, kept.trees, question, read))
    return AuditAnswer(
        media_type=answers.MEDIA_TYPE,
        request=request.digest,
        openings=tuple(openings),
        weights=(),
        tokens=kept.tokens,
        decoding=None,
    )
