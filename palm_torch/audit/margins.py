"""How far committed numbers lie from what may be expected, as a part of the bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from palm_torch.audit import bounded
from palm_torch.audit.arithmetic import FORMS
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from palm_torch.audit.bounded import Array, Bounded, Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """The place where committed numbers lie farthest from the expected ones, by the measure of the bound.

    Attributes:
        ratio: Difference divided by bound; 0 if every number is as expected, infinite where the bound is 0 or
            a number is missing.
        index: Where, in the array that was compared; empty if nothing was.
        difference: Absolute, there.
        bound: There.
        compared: How many numbers were compared.
        unbounded: How many were not, since nothing is known of what they should be.
    """

    ratio: float
    index: tuple[int, ...]
    difference: float
    bound: float
    compared: int
    unbounded: int

    @property
    def consistent(self) -> bool:
        """Whether no number lies outside its bound; says nothing about those that are not bounded."""
        return self.ratio <= 1.0


def compare(committed: Stored, expected: Bounded) -> Margin:
    """Compares committed numbers with what an operation may give.

    A committed infinity is as expected where the bound reaches beyond the largest finite number of that sign.

    Args:
        committed: In the format it was committed in; of the shape of what is expected.
        expected: With the error of its last rounding (`Bounded.delivered`).

    Raises:
        DataError: If shape or format are others.
    """
    if committed.shape != expected.shape:
        raise DataError(f"committed numbers: expected shape {expected.shape}, got {committed.shape}")
    form = FORMS.get(committed.dtype.name)
    if form is None:
        raise DataError(f"committed numbers: expected one of {', '.join(FORMS)}, got {committed.dtype.name}")
    found = committed.astype(np.float64)
    with bounded.quiet():
        difference = np.abs(found - expected.value)
        infinite = np.isinf(found)
        if infinite.any():  # the least number that is stored as infinite, or as the largest finite one
            short = np.maximum(form.largest - np.copysign(1.0, found) * expected.value, 0.0)
            difference = np.where(infinite, short, difference)
    return measure(difference, expected.error)


def measure(difference: Array, bound: Array) -> Margin:
    """Finds the largest ratio of differences to bounds.

    Args:
        difference: Absolute; not a number where a committed one is none.
        bound: Of the same shape; infinite where nothing is known.
    """
    known = np.isfinite(bound)
    with bounded.quiet():
        ratio = np.where(difference == 0.0, 0.0, difference / bound)
    ratio = np.where(known, np.where(np.isnan(ratio), np.inf, ratio), -1.0)
    compared = int(known.sum())
    if not compared:
        return Margin(ratio=0.0, index=(), difference=0.0, bound=0.0, compared=0, unbounded=int(known.size))
    flat = int(ratio.argmax())
    index = tuple(int(place) for place in np.unravel_index(flat, ratio.shape))
    return Margin(
        ratio=float(ratio.flat[flat]),
        index=index,
        difference=float(difference.flat[flat]),
        bound=float(bound.flat[flat]),
        compared=compared,
        unbounded=int(known.size) - compared,
    )


def worse(first: Margin, second: Margin) -> Margin:
    """Returns the margin of two comparisons together: the larger ratio, and the numbers of both."""
    larger = max(first, second, key=lambda margin: (margin.ratio, margin.compared))
    return Margin(
        ratio=larger.ratio,
        index=larger.index,
        difference=larger.difference,
        bound=larger.bound,
        compared=first.compared + second.compared,
        unbounded=first.unbounded + second.unbounded,
    )
