"""What an audit found: one verdict for each operation at each place, and everything that nobody looked at.

The words are three. *Consistent*: the committed output lies within the rounding bound around what the
verifier computed from the committed inputs. *Inconsistent*: it lies outside, and no covered implementation
can have computed it from these inputs. *Not checked*: something is missing, and the words say what. Nothing
is ever called proved: within the bounds, and at places that were not drawn, anything may have been changed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from palm_torch.challenge.places import Place
from palm_torch.codec import to_json
from palm_torch.commit import selection
from palm_torch.digest import Digest
from palm_torch.encoding import encode_json
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable

MEDIA_TYPE: Final = "application/vnd.palm-torch.audit-result+json;version=1"

Verdict: TypeAlias = Literal["consistent", "inconsistent", "not checked"]

FRACTIONS: Final = (0.001, 0.01, 0.1, 0.5)
"""Fractions of all places, by the weights of the draw, for which a result says how sure an audit notices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found of one operation at one place.

    Attributes:
        part: Name of the part of the computation, such as ``model.layers.3``.
        operation: The output that was looked at, by its role in the part.
        place: Where; None for a block of which every row was opened.
        verdict: What came out.
        margin: Largest |difference| / bound, at most 1 where consistent; None where nothing was compared,
            and where the ratio is no finite number: the bound is 0, or what was committed is infinite or NaN.
        words: Where exactly and how far off, or why nothing was compared; empty where consistent.
        blind: Whether it is what was committed that keeps it from being checked: numbers that are not finite,
            or so large that nothing is known of what follows from them; or ids that were not bound, without
            which nobody knows what the attention saw.

    Raises:
        DataError: If the margin is not finite, negative, or contradicts the verdict.
    """

    part: str
    operation: str
    place: Place | None
    verdict: Verdict
    margin: float | None
    words: str
    blind: bool = False

    def __post_init__(self) -> None:
        """Refuses a verdict that its own number contradicts."""
        margin = self.margin
        if margin is not None and not 0 <= margin < math.inf:
            raise DataError(f"margin: expected a finite number from 0, got {margin}")
        fits = {
            "consistent": margin is not None and margin <= 1,
            "inconsistent": margin is None or margin > 1,
            "not checked": margin is None,
        }
        if not fits[self.verdict]:
            raise DataError(f"margin: {margin} is none of something {self.verdict}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Detection:
    """How sure the drawn places notice that something is wrong.

    Attributes:
        fraction: Fraction of all places, by the weights of the draw, at which a check would fail.
        probability: That at least one of them was drawn.
    """

    fraction: float
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditResult:
    """What an audit found.

    Attributes:
        media_type: `MEDIA_TYPE`, which carries the version.
        request: Digest of the request.
        trace: The trace root.
        sealed: Whether the request names claims that were sealed before its nonce was drawn.
        places: Places that were drawn, in the order of the draw; some perhaps several times.
        whole: Names of the blocks of which every row was looked at.
        findings: The findings, by part, place and operation.
        detection: How sure the draw was.
        not_checked: Everything that was not looked at, in words.
    """

    media_type: str
    request: Digest
    trace: Digest
    sealed: bool
    places: tuple[Place, ...]
    whole: tuple[str, ...]
    findings: tuple[Finding, ...]
    detection: tuple[Detection, ...]
    not_checked: tuple[str, ...]

    @property
    def inconsistent(self) -> tuple[Finding, ...]:
        """The findings that accuse, the clearest first."""
        found = [finding for finding in self.findings if finding.verdict == "inconsistent"]
        return tuple(sorted(found, key=lambda one: -math.inf if one.margin is None else -one.margin))

    @property
    def blind(self) -> tuple[Finding, ...]:
        """The findings whose rows were committed such that nothing follows from them."""
        return tuple(finding for finding in self.findings if finding.blind)

    @property
    def consistent(self) -> bool:
        """Whether nothing was found inconsistent, and nothing that was asked for kept from being checked.

        False does not accuse: `inconsistent` does.
        """
        return not self.inconsistent and not self.blind and self.margin is not None

    @property
    def margin(self) -> float | None:
        """The largest margin of what was found consistent; None if nothing was."""
        margins = [finding.margin for finding in self.findings if finding.verdict == "consistent"]
        return max((margin for margin in margins if margin is not None), default=None)

    def encode(self) -> bytes:
        """Returns the result's bytes, canonical JSON."""
        return encode_json(to_json(self))


def detection(queries: int, fractions: Iterable[float] = FRACTIONS) -> tuple[Detection, ...]:
    """Returns how sure some number of drawn places notices.

    Args:
        queries: How many places were drawn.
        fractions: Fractions of all places at which a check would fail.
    """
    return tuple(
        Detection(fraction=fraction, probability=selection.detection(fraction, 1.0, queries))
        for fraction in fractions
    )
