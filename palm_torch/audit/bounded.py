"""Numbers with a bound: whatever a covered implementation computes lies within the error of the value.

Values are computed in float64. Each operation adds the error of float64 itself, so that a bound holds for the
numbers that are here, not for those that exact arithmetic would give.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Callable

    from palm_torch.audit.arithmetic import Form

Array = npt.NDArray[np.float64]
Stored = npt.NDArray[Any]
"""Numbers in the format they were committed in: float32, float16 or ml_dtypes' bfloat16."""

OWN: Final = 2.0**-50
"""Relative error of one operation of an audit itself: eight roundings of float64."""

OWN_TINY: Final = 2.0**-1000
"""Absolute error of one operation of an audit itself near zero."""


@dataclass(frozen=True, slots=True, eq=False)
class Bounded:
    """An array of numbers, each known up to an error; made by `exact` and `bounded`.

    Attributes:
        value: float64, finite.
        error: float64, of the same shape, not negative; infinite where nothing is known of the number, which
            may then be anything, and not a number too.
    """

    value: Array
    error: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Of both arrays."""
        return self.value.shape

    @property
    def magnitude(self) -> Array:
        """The largest absolute value that each number may have."""
        return np.abs(self.value) + self.error

    def __getitem__(self, index: Any) -> Bounded:  # noqa: ANN401 (whatever indexes an array)
        """Returns the numbers at an index, as of an array."""
        return Bounded(self.value[index], self.error[index])

    def reshape(self, *shape: int) -> Bounded:
        """Returns the same numbers in another shape."""
        return Bounded(self.value.reshape(*shape), self.error.reshape(*shape))

    def __add__(self, other: Bounded) -> Bounded:
        """Returns the sum, without any rounding but float64's."""
        with quiet():
            return bounded(self.value + other.value, self.error + other.error)

    def __sub__(self, other: Bounded) -> Bounded:
        """Returns the difference, without any rounding but float64's."""
        with quiet():
            return bounded(self.value - other.value, self.error + other.error)

    def __mul__(self, other: Bounded) -> Bounded:
        """Returns the product, without any rounding but float64's."""
        with quiet():
            error = np.abs(self.value) * other.error + self.error * other.magnitude
            return bounded(self.value * other.value, error)

    def __neg__(self) -> Bounded:
        """Returns the numbers with the other sign."""
        return Bounded(-self.value, self.error)

    def times(self, factor: float) -> Bounded:
        """Returns the numbers times an exact factor."""
        with quiet():
            return bounded(self.value * factor, self.error * abs(factor))

    def plus(self, addend: float) -> Bounded:
        """Returns the numbers plus an exact addend."""
        with quiet():
            return bounded(self.value + addend, self.error)

    def widened(self, *, relative: float | Array = 0.0, absolute: float | Array = 0.0) -> Bounded:
        """Returns the same values, each with more error.

        Args:
            relative: What is added for each unit of magnitude.
            absolute: What is added besides.
        """
        with quiet():
            return bounded(self.value, self.error + relative * self.magnitude + absolute)

    def rounded(self, form: Form, *, times: int = 1) -> Bounded:
        """Returns the numbers after roundings of which each may happen or not.

        A number that may be too large for the format may be infinite from here on: nothing is known of it.

        Args:
            form: What is rounded to.
            times: How many roundings at most.
        """
        wider = self.delivered(form, times=times)
        with quiet():
            lost = ~(wider.magnitude < form.largest)
        return Bounded(np.where(lost, 0.0, wider.value), np.where(lost, np.inf, wider.error))

    def delivered(self, form: Form, *, times: int = 1) -> Bounded:
        """Returns the numbers as `rounded` does, to be compared with committed ones, which may be infinite.

        A rounding to nearest errs by half the distance of neighbours in the binade of the number, at most.
        """
        with quiet():
            top = self.magnitude * (1.0 + 2 * max(times - 1, 0) * form.unit)
            return bounded(self.value, self.error + times * (form.unit * binade(top) + form.tiny))

    def through(self, function: Callable[[Array], Array], *, slope: Array | float) -> Bounded:
        """Returns a function of each number.

        Args:
            function: Computes it in float64, as well as numpy does.
            slope: The largest absolute derivative between value − error and value + error, or more.
        """
        with quiet():
            return bounded(function(self.value), slope * self.error)


def bounded(value: Array, error: Array) -> Bounded:
    """Makes bounded numbers of what was computed in float64, and adds the error of that one operation.

    Args:
        value: Of any shape; what is not finite becomes a number of which nothing is known.
        error: As large as every other error together; of a shape that fits.
    """
    with quiet():
        total = error * (1.0 + OWN) + (OWN * np.abs(value) + OWN_TINY)
        known = np.isfinite(total)  # also false where the value is not a number, or infinite
    if known.all():
        return Bounded(value, total)
    return Bounded(np.where(known, value, 0.0), np.where(known, total, np.inf))


def exact(stored: Stored) -> Bounded:
    """Makes bounded numbers of committed ones, which have no error; nothing is known of those not finite."""
    value = np.asarray(stored).astype(np.float64)
    known = np.isfinite(value)
    if known.all():
        return Bounded(value, np.zeros_like(value))
    return Bounded(np.where(known, value, 0.0), np.where(known, 0.0, np.inf))


def binade(magnitude: Array) -> Array:
    """Returns the largest power of two not above each of these numbers, which are not negative; 0 of 0."""
    power = np.ldexp(0.5, np.frexp(magnitude)[1])
    return np.where(np.isfinite(magnitude), np.where(magnitude > 0, power, 0.0), np.inf)


def quiet() -> np.errstate:
    """Returns what keeps numpy from warning of infinities: they have a meaning here."""
    return np.errstate(all="ignore")
