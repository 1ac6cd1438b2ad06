"""As of when evidence is judged: a time given by the verifier, or that of a time-stamp token.

A token's time is right up to its accuracy. Whether an answer came in time is judged at the latest moment
that the token allows, so that an authority which knows the year alone does not vouch for the minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from palm_torch.errors import FreshnessError, InputError
from palm_torch.result import Check, Reservation

if TYPE_CHECKING:
    from palm_torch.cvm.timestamp import VerifiedTime
    from palm_torch.evidence import Bundle

ACCURATE: Final = timedelta(minutes=1)
"""Accuracy beyond which a time stamp is accepted with a reservation only."""

NO_ROOT: Final = "the time-stamp token: no root of a time-stamping authority was given"
NO_ACCURACY: Final = "how far off the time stamp may be: its authority does not say"

_ADVICE: Final = "ask for a time stamp of an authority that knows the time to the second"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The time of an appraisal.

    Attributes:
        at: The time, aware.
        latest: When it may really have been, at the latest.
        source: Where it comes from, as the result shall say.
        checks: What was checked on the way.
        reservations: What keeps the result from being affirming.
        not_checked: What was not checked.
    """

    at: datetime
    latest: datetime
    source: str
    checks: tuple[Check, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    not_checked: tuple[str, ...] = ()


def of(bundle: Bundle, *, at: datetime | None, source: str, root: bytes | None) -> Moment:
    """Returns the time of an appraisal, and verifies the time-stamp token if a root was given.

    Args:
        bundle: The evidence.
        at: The verifier's own time, aware; None takes the token's.
        source: Where `at` comes from.
        root: Root certificate (PEM) of a time-stamping authority; None looks past a token.

    Raises:
        InputError: If there is neither time nor root, or a part does not parse.
        FreshnessError: If a root was given and there is no token, or `at` lies before it.
        RejectedError: Of the class that fits, if the token is not what it should be.
    """
    if bundle.timestamp is not None:
        return _of_token(bundle, bundle.timestamp, at=at, source=source, root=root)
    if root is not None:
        raise FreshnessError("the root of a time-stamping authority was given, but the evidence has no token")
    given = _required(at)
    return Moment(at=given, latest=given, source=source)


def _of_token(
    bundle: Bundle, token: bytes, *, at: datetime | None, source: str, root: bytes | None
) -> Moment:
    from palm_torch.cvm import timestamp  # noqa: PLC0415 (most evidence has no token, and starts faster)

    if root is None:
        given = _required(at)
        timestamp.read_token(token, digest=bundle.digest_to_stamp())
        return Moment(at=given, latest=given, source=source, not_checked=(NO_ROOT,))
    stamp = timestamp.verify_token(token, digest=bundle.digest_to_stamp(), root=root)
    if at is not None and at < stamp.time:
        raise FreshnessError(
            f"verification at {at.isoformat()} lies before the time stamp, {stamp.time.isoformat()}"
        )
    said = timestamp.accuracy_in_words(stamp.accuracy)
    reserved = stamp.accuracy is not None and stamp.accuracy > ACCURATE
    reason = f"the time stamp may be off by {said.removeprefix('accurate to ')}"
    return Moment(
        at=stamp.time if at is None else at,
        latest=_latest(stamp) if at is None else at,
        source=f"time-stamped by {stamp.authority}, {said}" if at is None else source,
        checks=(
            Check(
                name="time stamp",
                detail=f"{stamp.authority} saw the evidence at {stamp.time.isoformat()}, {said}",
            ),
        ),
        reservations=(Reservation(about="freshness", reason=reason, advice=_ADVICE),) if reserved else (),
        not_checked=(NO_ACCURACY,) if stamp.accuracy is None else (),
    )


def _required(at: datetime | None) -> datetime:
    if at is None:
        raise InputError("at: expected a time, or the root of a time-stamping authority to take it from")
    return at


def _latest(stamp: VerifiedTime) -> datetime:
    try:
        return stamp.time + (stamp.accuracy or timedelta(0))
    except OverflowError:  # an authority that is content with any time whatever
        return datetime.max.replace(tzinfo=UTC)
