"""Rotary positions: pairs of channels turned by angles that grow with the position.

Frequencies, angles, cosines and sines are computed in float32 and rounded to the dtype; the power of a
frequency errs by a few units in the last place, and the position multiplies that error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from palm_torch.audit import bounded
from palm_torch.audit.arithmetic import FLOAT32, FUNCTION
from palm_torch.audit.bounded import Bounded
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from palm_torch.audit.arithmetic import Arithmetic

MAX_POSITION = 1 << 24
"""Positions from here on are not exact in float32."""


@dataclass(frozen=True, slots=True, eq=False)
class Turns:
    """Cosines and sines of some positions, each (positions, head width / 2)."""

    cosine: Bounded
    sine: Bounded


def turns(positions: npt.NDArray[np.int64], theta: float, width: int, arithmetic: Arithmetic) -> Turns:
    """Returns cosines and sines of the angles position · θ^(−2i / width).

    Args:
        positions: (positions,), from 0.
        theta: The base.
        width: Channels of a head, even.
        arithmetic: Of the run.

    Raises:
        DataError: If a position is negative or too large for float32, or the width is odd.
    """
    if width % 2 or width <= 0:
        raise DataError(f"rotary positions: expected an even width of a head, got {width}")
    if positions.size and not 0 <= int(positions.min()) <= int(positions.max()) < MAX_POSITION:
        raise DataError(
            f"rotary positions: expected 0 to {MAX_POSITION - 1}, got {positions.min()} to {positions.max()}"
        )
    exponent = (np.arange(0, width, 2, dtype=np.float32) / np.float32(width)).astype(np.float64)
    frequency = bounded.bounded(np.float64(theta) ** -exponent, np.zeros_like(exponent))
    # the base may be rounded to float32, the power errs like a function, its reciprocal is rounded
    frequency = frequency.widened(relative=FLOAT32.unit * exponent + np.where(exponent > 0.0, FUNCTION, 0.0))
    frequency = frequency.rounded(FLOAT32)
    angle = (bounded.exact(positions[:, None]) * frequency).rounded(FLOAT32)
    cosine = angle.through(np.cos, slope=1.0).widened(absolute=FUNCTION)
    sine = angle.through(np.sin, slope=1.0).widened(absolute=FUNCTION)
    return Turns(cosine.rounded(arithmetic.form), sine.rounded(arithmetic.form))


def turned(x: Bounded, angles: Turns, arithmetic: Arithmetic) -> Bounded:
    """Returns heads with channel i and channel i + width / 2 turned as a pair.

    Args:
        x: (positions, heads, width): queries or keys.
        angles: Of the same positions and width.
        arithmetic: Of the run.

    Raises:
        DataError: If shapes do not fit.
    """
    half = angles.cosine.shape[1]
    if x.value.ndim != 3 or x.shape[0] != angles.cosine.shape[0] or x.shape[2] != 2 * half:  # noqa: PLR2004 (axes)
        raise DataError(
            f"rotary positions: expected heads of shape ({angles.cosine.shape[0]}, heads, {2 * half}), "
            f"got {x.shape}"
        )
    form = arithmetic.form
    cosine, sine = angles.cosine[:, None, :], angles.sine[:, None, :]
    first, second = x[:, :, :half], x[:, :, half:]
    low = ((first * cosine).rounded(form) - (second * sine).rounded(form)).rounded(form)
    high = ((second * cosine).rounded(form) + (first * sine).rounded(form)).rounded(form)
    return Bounded(
        np.concatenate([low.value, high.value], axis=2), np.concatenate([low.error, high.error], axis=2)
    )
