"""Attention at some places of one block, from opened queries, keys and values.

Keys and values of all tokens before a place come from the trace; norms of heads and rotary positions are
applied here, since no module of their own returns what they make. A token that is padding is seen by nobody.

Where a sequence has padding, its positions may count that (a plain forward pass does) or not (text
generation does), or go on from 0 after padding that ends a prompt (generation again): each is tried, and a
row has to fit one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from palm_torch.audit import bounded
from palm_torch.audit.bounded import Bounded, Stored
from palm_torch.audit.operations import attention, norms, rotary
from palm_torch.challenge.tokens import PADDING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from palm_torch.audit.layers import Source
    from palm_torch.challenge.extents import Extents
    from palm_torch.challenge.tokens import Tokens

UNKNOWN_CALLS = (
    "the trace binds no tokens, and calls after the first one were fed several: nobody knows whether each "
    "goes on where the one before it ended"
)
UNKNOWN_PADDING = "the trace binds no tokens, so that nobody knows which of several sequences' are padding"
VISIBLE = 1 << 24
"""Pairs of a place and a token that are looked at together: a whole block of many tokens has their square."""

WAYS = 3
"""Most ways in which positions may have been counted."""

IS_PADDING = "the token is padding, and what is computed there is used by nothing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Places of one sequence, with keys and values of every token up to the last of them.

    Attributes:
        rows: Numbers of the places in their stretch.
        tokens: The token of each place.
        padding: For each token up to the last place whether it is padding.
        prompt: How many tokens the first call was fed.
        query: (places, heads · width), committed.
        key: (tokens, key-value heads · width), committed.
        value: Likewise.
    """

    rows: Sequence[int]
    tokens: Sequence[int]
    padding: Sequence[bool]
    prompt: int
    query: Stored
    key: Stored
    value: Stored


def blind(place: tuple[int, int], tokens: Tokens | None, there: Extents) -> str | None:
    """Returns why the attention of a place cannot be checked; None if it can.

    Args:
        place: Sequence and token.
        tokens: The ids of all tokens, if the trace binds them and the answer shows them.
        there: How many sequences and calls there are.
    """
    sequence, token = place
    if tokens is None:
        if there.batch > 1:
            return UNKNOWN_PADDING
        first, *later = there.logits
        several = first.count > 1 < first.fed or any(one.fed > 1 for one in later)
        return UNKNOWN_CALLS if several else None
    row = tokens.rows[sequence]
    return IS_PADDING if row[token] == PADDING and not _chooses(row, token, there) else None


def _chooses(row: Sequence[int], token: int, there: Extents) -> bool:
    """Says whether the first generated token is chosen at this one, which is padding at a prompt's end."""
    first = there.logits[0]
    last = first.count == 1 and token == first.fed - 1
    return last and len(row) > first.fed and any(number != PADDING for number in row[:token])


def attended(source: Source, places: int, seen: Iterable[Seen]) -> list[Bounded]:
    """Returns what the output projection of a block is given, (places, heads · width).

    Args:
        source: Weights and geometry of the block.
        places: How many places the stretch has; what is not among those seen is of no meaning.
        seen: The places whose attention can be computed, by sequence.

    Returns:
        One array for each way in which positions may have been counted.
    """
    geometry = source.geometry
    shape = places, geometry.heads * geometry.head_width
    values, errors = np.zeros((WAYS, *shape)), np.zeros((WAYS, *shape))
    most = 1
    for one in seen:
        ways = positions(one.padding, one.prompt)
        if geometry.rope_theta is None:
            del ways[1:]
        most = max(most, len(ways))
        found = [_of_sequence(source, one, way) for way in ways]
        for way in range(WAYS):
            part = found[min(way, len(found) - 1)]
            values[way, one.rows], errors[way, one.rows] = part.value, part.error
    return [Bounded(values[way], errors[way]) for way in range(most)]


def positions(padding: Sequence[bool], prompt: int) -> list[npt.NDArray[np.int64]]:
    """Returns in which ways the positions of a sequence may have been counted; at most `WAYS`.

    Args:
        padding: For each token whether it is padding.
        prompt: How many tokens the first call was fed.
    """
    whole = np.arange(len(padding))
    ways = [whole]
    if any(padding):
        counted = np.where(padding, 0, np.cumsum(~np.array(padding)) - 1)
        ways.append(counted)
        if prompt < len(padding) and padding[prompt - 1]:  # padding has position 0, from which steps go on
            ways.append(np.where(whole < prompt, counted, whole - prompt + 1))
    return ways


def _of_sequence(source: Source, one: Seen, positions: np.ndarray) -> Bounded:
    geometry, arithmetic = source.geometry, source.arithmetic
    width = geometry.head_width
    query = bounded.exact(one.query).reshape(-1, geometry.heads, width)
    key = bounded.exact(one.key).reshape(-1, geometry.key_value_heads, width)
    value = bounded.exact(one.value).reshape(-1, geometry.key_value_heads, width)
    if geometry.head_norms:
        query, key = _normed(source, "query norm", query), _normed(source, "key norm", key)
    if geometry.rope_theta is not None:
        angles = rotary.turns(positions, geometry.rope_theta, width, arithmetic)
        at = list(one.tokens)
        key = rotary.turned(key, angles, arithmetic)
        query = rotary.turned(query, rotary.Turns(angles.cosine[at], angles.sine[at]), arithmetic)
    step = max(1, VISIBLE // len(positions))
    found = []
    for start in range(0, len(one.tokens), step):
        tokens = np.array(one.tokens[start : start + step])
        visible = np.arange(len(positions))[None, :] <= tokens[:, None]
        visible &= ~np.array(one.padding)[None, :]
        some = query[start : start + step]
        found.append(attention.attended(some, key, value, width**-0.5, arithmetic, visible=visible))
    return Bounded(
        *(np.concatenate(parts) for parts in zip(*((o.value, o.error) for o in found), strict=True))
    )


def _normed(source: Source, role: str, heads: Bounded) -> Bounded:
    geometry = source.geometry
    weight = source.vector(role, geometry.head_width)
    flat = heads.reshape(-1, geometry.head_width)
    normed = norms.rms(flat, weight, geometry.norm_epsilon, source.arithmetic)
    return normed.rounded(source.arithmetic.form, times=0).reshape(*heads.shape)
