"""Replaying seeded sampling: whether the generator that a trace names draws the token which the trace binds.

`torch.multinomial` takes as much of a generator for one row of n numbers as for any other row of n. So the
state before the answer, and how many tokens were drawn before, give the state before each draw; one row of
logits, which an audit opened, gives what is drawn from. Specification: docs/spec/59-audit-results.md.
"""

from __future__ import annotations

import bisect
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import torch

from palm_torch.audit import opened
from palm_torch.challenge import answer as answers
from palm_torch.challenge import challenge, questions
from palm_torch.challenge import tokens as audit_tokens
from palm_torch.challenge.places import Place
from palm_torch.commit import answer_facts, trace
from palm_torch.errors import BindingError, DataError, EvidenceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from palm_torch.audit.opened import Opened
    from palm_torch.challenge.answer import AuditAnswer
    from palm_torch.challenge.challenge import Asked
    from palm_torch.challenge.request import AuditRequest
    from palm_torch.challenge.tokens import Tokens
    from palm_torch.commit.trace import Context
    from palm_torch.replaying.generators import GeneratorStates

Verdict: TypeAlias = Literal["replayed", "differs", "not checked"]

KNOWN: Final = frozenset({"do_sample", "temperature", "top_k", "top_p", "min_p"})
"""Parameters that the draw follows."""

HARMLESS: Final = frozenset(
    {
        "attention_mask", "bos_token_id", "cache_implementation", "eos_token_id", "max_length",
        "max_new_tokens", "max_time", "output_attentions", "output_hidden_states", "output_logits",
        "output_scores", "pad_token_id", "return_dict_in_generate", "seed", "use_cache",
    }
)  # fmt: skip
"""Parameters that change no draw."""

