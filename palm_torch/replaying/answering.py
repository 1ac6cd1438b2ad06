"""Answering a replay's request: the rows that it asks for, out of one trace that was kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch.challenge import answer as answers
from palm_torch.challenge.answer import AuditAnswer
from palm_torch.committing import answering
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
        DataError: If the trace lacks a block, is not of one run, what was kept is lost, or the request asks
            for more than fits into an answer.
    """
    if request.trace != kept.root:
        raise BindingError(
            f"request: expected one about the trace {kept.root}, got one about {request.trace}"
        )
    return AuditAnswer(
        media_type=answers.MEDIA_TYPE,
        request=request.digest,
        openings=answering.opened(kept, requests.asked(request, kept.context).questions),
        weights=(),
        tokens=kept.tokens,
        decoding=None,
    )
