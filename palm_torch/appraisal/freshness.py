"""Whom does it answer: the challenge that evidence names, against the request at hand.

A request that is at hand must be the one answered, in time and for this operation. Without one, evidence
that answers somebody else's is refused, unless the verifier chose not to ask.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from palm_torch import request
from palm_torch.errors import FreshnessError, InputError

if TYPE_CHECKING:
    from datetime import datetime

    from palm_torch.evidence import Challenge

State: TypeAlias = Literal["challenged", "unchallenged", "not_checked"]
Rule: TypeAlias = Literal["required", "not_checked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the challenge turned out to be.

    Attributes:
        state: ``challenged`` by the request at hand, ``unchallenged``, or ``not_checked``.
        roles: Roles that the request asks for; none without a request.
    """

    state: State
    roles: tuple[str, ...] = ()


def check(found: Challenge, *, asked: bytes | None, rule: Rule, at: datetime, operation: str) -> Answer:
    """Checks a challenge.

    Args:
        found: What the evidence names.
        asked: The request file's bytes; None if there was none.
        rule: ``not_checked`` accepts an answer to a request that is not at hand.
        at: Time of verification, aware.
        operation: What the evidence is of.

    Raises:
        RequestError: If the request does not parse.
        FreshnessError: If the evidence answers another request or none, too late, or for something else;
            or if it answers one that is not at hand.
    """
    if rule not in get_args(Rule):
        raise InputError(f"freshness: expected one of {', '.join(get_args(Rule))}, got {rule!r:.40}")
    if asked is not None:
        wanted = request.decode(asked)
        if found.kind != "challenged" or found.nonce != request.nonce_of(asked):
            raise FreshnessError(
                f"the evidence does not answer this request (SHA-256 {request.nonce_of(asked).hex()}): it is "
                f"{found.kind}, nonce {found.nonce.hex()}"
            )
        if wanted.expired(at):
            raise FreshnessError(f"the request expired at {wanted.expires}, the time is {at.isoformat()}")
        if wanted.operation != operation:
            raise FreshnessError(
                f"the request asks for {wanted.operation!r}, the evidence is of {operation!r}"
            )
        return Answer(state="challenged", roles=wanted.roles)
    if found.kind == "unchallenged":
        return Answer(state="unchallenged")
    if rule != "not_checked":
        raise FreshnessError(
            "the evidence answers a request that is not at hand, or that another piece of evidence answered: "
            "give the request file with --request, or choose --freshness not_checked"
        )
    return Answer(state="not_checked")
