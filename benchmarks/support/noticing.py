"""How often the audit of a broken place notices, learned from some traces, and what that says of others.

A place that an attack breaks may differ from what is right by less than the bound; then nobody notices. Which
share of a trace's broken places is noticed (delta) is counted on traces of other prompts than are audited.
It differs from trace to trace, so those of an attack are taken to have shares of one beta distribution:

    K_t of T_t places ~ Binomial(T_t, delta_t),    delta_t ~ Beta(mean · alike, (1 - mean) · alike)

What counts say of mean and alike is computed on a grid; before them, mean has Jeffreys' distribution, and
alike any magnitude from 2 on: traces of one attack are not of two opposite kinds. What is predicted of the
traces that are audited is drawn from all that is left possible, so its intervals hold what chance does in
the audits, how traces differ, and how little is known of delta.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float64]
    Counts: TypeAlias = npt.NDArray[np.int64]

SAMPLES: Final = 100_000
MEANS: Final = np.sin((np.arange(400) + 0.5) * math.pi / 800) ** 2
"""Equally likely values of the mean: Jeffreys' distribution of a share."""
ALIKE: Final = np.geomspace(2, 4096, 34)
_SEED: Final = 0


@dataclass(frozen=True, slots=True)
class Counted:
    """What was counted on traces that are not audited.

    Attributes:
        checked: Of each trace, how many different broken places were checked.
        noticed: How many of these were accused.
        wronged: How many other places were, over all traces.
    """

    checked: tuple[int, ...] = ()
    noticed: tuple[int, ...] = ()
    wronged: int = 0

    @property
    def delta(self) -> float:
        """Share that was noticed; not a number where nothing was checked."""
        return sum(self.noticed) / sum(self.checked) if any(self.checked) else math.nan


class Noticing:
    """What counts say of an attack's delta.

    Args:
        counted: The counts.
    """

    def __init__(self, counted: Counted) -> None:
        mean, alike = (axis.ravel() for axis in np.meshgrid(MEANS, ALIKE, indexing="ij"))
        self._seen, self._missed = mean * alike, (1 - mean) * alike
        logs = np.zeros_like(mean)
        for checked, noticed in zip(counted.checked, counted.noticed, strict=True):
            logs += _log_beta(self._seen + noticed, self._missed + checked - noticed)
            logs -= _log_beta(self._seen, self._missed)
        chances = np.exp(logs - logs.max())
        self._chances = chances / chances.sum()
        self._means = (self._chances.reshape(len(MEANS), -1)).sum(axis=1)

    def mean(self, confidence: float = 0.95) -> tuple[float, float]:
        """Returns between which shares the mean over all traces of the attack lies."""
        tail = (1 - confidence) / 2
        below = np.cumsum(self._means)
        low, high = (MEANS[np.searchsorted(below[:-1], at)] for at in (tail, 1 - tail))
        return float(low), float(high)

    def predicted(self, rhos: Sequence[float], broken: Sequence[int], queries: int) -> Floats:
        """Returns the probability that an audit notices, for some traces: what may be, sampled, [S, traces].

        Args:
            rhos: Of each trace, the probability that a drawn place is a broken one.
            broken: How many broken places it has.
            queries: Places of an audit.
        """
        random = np.random.default_rng(_SEED)
        at = random.choice(len(self._chances), SAMPLES, p=self._chances)
        shape = SAMPLES, len(rhos)
        shares = random.beta(self._seen[at, None], self._missed[at, None], shape)
        places = np.maximum(broken, 1)
        return noticed(np.array(rhos) * random.binomial(places, shares, shape) / places, queries)

    def counts(self, chances: Floats, draws: int) -> Counts:
        """Returns how many of some audits notice: samples, ascending, [S].

        Args:
            chances: What `predicted` returned.
            draws: How many audits; they take the traces in turn.
        """
        traces = chances.shape[1]
        each = [draws // traces + (number < draws % traces) for number in range(traces)]
        return np.sort(np.random.default_rng(_SEED + 1).binomial(each, chances).sum(axis=1))


def within(counts: Counts, confidence: float = 0.95) -> tuple[int, int]:
    """Returns first and last of those counts that are left if the rarest on both sides are taken away.

    Args:
        counts: Samples, ascending.
        confidence: At least which share of them stays.
    """
    cut = int(len(counts) * (1 - confidence) / 2)
    return int(counts[cut]), int(counts[-1 - cut])


def noticed(shares: Floats, queries: int) -> Floats:
    """Returns `palm_torch.commit.selection.detection` of many: one of so many places is noticed."""
    with np.errstate(divide="ignore"):  # a share of 1 leaves nothing: the logarithm of 0 is right
        found: Floats = -np.expm1(queries * np.log1p(-shares))
    return found


def _log_beta(one: Floats, two: Floats) -> Floats:
    first, second, both = (torch.lgamma(torch.from_numpy(values)) for values in (one, two, one + two))
    found: Floats = (first + second - both).numpy()
    return found
