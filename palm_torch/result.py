"""What a verifier found: the attestation result, with what was checked and what was not.

The tiers are those of AR4SI (draft-ietf-rats-ar4si): *affirming*, *warning*, *contraindicated*. A result
object is at least a warning; contraindicated evidence raises `RejectedError`, which carries the checks
that had passed.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from palm_torch import codec
from palm_torch.roles import Source

if TYPE_CHECKING:
    from collections.abc import Iterable

    from palm_torch.encoding import Json


Strength: TypeAlias = Literal["hardware", "simulated", "code"]
"""Who vouches for what was measured."""

_LABELS: Final[dict[Source, Literal["reported by code", "declared"]]] = {
    Source.REPORTED: "reported by code",
    Source.DECLARED: "declared",
}


class Tier(enum.StrEnum):
    """Trust tiers of an attestation result."""

    AFFIRMING = "affirming"
    WARNING = "warning"
    CONTRAINDICATED = "contraindicated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check that passed: its name and what it established."""

    name: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One thing the evidence says, and how strong the saying is.

    Attributes:
        name: Role or measure, e.g. ``model`` or ``data.train.delivered``.
        value: What is claimed.
        strength: ``hardware`` when platform, code and claims all matched references; ``simulated``;
            ``code`` when the hardware is genuine but the code was not reviewed or reported itself;
            ``reported by code`` and ``declared`` as the statement labels it.
    """

    name: str
    value: str
    strength: Literal["hardware", "simulated", "code", "reported by code", "declared"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reservation:
    """One reason why a result is not affirming.

    Attributes:
        about: What it concerns. One about the code or the session keeps every claim from being ``hardware``.
        reason: The reason, as a sentence without a full stop.
        advice: What the reader can do about it.
    """

    about: Literal["platform", "code", "claims", "freshness", "session"]
    reason: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What somebody else thought of a part of the evidence, beside it: it decides nothing.

    Attributes:
        issuer: Who thinks so.
        about: The part of the evidence that it is about.
        says: What they think.
        warns: What they warn of; None if of nothing.
        keys: Names of the verifier's keys by which they signed it.
        issued: When they said so, ISO 8601.
        expires: Until when they stand by it, ISO 8601.
    """

    issuer: str
    about: str
    says: str
    warns: str | None
    keys: tuple[str, ...]
    issued: str
    expires: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationResult:
    """The appraisal of evidence that was not rejected.

    Attributes:
        tier: Affirming or warning.
        simulated: Whether any component was simulated; such a result is never affirming.
        operation: What the evidence is of.
        run_id: Name of the run.
        freshness: ``challenged``, ``unchallenged`` or ``not_checked``.
        session: ``closed`` by an end quote, or ``unclosed``: a receipt of a session of which nothing else is
            known.
        time: The verification time, with where it came from.
        co_location: Always ``unproven``: Hopper GPUs cannot prove that they sit in the attested machine.
        checks: What was checked, in order.
        reservations: Why the result is not affirming.
        not_checked: What was not checked.
        claims: What the evidence says.
        opinions: What others thought of it, if the verifier brought their word: nothing above hangs on it.
    """

    tier: Tier
    simulated: bool
    operation: str
    run_id: str
    freshness: Literal["challenged", "unchallenged", "not_checked"]
    session: Literal["closed", "unclosed"]
    time: str
    co_location: Literal["unproven"]
    checks: tuple[Check, ...]
    reservations: tuple[Reservation, ...]
    not_checked: tuple[str, ...]
    claims: tuple[Claim, ...]
    opinions: tuple[Opinion, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """The reasons alone."""
        return tuple(item.reason for item in self.reservations)

    def to_json(self) -> Json:
        """Returns the result as a JSON value."""
        return codec.to_json(self)


def strength_of(*, simulated: bool, reservations: Iterable[Reservation]) -> Strength:
    """Returns the strength of what was measured.

    Args:
        simulated: Whether any component was simulated.
        reservations: All of them; of these, one about the code, or about a session that nobody knows the
            end of, leaves the code as the only witness.
    """
    if simulated:
        return "simulated"
    return "code" if any(item.about in ("code", "session") for item in reservations) else "hardware"


def labelled(said: Iterable[tuple[str, str, Source]], strength: Strength) -> tuple[Claim, ...]:
    """Returns claims from names, values and sources: what was measured gets the strength given."""
    return tuple(
        Claim(name=name, value=value, strength=_LABELS.get(source, strength)) for name, value, source in said
    )


def rejection(error: Exception, checks: tuple[Check, ...]) -> dict[str, Any]:
    """Returns the JSON value that stands for a rejection: tier, error class, message, passed checks."""
    return {
        "tier": Tier.CONTRAINDICATED.value,
        "error": type(error).__name__,
        "message": str(error),
        "checks": codec.to_json(checks),
    }
