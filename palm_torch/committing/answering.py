"""Answering an audit: every opening that a request asks for, out of one trace that was kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from palm_torch.challenge import answer as audit_answer
from palm_torch.challenge import challenge, questions, weights_asked, weights_shown
from palm_torch.challenge import tokens as audit_tokens
from palm_torch.challenge.answer import AuditAnswer
from palm_torch.commit import trace_opening
from palm_torch.commit.salted import SaltedOpening
from palm_torch.commit.trace import Context, Site
from palm_torch.commit.trace_groups import Group
from palm_torch.commit.trace_rows import Sites
from palm_torch.commit.trace_schemes import Tree
from palm_torch.digest import Digest
from palm_torch.errors import BindingError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from palm_torch.challenge.challenge import Asked
    from palm_torch.challenge.request import AuditRequest
    from palm_torch.challenge.tokens import Tokens
    from palm_torch.commit.opening_file import WeightsOpening
    from palm_torch.commit.trace_opening import TraceOpening
    from palm_torch.commit.trace_rows import Question

_BINARY, _TEXT = 3, 4  # bytes, and the letters of base64 that they take


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTrace:
    """A trace with everything that openings of it need.

    Attributes:
        root: The trace root.
        context: Its context.
        trees: The tree of each group.
        read: Function (site, its group) → function (start, stop) → the site's bytes in this range.
        tokens: What shows the ids of the tokens; None where they were not bound.
    """

    root: Digest
    context: Context
    trees: Sequence[Tree]
    read: Callable[[Site, Group], Callable[[int, int], bytes]]
    tokens: SaltedOpening | None


def answer(
    request: AuditRequest,
    kept: KeptTrace,
    *,
    weights: Path | None = None,
    decoding: dict[str, Any] | None = None,
) -> AuditAnswer:
    """Returns the answer to a request.

    Args:
        request: The request.
        kept: The trace.
        weights: The model's weights, for a request that asks for some of them.
        decoding: How tokens were chosen, in your words.

    Raises:
        BindingError: If the request is about another trace.
        DataError: If the trace is not that of the model that the request describes, what was kept is lost,
            or weights are asked for that are not given.
        ArtifactError: If the weights are not those of the trace.
    """
    if request.trace != kept.root:
        raise BindingError(
            f"request: expected one about the trace {kept.root}, got one about {request.trace}"
        )
    asked = challenge.asked(request, kept.context)
    openings = opened(kept, questions.questions(request, kept.context, asked))
    ids = None
    if kept.tokens is not None:
        ids = audit_tokens.verify(kept.tokens, kept.context.facts.get(audit_tokens.FACT))
        ids.require_fit(asked.extents.batch, asked.extents.tokens)
    return AuditAnswer(
        media_type=audit_answer.MEDIA_TYPE,
        request=request.digest,
        openings=openings,
        weights=_weights(request, kept, asked, ids, weights),
        tokens=kept.tokens,
        decoding=decoding,
    )


def opened(kept: KeptTrace, asked: Iterable[Question]) -> tuple[TraceOpening, ...]:
    """Returns the openings that answer some questions.

    Args:
        kept: The trace.
        asked: The questions.

    Raises:
        DataError: If what was kept is lost, or the openings do not fit into an answer. The request is
            somebody else's, and memory is not to be filled by it.
    """
    openings: list[TraceOpening] = []
    size, sites = 0, Sites(kept.context)
    for question in asked:
        group, _ = sites.find(question.site, None)
        read = kept.read(question.site, group)
        opening = trace_opening.make(kept.root, kept.context, kept.trees, question, read, sites=sites)
        openings.append(opening)
        size += (len(opening.tiles) + len(opening.proof)) * _TEXT // _BINARY
        if size > audit_answer.MAX_BYTES:
            raise DataError(
                f"request: it asks for more than the {audit_answer.MAX_BYTES} bytes that an answer may have: "
                "fewer places or whole blocks fit"
            )
    return tuple(openings)


def _weights(
    request: AuditRequest, kept: KeptTrace, asked: Asked, ids: Tokens | None, path: Path | None
) -> tuple[WeightsOpening, ...]:
    if not request.coordinates:
        return ()
    if path is None:
        raise DataError(
            f"request: it asks for {request.coordinates} coordinates of weights at each place: pass weights="
        )
    model = kept.context.model
    if model is None:
        raise DataError("the trace names no weights of a model: none can be opened under it")
    wanted = weights_asked.weights_questions(request, asked, ids)
    return weights_shown.open_all(path, weights_shown.listed(path, model, request.geometry), wanted)
