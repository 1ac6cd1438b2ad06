"""How far two fingerprints are apart, in numbers that no single token, channel or site decides.

For each site:

| measure | what it is | what it notices |
|---|---|---|
| ``projection`` | relative distance of the projections, median over tokens | what touches most tokens |
| ``projection high`` | its 90th percentile | what touches some of them |
| ``projection worst`` | its maximum | an edit of one token |
| ``drift`` | length of the mean difference of projections | what pushes all tokens one way: other weights |
| ``scale`` | relative difference of the mean magnitude, median over tokens | a gain |
| ``top`` | how much of the largest elements is elsewhere or otherwise, mean over tokens | few channels |
| ``top worst`` | its maximum | few channels of one token |

Each is 0 for equal fingerprints and at most 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from palm_torch.commit.trace_groups import Site
from palm_torch.errors import DataError

if TYPE_CHECKING:
    import numpy.typing as npt

    from palm_torch.audit.fingerprint_file import Fingerprint, SiteFingerprint

    Floats: TypeAlias = npt.NDArray[np.float64]

MEASURES: Final = ("projection", "projection high", "projection worst", "drift", "scale", "top", "top worst")
HIGH: Final = 0.9

RESOLUTION: Final = 2.0**-10
"""What two float16 can differ by when nothing else does: measures below it say nothing."""
RESOLUTIONS: Final = dict.fromkeys(MEASURES, RESOLUTION) | {"drift": RESOLUTION / 8}
"""Least that counts of each measure; a mean over tokens is finer than any of them."""

_CHUNK: Final = 4096


@dataclass(frozen=True, slots=True)
class Distances:
    """How far two fingerprints are apart at one site.

    Attributes:
        site: The site.
        measures: Measure → its value, for each of `MEASURES`.
        sequence: Sequence of the token whose projections are farthest apart.
        token: That token.
    """

    site: Site
    measures: dict[str, float]
    sequence: int
    token: int


def distances(mine: Fingerprint, theirs: Fingerprint) -> tuple[Distances, ...]:
    """Compares two fingerprints, site by site.

    Raises:
        DataError: If they are of other sites, seeds, shapes or sizes, or no token counts in a site.
    """
    if mine.seed != theirs.seed:
        raise DataError("fingerprints: expected one seed, got two: make both with the same")
    sites = [part.site for part in mine.sites]
    if sites != [part.site for part in theirs.sites]:
        raise DataError(
            f"fingerprints: expected both of {', '.join(map(str, sites))}, got one of "
            f"{', '.join(str(part.site) for part in theirs.sites)}"
        )
    return tuple(_of_site(a, b) for a, b in zip(mine.sites, theirs.sites, strict=True))


def shapes_differ(mine: Fingerprint, theirs: Fingerprint) -> str:
    """Returns in words what two fingerprints of the same sites are of different sizes in; empty if nothing.

    A computation of fewer tokens, or of another width, is another one: no distance is needed to say so.
    """
    for a, b in zip(mine.sites, theirs.sites, strict=False):
        for what, ours, other in (
            ("channels", a.channels, b.channels),
            ("sequences", a.sequences, b.sequences),
            ("tokens", a.tokens, b.tokens),
        ):
            if ours != other:
                return f"{a.site}: {ours} {what} against {other}"
    return ""


def _of_site(mine: SiteFingerprint, theirs: SiteFingerprint) -> Distances:
    for what in ("channels", "sequences", "tokens", "top"):
        if (ours := getattr(mine, what)) != (other := getattr(theirs, what)):
            raise DataError(f"{mine.site}: expected as many {what} in both, got {ours} and {other}")
    p, q = (part.projection_array().astype(np.float64) for part in (mine, theirs))
    s, t = (part.scale_array().astype(np.float64) for part in (mine, theirs))
    counted = np.flatnonzero((s > 0) | (t > 0))
    if not len(counted):
        raise DataError(f"{mine.site}: no token counts in either fingerprint: there is nothing to compare")
    p, q, s, t = p[counted], q[counted], s[counted], t[counted]
    lengths = np.maximum(np.linalg.norm(p, axis=1), np.linalg.norm(q, axis=1))
    gaps = (p - q) / np.where(lengths > 0, lengths, 1.0)[:, None]
    apart = np.where((s > 0) & (t > 0), np.linalg.norm(gaps, axis=1), 2.0)  # a token that one does not count
    tops = _tops(mine, theirs)[counted]
    worst = int(counted[np.argmax(apart)])
    measures = (
        np.median(apart),
        np.quantile(apart, HIGH),
        apart.max(),
        np.linalg.norm(gaps.mean(axis=0)),
        np.median(np.abs(s - t) / np.maximum(s, t)),
        tops.mean(),
        tops.max(),
    )
    sequence, token = divmod(worst, mine.tokens)
    named = {name: float(value) for name, value in zip(MEASURES, measures, strict=True)}
    return Distances(mine.site, named, sequence, token)


def _tops(mine: SiteFingerprint, theirs: SiteFingerprint) -> Floats:
    """Returns for each row how far the largest elements are apart: the mean over either's, whichever is more.

    What is among one's largest and not among the other's is, with the other, no larger than the least of
    those. So much is known of it, and that it counts with: an element that only just is among them does not
    make a distance.
    """
    parts = [(part.place_array(), part.value_array().astype(np.float64)) for part in (mine, theirs)]
    rows = []
    for start in range(0, mine.rows, _CHUNK):
        (a, u), (b, v) = (
            (places[start : start + _CHUNK], values[start : start + _CHUNK]) for places, values in parts
        )
        same = a[:, :, None] == b[:, None, :]
        rows.append(np.maximum(_missing(u, v, same), _missing(v, u, same.swapaxes(1, 2))))
    found: Floats = np.concatenate(rows)
    return found


def _missing(values: Floats, others: Floats, same: npt.NDArray[np.bool_]) -> Floats:
    there = same.any(axis=2)
    found = (same * others[:, None, :]).sum(axis=2)
    least = np.abs(others).min(axis=1, keepdims=True)
    gaps = np.where(there, np.abs(values - found), np.maximum(np.abs(values) - least, 0))
    largest = np.where(there, np.maximum(np.abs(values), np.abs(found)), np.abs(values))
    relative: Floats = np.minimum(gaps / np.where(largest > 0, largest, 1.0), 1.0).mean(axis=1)
    return relative