_STATE_BYTES: Final = 5056
_MASKED: Final = float("-inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """What was found of the draw of one token.

    Attributes:
        place: The place of the head after which the token was drawn.
        verdict: ``replayed``: the same token; ``differs``: another one; or ``not checked``.
        words: Which tokens, or why nothing was drawn.
    """

    place: Place
    verdict: Verdict
    words: str


def replay(
    request: AuditRequest, context: bytes, answer: AuditAnswer, states: GeneratorStates
) -> tuple[Drawn, ...]:
    """Draws the tokens again at all places of the head that an audit drew, each once.

    Algorithm:
        1. The context has the root that the request names; the answer opens exactly what the request asks.
        2. Ids and parameters of decoding are those that the trace binds; every opening is checked against
           the root.
        3. The states have the digest that the trace binds as ``generators.before``.
        4. At each place: as many draws as there were tokens before are taken from the generator; the opened
           row of logits is changed as the parameters say; one token is drawn, and compared.

    Args:
        request: The audit's request.
        context: The bytes of the trace's context.
        answer: The answer to it, with the parameters of decoding.
        states: The generators' states before the answer, from the prover.

    Raises:
        RejectedError: At steps 1 to 3: something is not what the trace binds.
        DataError: If the trace is not one that can be audited, or a parameter is not what it should be.
        EvidenceError: If something that is shown is malformed.
    """
    if (found := trace.root(context)) != request.trace:  # 1
        raise BindingError(f"trace context: expected the root {request.trace}, got {found}: another trace's")
    decoded = trace.decode(context, what="trace context")
    asked = challenge.asked(request, decoded)
    wanted = questions.questions(request, decoded, asked)
    answers.check_asked(answer, request, wanted, decoded)
    decoding = answer.decoding or {}
    bound = decoded.facts.get(answer_facts.DECODING)  # 2
    if bound is not None and answer_facts.decoding_digest(decoding) != bound:
        raise BindingError(
            f"answer: decoding: expected the parameters that the trace binds as {bound}, got others"
        )
    ids = None
    if answer.tokens is not None:
        ids = audit_tokens.verify(answer.tokens, decoded.facts.get(audit_tokens.FACT))
        ids.require_fit(asked.extents.batch, asked.extents.tokens)
    rows = opened.verified(request.trace, decoded, wanted, answer.openings)
    before = decoded.facts.get(answer_facts.BEFORE)  # 3
    if before is not None and states.digest != before:
        raise BindingError(
            f"generators: expected the states {before}, which the trace binds, got {states.digest}"
        )
    places = sorted(
        {place for place in asked.places if asked.parts[place.part].kind == "head"}, key=_by_token
    )
    why = _unknown(decoded, asked, ids, decoding, states, bound=before is not None)
    if why is not None or ids is None:
        return tuple(Drawn(place=place, verdict="not checked", words=why or "") for place in places)
    return tuple(_drawn(places, asked, ids, decoding, rows, states))  # 4


def _by_token(place: Place) -> tuple[int, int]:
    return place.token, place.sequence


def _unknown(
    context: Context,
    asked: Asked,
    ids: Tokens | None,
    decoding: Mapping[str, Any],
    states: GeneratorStates,
    *,
    bound: bool,
) -> str | None:
    """Returns why no draw of this trace can be made again; None if they can."""
    segments, version = asked.extents.logits, context.environment.get("torch")
    unknown = sorted(
        name for name, value in decoding.items() if name not in KNOWN | HARMLESS and value is not None
    )
    reasons = (
        (ids is None, "the trace binds no tokens"),
        (not bound, f"the trace binds no {answer_facts.BEFORE}: it is of no attested answer"),
        (answer_facts.DECODING not in context.facts, "nothing binds the parameters of decoding"),
        (not decoding.get("do_sample", False), "tokens were not drawn: do_sample is not set"),
        ("top_k" not in decoding, "top_k is not said, and libraries have other defaults for it"),
        (bool(unknown), f"no replay is known of {', '.join(unknown[:4])!s:.80}"),
        (asked.extents.batch != 1, "a draw takes the rows of all sequences at once, and one was opened"),
        (version != torch.__version__, f"torch {version!s:.40} drew, here is {torch.__version__}"),
        (len(states.states.torch) != 1, "a generator of a GPU may have drawn, which only such a GPU repeats"),
        (len(states.states.torch[0]) != _STATE_BYTES, "the state is none of torch's generator on a CPU"),
        (
            any(one.fed != 1 for one in segments[1:]) or (segments[0].count != 1 and segments[0].fed != 1),
            "calls after the first were fed several tokens: one draw for each call cannot be assumed",
        ),
    )
    return next((words for holds, words in reasons if holds), None)


def _drawn(
    places: list[Place],
    asked: Asked,
    ids: Tokens,
    decoding: Mapping[str, Any],
    rows: Opened,
    states: GeneratorStates,
) -> Iterator[Drawn]:
    there, module = asked.extents, asked.parts[-1].rows["logits"]
    generator, draws = torch.Generator(), 0
    try:
        generator.set_state(torch.frombuffer(bytearray(states.states.torch[0]), dtype=torch.uint8))
    except RuntimeError as error:
        raise EvidenceError(
            f"generators: torch: expected the state of a generator, got none: {error!s:.80}"
        ) from error
    for place in places:
        at = bisect.bisect_right(there.logits, place.token, key=lambda one: one.token) - 1
        segment = there.logits[at]
        if (place.token - segment.token) % segment.fed != segment.fed - 1:
            yield Drawn(place=place, verdict="not checked", words="the next token was given, not drawn")
            continue
        if place.token + 1 >= ids.length:
            yield Drawn(place=place, verdict="not checked", words="the trace binds no token after it")
            continue
        earlier = sum(one.count for one in there.logits[:at]) + (place.token - segment.token) // segment.fed
        row = rows.row(module, place.sequence, there.row_of(place.token))
        logits = torch.tensor(row.astype("float32")).reshape(1, -1)
        while draws < earlier:
            torch.multinomial(torch.ones_like(logits), 1, generator=generator)
            draws += 1
        yield _compared(place, logits, ids.rows[0][place.token + 1], decoding, generator)
        draws += 1


def _compared(
    place: Place, logits: torch.Tensor, token: int, decoding: Mapping[str, Any], generator: torch.Generator
) -> Drawn:
    chances = torch.softmax(scores(logits, decoding), dim=-1)
    if not chances.isfinite().all():
        torch.multinomial(torch.ones_like(logits), 1, generator=generator)
        return Drawn(place=place, verdict="not checked", words="the logits are not all finite")
    drawn = int(torch.multinomial(chances, 1, generator=generator))
    if drawn == token:
        return Drawn(place=place, verdict="replayed", words=f"the same token, {token}")
    return Drawn(
        place=place, verdict="differs", words=f"the generator draws {drawn}, the trace binds {token}"
    )


def scores(logits: torch.Tensor, decoding: Mapping[str, Any]) -> torch.Tensor:
    """Returns logits as parameters of decoding change them, in the order of transformers' `generate`.

    Args:
        logits: float32[1, vocabulary].
        decoding: The parameters.

    Raises:
        DataError: If one is no number, or out of range.
    """
    temperature = _number(decoding, "temperature")
    if temperature == 0:
        raise DataError("decoding: temperature: expected a number above 0, got 0")
    if temperature is not None and temperature != 1.0:
        logits = logits / temperature
    top_k = _number(decoding, "top_k")
    if top_k is not None and top_k >= 1:
        floor = logits.topk(min(int(top_k), logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < floor, _MASKED)
    top_p = _number(decoding, "top_p", most=1.0)
    if top_p is not None and top_p < 1:
        ascending, order = logits.sort(descending=False)
        tail = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
        tail[:, -1] = False
        logits = logits.masked_fill(tail.scatter(1, order, tail), _MASKED)
    min_p = _number(decoding, "min_p", most=1.0)
    if min_p is not None:
        chances = logits.softmax(dim=-1)
        rare = chances < min_p * chances.amax(dim=-1, keepdim=True)
        logits = logits.masked_fill(rare, _MASKED)
    return logits


def _number(decoding: Mapping[str, Any], name: str, *, most: float = sys.float_info.max) -> float | None:
    value = decoding.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= most:
        raise DataError(f"decoding: {name}: expected a number from 0 to {most:g}, got {value!r:.80}")
    return float(value)
