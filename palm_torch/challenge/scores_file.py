"""Scores of a model's parts, as a file: which are worth looking at more often, and who looks where.

A score is a guess, made once from the weights and known to everybody. Whoever draws by scores alone tells an
attacker which parts are never looked at. So what is drawn by is always mixed with the same for all:

    share of part i = uniform / parts + (1 - uniform) · score of i / sum of the scores that the verifier has

and the weight of a part, in whole numbers, is 2^20 times its share, at least 1.

Specification: docs/spec/58-fingerprint.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from palm_torch import codec, files
from palm_torch.encoding import MAX_INTEGER, encode_json
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

MEDIA_TYPE: Final = "application/vnd.palm-torch.audit-scores+json;version=1"
SUFFIX: Final = ".palm-scores.json"
MAX_BYTES: Final = 4 << 20
"""Largest file, in bytes."""
MAX_PARTS: Final = 1 << 13
MAX_VERIFIERS: Final = 1 << 10
WHOLE: Final = 1 << 20
"""What the weights of all parts come to in sum, but for rounding."""

Measure: TypeAlias = Literal["alpha", "l1", "l2", "linf", "uniform"]
MEASURES: Final[tuple[Measure, ...]] = get_args(Measure)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartScore:
    """What a part is worth, and what looking at it costs.

    Attributes:
        name: Of the part, as an audit names it.
        score: From 0 to 1.
        cost: Its parameters.
    """

    name: str
    score: float
    cost: int

    def __post_init__(self) -> None:
        """Refuses what is no share and no number of parameters."""
        if not 0 <= self.score <= 1:
            raise DataError(f"score: {self.name[:80]!r}: expected a number in [0, 1], got {self.score!r}")
        if not 0 <= self.cost <= MAX_INTEGER:
            raise DataError(f"cost: {self.name[:80]!r}: expected a number from 0, got {self.cost}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """One of those who share the work.

    Attributes:
        budget: What it can afford, in parameters.
        first: Its first part.
        end: The part after its last; `first` if it has none.
    """

    budget: float
    first: int
    end: int

    def __post_init__(self) -> None:
        """Refuses what is no budget and no interval."""
        if not (math.isfinite(self.budget) and self.budget >= 0):
            raise DataError(f"budget: expected a number from 0, got {self.budget!r}")
        if not 0 <= self.first <= self.end:
            raise DataError(f"first: expected parts in order, got {self.first} to {self.end}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Scores of all parts of a model.

    Attributes:
        media_type: `MEDIA_TYPE`, which carries the version.
        measure: What they come from.
        parts: The parts in the order in which an audit numbers them.
        verifiers: Who looks at which; none where one looks at all.

    Raises:
        DataError: If there are no parts or too many, or an interval is not within them or in two hands.
    """

    media_type: str
    measure: Measure
    parts: tuple[PartScore, ...]
    verifiers: tuple[Verifier, ...]

    def __post_init__(self) -> None:
        """Refuses another version, and intervals that overlap."""
        if self.media_type != MEDIA_TYPE:
            raise DataError(f"media_type: expected {MEDIA_TYPE!r}, got {self.media_type[:80]!r}")
        if not 0 < len(self.parts) <= MAX_PARTS:
            raise DataError(f"parts: expected 1 to {MAX_PARTS}, got {len(self.parts)}")
        if len(self.verifiers) > MAX_VERIFIERS:
            raise DataError(f"verifiers: expected at most {MAX_VERIFIERS}, got {len(self.verifiers)}")
        taken: set[int] = set()
        for number, verifier in enumerate(self.verifiers):
            if verifier.end > len(self.parts):
                raise DataError(
                    f"verifiers[{number}]: expected parts below {len(self.parts)}, got {verifier.end}"
                )
            interval = range(verifier.first, verifier.end)
            if not taken.isdisjoint(interval):
                raise DataError(f"verifiers[{number}]: has a part that another one has")
            taken.update(interval)

    def encode(self) -> bytes:
        """Returns the file's bytes, canonical JSON."""
        return encode_json(codec.to_json(self))

    def save(self, path: str | Path) -> None:
        """Writes the scores to a file, whole or not at all.

        Raises:
            DataError: If it cannot be written.
        """
        files.write_atomically(Path(path), [self.encode()], error=DataError)


def weights_of(scores: Scores, *, uniform: float = 0.5, verifier: int | None = None) -> tuple[int, ...]:
    """Returns how often each part is drawn, in proportion: no part never.

    Args:
        scores: The scores.
        uniform: Which share of the draw is the same for all parts, in (0, 1].
        verifier: Number of the verifier whose parts the rest goes to, from 0; None for all parts. Where the
            scores there are all 0, or it has no parts, all of the draw is the same for all.

    Returns:
        For each part a whole number, from 1 to 2^20.

    Raises:
        DataError: If a number is out of range.
    """
    if not 0 < uniform <= 1:
        raise DataError(
            f"uniform: expected a share in (0, 1], so that no part is never drawn, got {uniform!r}"
        )
    if verifier is not None and not 0 <= verifier < len(scores.verifiers):
        raise DataError(
            f"verifier: expected one of the {len(scores.verifiers)} that the scores are shared out to, "
            f"numbered from 0, got {verifier}"
        )
    found = [part.score for part in scores.parts]
    if verifier is not None:
        theirs = scores.verifiers[verifier]
        inside = range(theirs.first, theirs.end)
        found = [score if number in inside else 0.0 for number, score in enumerate(found)]
    whole, same = math.fsum(found), 1 / len(found)
    mixed = (uniform * same + (1 - uniform) * (score / whole if whole else same) for score in found)
    return tuple(max(1, round(WHOLE * share)) for share in mixed)


def least_share(weights: Sequence[int]) -> float:
    """Returns how likely one draw is to fall on the part that is drawn least."""
    return min(weights) / sum(weights)


def decode(data: bytes, *, what: str = "scores") -> Scores:
    """Decodes scores, accepting exactly what `Scores.encode` makes.

    Raises:
        DataError: If the bytes are anything else.
    """
    return codec.from_bytes(Scores, data, what=what, max_bytes=MAX_BYTES, error=DataError)


def read(path: str | Path) -> Scores:
    """Reads scores from a file.

    Raises:
        DataError: If it cannot be read or has none.
    """
    return codec.from_file(Scores, Path(path), what="the scores", max_bytes=MAX_BYTES, error=DataError)
