"""The choice of a token from its logits: greedy, and what sampling may give under its settings.

Whether a seeded draw gave this token and no other needs the generator of torch; here only tokens are found
that no draw could have given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from palm_torch.audit.arithmetic import FLOAT32
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from palm_torch.audit.bounded import Array, Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What logits say of the token that was chosen.

    Attributes:
        consistent: Whether the token could be chosen.
        why: What made it impossible, in words; empty if nothing did.
        margin: Greedy: the largest logit less the next one. Sampled: the token's logit less the least one
            that top-k lets through, or infinite.
        rank: How many tokens have a larger logit.
        probability: Of the token, before top-k, top-p and min-p cut it out or the others.
    """

    consistent: bool
    why: str
    margin: float
    rank: int
    probability: float


def greedy(logits: Stored, token: int) -> Choice:
    """Looks at a token that should have the largest logit; one of several equal ones is as good.

    Args:
        logits: (vocabulary,), committed.
        token: The committed token.

    Raises:
        DataError: If the token lies outside the vocabulary, or a logit is not a number.
    """
    scores = _scores(logits, token)
    top = np.sort(scores)[::-1]
    rank = int((scores > scores[token]).sum())
    why = "" if not rank else f"token {token} has the {_th(rank + 1)} largest logit, not the largest"
    margin = float(top[0] - top[1]) if len(top) > 1 and np.isfinite(top[0]) else math.inf
    chance = float(_probabilities(scores)[token])
    return Choice(consistent=not rank, why=why, margin=margin, rank=rank, probability=chance)


def sampled(
    logits: Stored,
    token: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> Choice:
    """Looks at a token that was drawn, after temperature, top-k, top-p and min-p in this order.

    A token is impossible if it is cut out whatever the roundings of float32 were.

    Args:
        logits: (vocabulary,), committed.
        token: The committed token.
        temperature: What logits are divided by.
        top_k: How many tokens remain, and those equal to the last one; None: all.
        top_p: Tokens remain until their probabilities, from the largest down, reach it; None: all.
        min_p: Tokens remain that have this part of the largest probability; None: all.

    Raises:
        DataError: If a setting is out of range, the token outside the vocabulary, or a logit not a number.
    """
    _check(temperature, top_k, top_p, min_p)
    scores = _scores(logits, token)
    with np.errstate(all="ignore"):
        divided = scores / temperature
    if (np.isinf(divided) & np.isfinite(scores)).any():
        raise DataError(f"temperature: {temperature} makes logits infinite: no sampling is known that small")
    scores = divided
    slack = 4.0 * FLOAT32.unit * np.abs(scores[token]) if np.isfinite(scores[token]) else 0.0
    rank = int((scores > scores[token]).sum())
    chance = float(_probabilities(scores)[token])
    why, margin = "", math.inf
    if np.isneginf(scores[token]):
        why = f"token {token} has the logit −inf"
    if top_k is not None and top_k < len(scores):
        least = np.partition(scores, -top_k)[-top_k]
        margin = float(scores[token] - least) if np.isfinite(least) else math.inf
        if not why and scores[token] + slack < least - 4.0 * FLOAT32.unit * np.abs(least):
            why = f"token {token} has the {_th(rank + 1)} largest logit; top-k lets {top_k} through"
        scores = np.where(scores < least - slack, -np.inf, scores)
    if not why:
        why = _tail(scores, token, slack, top_p, min_p)
    return Choice(consistent=not why, why=why, margin=margin, rank=rank, probability=chance)


def _tail(scores: Array, token: int, slack: float, top_p: float | None, min_p: float | None) -> str:
    """Returns what top-p and min-p say of a token among those that top-k left."""
    chances = _probabilities(scores)
    error = (len(scores) + 32) * FLOAT32.unit
    if top_p is not None:
        above = float(chances[scores > scores[token] + slack].sum())
        if above > top_p * (1.0 + error) + error:
            return (
                f"tokens likelier than {token} have the probability {above:.6g}; top-p cuts it at {top_p:g}"
            )
    if min_p is not None and min_p > 0.0:
        part = float(chances[token] / chances.max())
        if part * (1.0 + error) + FLOAT32.tiny < min_p * (1.0 - error):
            return f"token {token} has {part:.6g} of the largest probability; min-p asks for {min_p:g}"
    return ""


def _scores(logits: Stored, token: int) -> Array:
    if logits.ndim != 1 or not 0 <= token < logits.shape[0]:
        raise DataError(f"token: expected one of logits {logits.shape}, got {token}")
    scores = logits.astype(np.float64)
    if np.isnan(scores).any() or np.isposinf(scores).any() or np.isneginf(scores).all():
        raise DataError("logits: expected finite numbers or −inf, and one finite at least, got others")
    return scores


def _check(temperature: float, top_k: int | None, top_p: float | None, min_p: float | None) -> None:
    if not 0.0 < temperature < math.inf:
        raise DataError(f"temperature: expected a finite number above 0, got {temperature}")
    if top_k is not None and top_k < 1:
        raise DataError(f"top_k: expected 1 or more, got {top_k}")
    for name, value in (("top_p", top_p), ("min_p", min_p)):
        if value is not None and not 0.0 <= value <= 1.0:
            raise DataError(f"{name}: expected 0 to 1, got {value}")


def _probabilities(scores: Array) -> Array:
    with np.errstate(all="ignore"):
        weights = np.exp(scores - scores.max())
    found: Array = weights / weights.sum()
    return found


def _th(rank: int) -> str:
    teen = rank % 100 in {11, 12, 13}
    return f"{rank}{'th' if teen else {1: 'st', 2: 'nd', 3: 'rd'}.get(rank % 10, 'th')}"
