"""Replaying blocks of any causal model: the verifier's own copy computes them again from opened inputs.

A block is called twice, in the model's dtype and in float64; what was committed is held against float64, in
units of what the model itself loses to rounding there. No bound is derived for a block that nothing is known
of. Specification: docs/spec/59-audit-results.md.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import torch

from palm_torch.audit import findings, opened
from palm_torch.challenge import answer as answers
from palm_torch.challenge import tokens as audit_tokens
from palm_torch.commit import trace
from palm_torch.errors import ArtifactError, BindingError, DataError
from palm_torch.hooks import weights
from palm_torch.replaying import calls, reference, result
from palm_torch.replaying import request as requests
from palm_torch.replaying.result import Replayed, ReplayResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import nn

    from palm_torch.audit.opened import Opened
    from palm_torch.challenge.answer import AuditAnswer
    from palm_torch.challenge.places import Place
    from palm_torch.challenge.tokens import Tokens
    from palm_torch.commit.trace import Context
    from palm_torch.replaying.request import Asked, ReplayRequest

WITHIN: Final = 8.0
"""How many times the model's own rounding a row may be off, unless the verifier says otherwise: chosen, not
derived. Honest runs that generated with a cache were off by 1 to 2 times in the small models tried."""

_TWO: Final = 2
_PADDED: Final = "the sequence has padding before the token, and how the model was told so is not bound"
_AHEAD: Final = (
    "what it returns for a token depends on tokens after it, of which no rows are opened: expected a causal "
    "model"
)
_COARSE: Final = "the model's own rounding is so large there that almost anything would pass"
_COARSEST: Final = 2.0**-4
"""Most that the model's own rounding may be, relative to the largest number, for a row to count as replayed.
Beyond it something else happened: another expert was chosen, or the code of the block does not follow."""


def check(
    request: ReplayRequest, context: bytes, answer: AuditAnswer, model: nn.Module, *, within: float = WITHIN
) -> ReplayResult:
    """Checks an answer against the trace root, and replays what it opens.

    Algorithm:
        1. The context has the root that the request names, and is well formed. *(Stops: another trace.)*
        2. Places follow from request and context; the answer opens exactly their rows. *(Stops: a prover who
           chooses what is looked at.)*
        3. The ids of the tokens are those that the trace binds, and none that was generated is padding.
        4. Every opening is checked against the trace root.
        5. The model has the weights that the trace names. *(Stops: a replay of another model.)*
        6. At each place the model runs over the ids, which says how it calls the block. The block is called
           with the opened rows instead, in its own dtype and in float64, and compared.

    Args:
        request: What was asked; the nonce is the verifier's own.
        context: The bytes of the trace's context.
        answer: What the prover shows.
        model: The verifier's own copy of the model, in evaluation mode.
        within: Most that a row may be off, in units of the model's own rounding.

    Raises:
        RejectedError: At steps 1 to 5: something is not what the roots say.
        DataError: If the trace is not one that can be replayed so, or the model not one whose blocks can be.
        EvidenceError: If something that is shown is malformed.
        MissingExtraError: If the trace needs the extra ``kzg``.
    """
    if not 1 <= within < math.inf:
        raise DataError(f"within: expected a finite number from 1, got {within}")
    if any(module.training for module in model.modules()):
        raise DataError("model: expected one in evaluation mode: call model.eval()")
    if (found := trace.root(context)) != request.trace:  # 1
        raise BindingError(f"trace context: expected the root {request.trace}, got {found}: another trace's")
    decoded = trace.decode(context, what="trace context")
    asked = requests.asked(request, decoded)  # 2
    answers.check_asked(answer, request, asked.questions, decoded)
    if answer.weights or answer.decoding is not None:
        raise BindingError(
            "answer: expected neither weights nor parameters of decoding, which no replay asks for"
        )
    ids = _ids(answer, decoded, asked)  # 3
    rows = opened.verified(request.trace, decoded, asked.questions, answer.openings)  # 4
    _require_weights(model, decoded)  # 5
    return ReplayResult(
        media_type=result.MEDIA_TYPE,
        request=request.digest,
        trace=request.trace,
        sealed=request.claims is not None,
        within=float(within),
        findings=tuple(_findings(request, asked, model, rows, ids, within)),  # 6
        detection=findings.detection(len(asked.places)),
        not_checked=tuple(_unseen(request, decoded, asked)),
    )


def _ids(answer: AuditAnswer, context: Context, asked: Asked) -> Tokens:
    if answer.tokens is None:
        raise DataError(
            "trace: it binds no tokens, and without them nobody knows how a block was called: call "
            "proof.bind_tokens before the root is taken"
        )
    ids = audit_tokens.verify(answer.tokens, context.facts.get(audit_tokens.FACT))
    ids.require_fit(asked.batch, asked.tokens)
    ids.require_generated(asked.given)
    return ids


def _require_weights(model: nn.Module, context: Context) -> None:
    if context.model is None:
        return
    root = weights.WeightsMeter().measure(weights.canonical_tensors(model)).root
    if root != context.model:
        raise ArtifactError(
            f"model: expected the weights root {context.model}, which the trace names, got {root}"
        )


def _findings(
    request: ReplayRequest, asked: Asked, model: nn.Module, rows: Opened, ids: Tokens, within: float
) -> Iterator[Replayed]:
    places = sorted(dict.fromkeys(asked.places), key=lambda place: place.part)
    number, exact = -1, None
    for place in places:
        if exact is None or place.part != number:  # one copy of a block at a time
            number, exact = place.part, reference.of(calls.module_of(model, request.blocks[place.part]))
        known = ids.rows[place.sequence][: place.token + 1]
        if audit_tokens.PADDING in known:
            yield _unknown(request, place, _PADDED)
        else:
            found = _replayed(request, place, model, exact, rows, known, within)
            if found.verdict == "differs" and _sees_ahead(request, place, model, exact, ids):
                raise DataError(f"{found.block}: {_AHEAD}")
            yield found


def _sees_ahead(
    request: ReplayRequest, place: Place, model: nn.Module, exact: nn.Module, ids: Tokens
) -> bool:
    """Says whether a block, as the model at hand calls it over this sequence, looks at later tokens."""
    block = request.blocks[place.part]
    known = ids.rows[place.sequence][: max(place.token + 1, _TWO)]
    if len(known) < _TWO or audit_tokens.PADDING in known:
        return False
    call, _ = calls.of(model, known, block, None)
    return reference.sees_ahead(exact, call)


def _replayed(
    request: ReplayRequest,
    place: Place,
    model: nn.Module,
    exact: nn.Module,
    rows: Opened,
    ids: tuple[int, ...],
    within: float,
) -> Replayed:
    block = request.blocks[place.part]
    before = request.blocks[place.part - 1] if place.part else None
    call, returned = calls.of(model, ids, block, before)
    if before is not None and returned is not None:
        given = _tensor(rows, before, place.sequence, range(place.token + 1), like=returned)
        call = calls.exchanged(call, returned, given, block=block)
    native = call.result_of(calls.module_of(model, block))
    expected = call.changed(reference.widened).result_of(exact)[0, -1].double()
    last = range(place.token, place.token + 1)
    committed = _tensor(rows, block, place.sequence, last, like=native[:, -1:])[0, -1].double()
    own = native[0, -1].double()
    if not (expected.isfinite().all() and own.isfinite().all()):
        return _unknown(request, place, "what follows from the opened inputs is not finite", blind=True)
    return _compared(request, place, committed, own, expected, torch.finfo(native.dtype).eps, within)


class _Measured(NamedTuple):
    """How far a row is off, over its channels: at most, or in the middle one.

    Attributes:
        difference: Of what was committed from float64; infinite if that is not finite.
        rounding: Of what the model's own type gives, at least half a unit in the last place.
        ratio: The first by the second; where that is 0, infinite unless the first is 0 too.
    """

    difference: float
    rounding: float
    ratio: float


def _compared(
    request: ReplayRequest,
    place: Place,
    committed: torch.Tensor,
    own: torch.Tensor,
    expected: torch.Tensor,
    eps: float,
    within: float,
) -> Replayed:
    largest = _measured(committed, own, expected, eps, torch.max)
    typical = _measured(committed, own, expected, eps, torch.median)
    # A middle rounding of 0: most channels are 0, and the largest alone says something.
    found = typical if typical.rounding and typical.ratio > largest.ratio else largest
    most = float(expected.abs().max())
    words = ""
    if not found.ratio <= within:
        channel = int((committed - expected).abs().argmax())
        words = f"channel {channel}: committed {float(committed[channel]):.6g}, float64 gives "
        words += f"{float(expected[channel]):.6g}"
        words += (
            ": "
            if found is largest
            else f"; half of the channels are off by {found.difference:.4g} or more: "
        )
        words += (
            f"{found.ratio:.4g} times the model's own rounding, {found.rounding:.4g}"
            if math.isfinite(found.ratio)
            else "far beyond rounding"
        )
    elif largest.rounding > _COARSEST * most:
        return _unknown(request, place, f"{_COARSE}: {largest.rounding:.4g}, of {most:.4g}", blind=True)
    return Replayed(
        block=request.blocks[place.part],
        sequence=place.sequence,
        token=place.token,
        verdict="differs" if words else "replayed",
        difference=found.difference if math.isfinite(found.difference) else None,
        rounding=found.rounding,
        ratio=found.ratio if math.isfinite(found.ratio) else None,
        words=words,
    )


def _measured(
    committed: torch.Tensor,
    own: torch.Tensor,
    expected: torch.Tensor,
    eps: float,
    over: Callable[[torch.Tensor], torch.Tensor],
) -> _Measured:
    difference, rounding, size = (
        float(over(values.abs())) for values in (committed - expected, own - expected, expected)
    )
    rounding = max(rounding, eps / 2 * size)
    if math.isnan(difference):
        difference = math.inf
    if rounding:
        return _Measured(difference, rounding, difference / rounding)
    return _Measured(difference, rounding, math.inf if difference else 0.0)


def _unknown(request: ReplayRequest, place: Place, why: str, *, blind: bool = False) -> Replayed:
    return Replayed(
        block=request.blocks[place.part],
        sequence=place.sequence,
        token=place.token,
        verdict="not checked",
        difference=None,
        rounding=None,
        ratio=None,
        words=why,
        blind=blind,
    )


def _tensor(rows: Opened, module: str, sequence: int, tokens: range, *, like: torch.Tensor) -> torch.Tensor:
    """Returns opened rows as a tensor [1, tokens, channels] like one of the model's own."""
    dtype: torch.dtype = getattr(torch, rows.dtype(module))
    array = rows.rows(module, sequence, tokens)
    shape = (1, *array.shape)
    if dtype != like.dtype or shape != tuple(like.shape):
        raise DataError(
            f"{module}: expected rows like those of the model, {like.dtype} {tuple(like.shape)}, the trace "
            f"has {dtype} {shape}"
        )
    return torch.frombuffer(bytearray(array.tobytes()), dtype=dtype).reshape(shape).to(like.device)


def _unseen(request: ReplayRequest, context: Context, asked: Asked) -> Iterator[str]:
    if request.claims is None:
        yield (
            "nothing that was sealed is named: whoever made the trace may have made it for this request, and "
            "may have answered others with something else"
        )
    if context.model is None:
        yield "the trace names no weights: it was compared with those of the model at hand"
    total = len(request.blocks) * asked.batch * asked.tokens
    looked = len(dict.fromkeys(asked.places))
    yield f"{total - looked} of {total} places were not drawn: a change at one of them alone is not seen"
    yield (
        "no bound is derived: changes within the allowed multiple of the model's own rounding are not seen, "
        "and something beyond it may be another kernel's doing"
    )
    yield "masks, positions and buffers: those of the model at hand, as its code makes them"
    yield "what lies outside of the blocks: embedding, last norm, head, and how tokens were chosen"
    yield "that the ids which the trace binds are those of the question and the answer you know"
