"""Attention of one token after the other over the keys and values before it.

Covers softmax computed at once, and in blocks with a running maximum as flash attention does; scores, weights
and sums that are rounded to the dtype or are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from palm_torch.audit import bounded
from palm_torch.audit.arithmetic import FLOAT32, FUNCTION
from palm_torch.audit.bounded import Array, Bounded
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from palm_torch.audit.arithmetic import Arithmetic

BLOCK: Final = 16
"""Fewest keys that flash attention takes at a time."""

AT_ONCE: Final = 1 << 18
"""Most distances between values and outputs that are kept at a time, over all heads."""


def attended(
    query: Bounded,
    key: Bounded,
    value: Bounded,
    scale: float,
    arithmetic: Arithmetic,
    *,
    visible: npt.NDArray[np.bool_] | None = None,
) -> Bounded:
    """Returns softmax(scale · q Kᵀ) V of each query and head.

    Args:
        query: (queries, heads, width), after rotary positions.
        key: (tokens, key-value heads, width), likewise.
        value: (tokens, key-value heads, width).
        scale: What scores are multiplied with.
        arithmetic: Of the run.
        visible: (queries, tokens): which tokens each query sees, at least one; None: all of them. Where one
            that is not seen holds infinities, or has a score that may leave the format, nothing is known of
            the output: masks multiply by 0, or add a large negative number.

    Returns:
        (queries, heads · width): the rows that the output projection is given.

    Raises:
        DataError: If shapes do not fit, or a query sees no token.
    """
    _check(query, key, value, visible)
    queries, heads, width = query.shape
    past = _past(key, value)
    shape = (key.shape[1], heads // key.shape[1], width)
    found, error = np.zeros((queries, *shape)), np.zeros((queries, *shape))
    for place in range(queries):
        rows = query[place].reshape(*shape)
        seen = np.ones(key.shape[0], bool) if visible is None else visible[place]
        part = _outputs(rows, past.at(_run(seen)), scale, arithmetic)
        found[place], error[place] = part.value, part.error
        if not seen.all():
            error[place, _leaking(rows, past.at(~seen), scale, arithmetic)] = np.inf
    return bounded.bounded(found, error).reshape(queries, heads * width).rounded(arithmetic.form)


@dataclass(frozen=True, slots=True, eq=False)
class _Past:
    """Keys and values (shared heads, tokens, width), and what is computed of them once for all queries."""

    key: Bounded
    value: Bounded
    key_least: Array  # absolute values, without errors
    key_most: Array  # and with them
    value_most: Array

    @property
    def tokens(self) -> int:
        return self.key.shape[1]

    def at(self, seen: slice | npt.NDArray[np.bool_]) -> _Past:
        return _Past(
            self.key[:, seen],
            self.value[:, seen],
            self.key_least[:, seen],
            self.key_most[:, seen],
            self.value_most[:, seen],
        )


def _past(key: Bounded, value: Bounded) -> _Past:
    key, value = (
        Bounded(np.ascontiguousarray(x.value.swapaxes(0, 1)), np.ascontiguousarray(x.error.swapaxes(0, 1)))
        for x in (key, value)
    )
    return _Past(key, value, np.abs(key.value), key.magnitude, value.magnitude)


def _run(seen: npt.NDArray[np.bool_]) -> slice | npt.NDArray[np.bool_]:
    """Returns a slice instead of flags where one run of tokens is seen: nothing is copied then."""
    places = np.flatnonzero(seen)
    first, end = int(places[0]), int(places[-1]) + 1
    return slice(first, end) if end - first == len(places) else seen


def _check(query: Bounded, key: Bounded, value: Bounded, visible: npt.NDArray[np.bool_] | None) -> None:
    fits = len(query.shape) == len(key.shape) == 3  # noqa: PLR2004 (axes)
    fits = fits and key.shape == value.shape and query.shape[2] == key.shape[2] > 0
    if not fits or not key.shape[1] or query.shape[1] % key.shape[1]:
        raise DataError(
            "attention: expected queries (queries, heads, width), keys and values (tokens, key-value heads, "
            f"width), heads a multiple of key-value heads; got {query.shape}, {key.shape} and {value.shape}"
        )
    if visible is not None and visible.shape != (query.shape[0], key.shape[0]):
        raise DataError(
            f"attention: expected {(query.shape[0], key.shape[0])} flags of what is seen, got {visible.shape}"
        )
    if not key.shape[0] or (visible is not None and not visible.any(axis=1).all()):
        raise DataError("attention: expected a token that each query sees, got none")


def _leaking(query: Bounded, past: _Past, scale: float, arithmetic: Arithmetic) -> npt.NDArray[np.bool_]:
    """Returns for which shared heads tokens that are not seen may matter after all."""
    infinite = np.logical_or(_unknown(past.key), _unknown(past.value))
    with bounded.quiet():
        reach = query.magnitude @ past.key_most.max(axis=1)[:, :, None]
    if (reach < arithmetic.form.largest / 2).all():  # no score is nearly that large
        return infinite
    return np.logical_or(infinite, _unknown(_scores(query, past, scale, arithmetic)))


def _unknown(x: Bounded) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = np.logical_not(np.isfinite(x.error).all(axis=(1, 2)))
    return found


def _outputs(query: Bounded, past: _Past, scale: float, arithmetic: Arithmetic) -> Bounded:
    """Returns the outputs of one query (shared heads, heads that share, width) over tokens it sees."""
    tokens = past.tokens
    blocks = tokens // BLOCK + 1
    scores = _scores(query, past, scale, arithmetic)
    with bounded.quiet():
        size = scores.magnitude
        # exponentials of differences, once and again at each change of the running maximum
        slack = scores.error + FUNCTION * (blocks + 1)
        slack += 8.0 * FLOAT32.unit * (size + size.max(axis=2, keepdims=True))
        up = np.exp((1.0 + FUNCTION) * slack)
        weight = np.exp(scores.value - scores.value.max(axis=2, keepdims=True))
        weight /= weight.sum(axis=2, keepdims=True)
        most = up / (weight / up).sum(axis=2, keepdims=True)
        least = 1.0 / (up * (weight * up).sum(axis=2, keepdims=True))
        change = weight * np.maximum(most - 1.0, 1.0 - least) + bounded.OWN * (tokens + 2)
        change[np.isnan(change)] = np.inf
        out = weight @ past.value.value
        error = _moved(change, past.value.value, out)
        rounding = arithmetic.form.unit + arithmetic.products(tokens + 2 * blocks + 8)
        heavy = weight + change
        error += (
            rounding * (1.0 + arithmetic.form.unit) * (heavy @ past.value_most) + heavy @ past.value.error
        )
        tiny = arithmetic.form.tiny + tokens * FLOAT32.tiny
        error += tiny * (1.0 + past.value_most.sum(axis=1))[:, None]
        return bounded.bounded(out, error)


def _scores(query: Bounded, past: _Past, scale: float, arithmetic: Arithmetic) -> Bounded:
    """Returns scale · q Kᵀ, which may be rounded before it is scaled and after: (…, tokens)."""
    width = query.shape[2]
    peak = query.magnitude
    with bounded.quiet():
        plain = query.value @ past.key.value.swapaxes(1, 2)
        size = peak @ past.key_most.swapaxes(1, 2)
        # (|q| + a)(|k| + b) − |q||k|, and the rounding of the sum: the scale may be applied to q and k
        error = size - np.abs(query.value) @ past.key_least.swapaxes(1, 2) * (1.0 - 2.0**-40)
        error += arithmetic.products(width + 4) * size
        largest = peak.max(axis=2)[:, :, None] + past.key_most.max(axis=2)[:, None, :]
        error += (width + 2) * FLOAT32.tiny * (1.0 + largest)
        scores = bounded.bounded(plain, error).rounded(arithmetic.form)
    return scores.times(scale).widened(relative=2.0 * FLOAT32.unit).rounded(arithmetic.form)


def _moved(change: Array, value: Array, out: Array) -> Array:
    """Returns Σ change · |value − out|: weight that moves between tokens moves the sum that far."""
    found = np.empty_like(out)
    if change.size * value.shape[2] <= AT_ONCE:
        distance = np.abs(value[:, None] - out[:, :, None])
        np.matmul(change[:, :, None], distance, out=found[:, :, None])
        return found
    for shared, head in np.ndindex(*change.shape[:2]):
        found[shared, head] = change[shared, head] @ np.abs(value[shared] - out[shared, head])
    return found
