"""What distance honest re-runs have: from runs of one's own to a threshold, and the verdict it gives.

Prompts are independent of each other, re-runs of one prompt are not. So a prompt counts once, with the worst
of its re-runs:

1. Every third prompt says how large each measure of each site is in honest runs: its largest value there.
2. The score of a comparison is its largest measure, in these units.
3. Of the scores of the other prompts one is the threshold, such that the rate of false alarms is bounded
   (`palm_torch.audit.false_alarms`). They had no part in the units, so that the bound holds whatever the
   distribution is.

Nothing of this proves a computation. ``alike`` is what honest runs look like, and whatever is as close.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from palm_torch import codec, files
from palm_torch.audit import false_alarms, fingerprint_distance
from palm_torch.audit.fingerprint_distance import MEASURES, RESOLUTIONS, Distances
from palm_torch.commit.trace_groups import Site
from palm_torch.encoding import encode_json
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_torch.audit.fingerprint_file import Fingerprint

    Runs: TypeAlias = Sequence[Sequence[Distances]]

MEDIA_TYPE: Final = "application/vnd.palm-torch.fingerprint-calibration+json;version=1"
SUFFIX: Final = ".palm-calibration.json"
MAX_BYTES: Final = 16 << 20
"""Largest file, in bytes."""

MAX_SCORES: Final = 1 << 12
"""Most prompts that a threshold comes from: its bound takes time with their number."""

RATE: Final = 0.05
CONFIDENCE: Final = 0.95

_UNITS_EVERY: Final = 3
_LEAST: Final = 2

Verdict: TypeAlias = Literal["alike", "different"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """How large the measures of a site are in honest runs.

    Attributes:
        site: The site.
        measures: Measure → its unit, above 0.
    """

    site: Site
    measures: dict[str, float]

    def __post_init__(self) -> None:
        """Refuses units that measure nothing."""
        if self.measures.keys() != set(MEASURES) or not all(
            math.isfinite(unit) and unit > 0 for unit in self.measures.values()
        ):
            raise DataError(f"measures: expected a number above 0 for each of {', '.join(MEASURES)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What distance honest re-runs have.

    Attributes:
        media_type: `MEDIA_TYPE`, which carries the version.
        sites: The units of each site.
        scores: Of the prompts that had no part in the units, ascending.
        exceeding: How many of these may exceed the threshold.
        confidence: Of the bound on false alarms, in (0, 1).
        tokens: Fewest and most tokens that the runs had.
        about: What the runs were: model, variations, versions, by name.

    Raises:
        DataError: If the parts do not fit together.
    """

    media_type: str
    sites: tuple[Units, ...]
    scores: tuple[float, ...]
    exceeding: int
    confidence: float
    tokens: tuple[int, ...]
    about: dict[str, str]

    def __post_init__(self) -> None:
        """Refuses what no runs could have given."""
        if self.media_type != MEDIA_TYPE:
            raise DataError(f"media_type: expected {MEDIA_TYPE!r}, got {self.media_type[:80]!r}")
        if not self.sites or len({unit.site for unit in self.sites}) != len(self.sites):
            raise DataError(f"sites: expected one or more, each once, got {len(self.sites)}")
        if len(self.scores) > MAX_SCORES:
            raise DataError(f"scores: expected at most {MAX_SCORES}, got {len(self.scores)}")
        if not all(math.isfinite(score) for score in self.scores) or list(self.scores) != sorted(self.scores):
            raise DataError("scores: expected finite numbers, ascending")
        if len(self.tokens) != 2 or not 0 < self.tokens[0] <= self.tokens[1]:  # noqa: PLR2004 (two ends)
            raise DataError(f"tokens: expected a fewest and a most, got {self.tokens[:4]}")
        false_alarms.rate_bound(self.exceeding, len(self.scores), self.confidence)

    @property
    def threshold(self) -> float:
        """The score above which two fingerprints are different; never below a unit.

        Runs that were all equal to the last bit would make it 0, which the first other bit exceeds.
        """
        return max(1.0, self.scores[-1 - self.exceeding])

    @property
    def rate_bound(self) -> float:
        """What the rate of false alarms is at most, with the confidence: over prompts and runs like these."""
        return false_alarms.rate_bound(self.exceeding, len(self.scores), self.confidence)

    @property
    def expected_rate(self) -> float:
        """The rate of false alarms to expect."""
        return false_alarms.expected_rate(self.exceeding, len(self.scores))

    def encode(self) -> bytes:
        """Returns the file's bytes, canonical JSON."""
        return encode_json(codec.to_json(self))

    def save(self, path: str | Path) -> None:
        """Writes the calibration to a file, whole or not at all.

        Raises:
            DataError: If it cannot be written.
        """
        files.write_atomically(Path(path), [self.encode()], error=DataError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What came out of comparing two fingerprints.

    Attributes:
        verdict: ``alike``, or ``different``.
        score: The largest measure in its unit; infinite where the sizes differ.
        threshold: What it may be.
        why: The measure that decided, in words.
        distances: All measures; none where the sizes differ.
    """

    verdict: Verdict
    score: float
    threshold: float
    why: str
    distances: tuple[Distances, ...]


def calibrate(
    prompts: Sequence[Runs],
    *,
    tokens: tuple[int, int],
    rate: float = RATE,
    confidence: float = CONFIDENCE,
    about: dict[str, str] | None = None,
) -> Calibration:
    """Returns the threshold that honest re-runs give.

    Args:
        prompts: For each prompt its re-runs, for each of these the distances from the first run.
        tokens: Fewest and most tokens that a prompt had.
        rate: What the rate of false alarms shall be at most; with fewer than `false_alarms.runs_for` prompts
            for the threshold it cannot be had, and the calibration says which can.
        confidence: With which confidence.
        about: What the runs were.

    Raises:
        DataError: If there are fewer than two prompts or too many, one without re-runs, or runs of different
            sites.
    """
    if len(prompts) < _LEAST or not all(prompts):
        raise DataError(f"calibration: expected {_LEAST} prompts or more, each run again, got {len(prompts)}")
    runs = [run for prompt in prompts for run in prompt]
    sites = [part.site for part in runs[0]]
    if any([part.site for part in run] != sites for run in runs):
        raise DataError("calibration: expected all runs to be of the same sites")
    for_units = itertools.chain.from_iterable(prompts[::_UNITS_EVERY])
    units = _units(list(for_units))
    others = [prompt for number, prompt in enumerate(prompts) if number % _UNITS_EVERY]
    scores = sorted(max(_score(units, run)[0] for run in prompt) for prompt in others)
    return Calibration(
        media_type=MEDIA_TYPE,
        sites=units,
        scores=tuple(scores),
        exceeding=false_alarms.most_exceeding(len(scores), rate, confidence),
        confidence=confidence,
        tokens=tokens,
        about=about or {},
    )


def compare(mine: Fingerprint, theirs: Fingerprint, calibration: Calibration) -> Comparison:
    """Says whether two fingerprints are as close as those of honest re-runs.

    Args:
        mine: Of a run of one's own.
        theirs: Of what was said to be the same.
        calibration: What honest re-runs are like.

    Raises:
        DataError: If the fingerprints are of other sites, seeds or numbers of elements than each other or
            than the calibration, or no token counts in either.
    """
    sites = [unit.site for unit in calibration.sites]
    for whose, made in (("my fingerprint", mine), ("their fingerprint", theirs)):
        if (found := [part.site for part in made.sites]) != sites:
            raise DataError(
                f"{whose}: expected the sites of the calibration, {', '.join(map(str, sites))}, got "
                f"{', '.join(map(str, found))}"
            )
    if differ := fingerprint_distance.shapes_differ(mine, theirs):
        return Comparison(
            verdict="different", score=math.inf, threshold=calibration.threshold, why=differ, distances=()
        )
    found_distances = fingerprint_distance.distances(mine, theirs)
    score, why = _score(calibration.sites, found_distances)
    return Comparison(
        verdict="alike" if score <= calibration.threshold else "different",
        score=score,
        threshold=calibration.threshold,
        why=why,
        distances=found_distances,
    )


def score(calibration: Calibration, run: Sequence[Distances]) -> float:
    """Returns the largest measure of a comparison, in the units of a calibration of the same sites."""
    return _score(calibration.sites, run)[0]


def decode(data: bytes, *, what: str = "calibration") -> Calibration:
    """Decodes a calibration, accepting exactly what `Calibration.encode` makes.

    Raises:
        DataError: If the bytes are anything else.
    """
    return codec.from_bytes(Calibration, data, what=what, max_bytes=MAX_BYTES, error=DataError)


def read(path: str | Path) -> Calibration:
    """Reads a calibration from a file.

    Raises:
        DataError: If it cannot be read or is none.
    """
    return codec.from_file(
        Calibration, Path(path), what="the calibration", max_bytes=MAX_BYTES, error=DataError
    )


def _units(runs: Sequence[Sequence[Distances]]) -> tuple[Units, ...]:
    return tuple(
        Units(
            site=parts[0].site,
            measures={
                name: max(least, *(part.measures[name] for part in parts))
                for name, least in RESOLUTIONS.items()
            },
        )
        for parts in zip(*runs, strict=True)
    )


def _score(units: Sequence[Units], run: Sequence[Distances]) -> tuple[float, str]:
    """Returns the largest measure in its unit, and which it is in words."""
    found, why = -1.0, ""
    for unit, part in zip(units, run, strict=True):
        for name in MEASURES:
            value = part.measures[name] / unit.measures[name]
            if math.isnan(value):  # compares as less than everything
                value = math.inf
            if value > found:
                where = (
                    f", token {part.token} of sequence {part.sequence}" if name == "projection worst" else ""
                )
                found = value
                why = (
                    f"{part.site}: {name} {part.measures[name]:.3g}, in honest runs {unit.measures[name]:.3g}"
                )
                why += where
    return found, why
