"""The two ends of a model: rows looked up by the ids of tokens, and tokens chosen from logits."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from palm_torch.audit import heads, margins, part_checks
from palm_torch.audit.findings import Finding, Verdict
from palm_torch.audit.operations import embedding
from palm_torch.audit.operations import tokens as choices
from palm_torch.audit.stretch import Compared
from palm_torch.challenge.tokens import PADDING
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from palm_torch.audit.bounded import Bounded, Stored
    from palm_torch.audit.layers import Source
    from palm_torch.audit.part_checks import Shown
    from palm_torch.challenge.parts import Part
    from palm_torch.challenge.places import Place
    from palm_torch.challenge.tokens import Tokens

OPERATION: Final = "token"
"""What the choice of a token from logits is called among the operations of the head."""

_NO_IDS: Final = "the trace binds no tokens, so that nobody knows which rows were looked up"
_PADDED: Final = "the token is padding, whose id is not committed to"
_UNOPENED: Final = (
    "its position is not the number of tokens before that are no padding; that of all tokens before, which a "
    "forward pass may count, is not opened"
)
_NO_DECODING: Final = "nothing says how tokens were chosen"
_NO_SAMPLING: Final = "the parameters of decoding do not say whether tokens were sampled: do_sample"
_HARMLESS: Final = frozenset(
    {
        "attention_mask", "bos_token_id", "cache_implementation", "do_sample", "eos_token_id", "max_length",
        "max_new_tokens", "max_time", "min_p", "num_beams", "num_return_sequences", "output_attentions",
        "output_hidden_states", "output_logits", "output_scores", "pad_token_id", "return_dict_in_generate",
        "seed", "temperature", "top_k", "top_p", "use_cache",
    }
)  # fmt: skip
"""Parameters of generation that are known not to change logits before a token is chosen, or to change them as
the checks here know."""


def looked_up(shown: Shown, part: Part, place: Place) -> Iterator[Finding]:
    """Yields what is found of the embedding at a drawn place.

    Args:
        shown: What there is.
        part: The embedding.
        place: The place.
    """
    source = shown.source(part)
    ids = shown.tokens
    for role, module in part.rows.items():
        name = "token embedding" if role == "output" else role
        words, found = "", None
        if ids is None:
            words = _NO_IDS
        elif ids.rows[place.sequence][place.token] == PADDING:
            words = _PADDED
        else:
            row = shown.opened.row(module, place.sequence, place.token)
            found = min(
                (
                    margins.compare(row, _weights(source, name, number))
                    for number in _numbers(shown, source, ids, name, place)
                ),
                key=lambda margin: margin.ratio,
            )
            if not found.consistent and _may_be_another(ids, name, place, drawn=shown.drawn):
                words, found = _UNOPENED, None
        yield part_checks.finding(part, Compared(operation=name, row=0, margin=found, words=words), place)


def _weights(source: Source, role: str, number: int) -> Bounded:
    rows = source.rows(role, [number], source.geometry.hidden)
    return embedding.looked_up(rows, tokens=1)[0]


def _numbers(shown: Shown, source: Source, ids: Tokens, role: str, place: Place) -> tuple[int, ...]:
    """Returns which rows of a table a place may have: positions count padding before it, or do not."""
    row = ids.rows[place.sequence]
    if role == "token embedding":
        return (row[place.token],)
    position = ids.position(place.sequence, place.token)
    if shown.drawn:
        return (position,)
    padding = [number == PADDING for number in row[: place.token + 1]]
    ways = heads.positions(padding, shown.asked.extents.logits[0].fed)
    most = len(source.weights.matrix(source.part.weights[role]))
    others = {int(way[-1]) for way in ways} - {position}
    return (position, *sorted(number for number in others if number < most))


def _may_be_another(ids: Tokens, role: str, place: Place, *, drawn: bool) -> bool:
    """Says whether a position may count padding, whose row of the table no answer opens."""
    return drawn and role != "token embedding" and ids.position(place.sequence, place.token) != place.token


def chosen(shown: Shown, part: Part, place: Place, decoding: Mapping[str, Any] | None) -> Finding:
    """Returns what is found of the token that was chosen at a drawn place of the head.

    Args:
        shown: What there is.
        part: The head.
        place: The place.
        decoding: How tokens were chosen; None if nothing says it.
    """
    there, ids = shown.asked.extents, shown.tokens
    row = shown.opened.row(part.rows["logits"], place.sequence, there.row_of(place.token))
    reason = _unknown(shown, place, decoding)
    if reason is None and ids is not None and decoding is not None:
        token = ids.rows[place.sequence][place.token + 1]
        if token >= len(row):
            raise DataError(f"tokens: expected ids below {len(row)}, got {token}")
        if not np.isfinite(row.astype(np.float64)).all():
            reason = "the logits are not all finite"
        else:
            choice = _choice(row, token, decoding)
            if choice.consistent:
                return _finding(part, place, "consistent", "")
            reason = _excuse(shown, place, decoding)
            if reason is None:
                return _finding(part, place, "inconsistent", choice.why)
    return _finding(part, place, "not checked", reason or _NO_DECODING)


def _finding(part: Part, place: Place, verdict: Verdict, words: str) -> Finding:
    margin = 0.0 if verdict == "consistent" else None
    return Finding(
        part=part.name, operation=OPERATION, place=place, verdict=verdict, margin=margin, words=words
    )


def _unknown(shown: Shown, place: Place, decoding: Mapping[str, Any] | None) -> str | None:
    """Returns why no chosen token is known at a place; None if one is."""
    ids, there = shown.tokens, shown.asked.extents
    if ids is None:
        return "the trace binds no tokens, so that nobody knows which one was chosen"
    segment = there.logits[bisect.bisect_right(there.logits, place.token, key=lambda one: one.token) - 1]
    within = (place.token - segment.token) % segment.fed
    if within != segment.fed - 1 or place.token + 1 < there.given:
        return "the next token was given, not chosen"
    if place.token + 1 >= ids.length:
        return "the token chosen here is not among those that the trace binds"
    if not decoding:
        return _NO_DECODING
    said = isinstance(decoding.get("do_sample"), bool)  # a model's own default may be either
    return None if said else _NO_SAMPLING


def _choice(row: Stored, token: int, decoding: Mapping[str, Any]) -> choices.Choice:
    if not decoding["do_sample"]:
        return choices.greedy(row, token)
    return choices.sampled(
        row,
        token,
        temperature=_number(decoding, "temperature") or 1.0,
        top_k=int(_number(decoding, "top_k") or 0) or None,
        top_p=_number(decoding, "top_p"),
        min_p=_number(decoding, "min_p"),
    )


def _number(decoding: Mapping[str, Any], name: str) -> float | None:
    value = decoding.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise DataError(f"decoding: {name}: expected a number, got {value!r:.80}")
    return value


def _excuse(shown: Shown, place: Place, decoding: Mapping[str, Any]) -> str | None:
    """Returns why a token that its logits do not explain accuses nobody; None if it does."""
    unknown = sorted(name for name, value in decoding.items() if name not in _HARMLESS and value is not None)
    if unknown:
        return f"no bounds are known for tokens chosen with {', '.join(unknown[:4])!s:.80}"
    if decoding.get("num_beams") not in (None, 1):
        return "no check is known for beams"
    ids = shown.tokens
    if ids is not None and ids.batch > 1:
        row = ids.rows[place.sequence]
        made, after = row[shown.asked.extents.given : place.token + 1], row[place.token + 1 :]
        if len(set(after)) == 1 and _may_be_padding(after[0], decoding) and _ended(made, after[0], decoding):
            return "the sequence may have ended before, and this be padding after it"
    return None


def _ended(made: Sequence[int], padding: int, decoding: Mapping[str, Any]) -> bool:
    """Says whether a sequence may have ended with the tokens that it made, padding after them left aside."""
    said = decoding.get("eos_token_id")
    if not made or said is None:
        return bool(made)
    ends = said if isinstance(said, (list, tuple)) else (said,)
    return next((token for token in reversed(made) if token != padding or padding in ends), padding) in ends


def _may_be_padding(token: int, decoding: Mapping[str, Any]) -> bool:
    said = decoding.get("pad_token_id")
    return said is None or said == token
