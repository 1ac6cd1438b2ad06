"""Norms of a row: the root mean square of LLaMA and its kin, and layer normalisation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from palm_torch.audit import bounded
from palm_torch.audit.arithmetic import FLOAT32, FUNCTION
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from palm_torch.audit.arithmetic import Arithmetic
    from palm_torch.audit.bounded import Array, Bounded, Stored

VARIANCE: Final = 4
"""Error of a variance, in units of that of a mean square, however it is computed."""

RUNNING: Final = 32
"""Addends that stand for the errors of running means beyond those of a sum."""


def rms(x: Bounded, weight: Stored, epsilon: float, arithmetic: Arithmetic) -> Bounded:
    """Returns weight · x / √(mean(x²) + ε), of each row.

    Mean and root are computed in float32; what they give is rounded before the product with the weight, and
    so is the product.

    Args:
        x: (..., channels): whole rows, or heads that have a norm each.
        weight: (channels,).
        epsilon: Added to the mean.
        arithmetic: Of the run.

    Raises:
        DataError: If shapes do not fit.
    """
    factor = _parameter(weight, x, what="weight")
    scale = _inverse_root(_mean_square(x, arithmetic), epsilon)
    normed = (x * scale).rounded(FLOAT32).rounded(arithmetic.form)
    return (normed * factor).delivered(arithmetic.form)


def layer(x: Bounded, weight: Stored, bias: Stored | None, epsilon: float, arithmetic: Arithmetic) -> Bounded:
    """Returns weight · (x − mean(x)) / √(variance(x) + ε) + bias, of each row, rounded to the dtype last.

    Args:
        x: (..., channels).
        weight: (channels,).
        bias: (channels,), or None.
        epsilon: Added to the variance.
        arithmetic: Of the run.

    Raises:
        DataError: If shapes do not fit.
    """
    factor = _parameter(weight, x, what="weight")
    mean = _mean(x, arithmetic)
    scale = _inverse_root(_variance(x, mean, arithmetic), epsilon)
    with bounded.quiet():  # where x · scale − mean · scale is computed, both products are rounded
        products = (x.magnitude + mean.magnitude) * scale.magnitude * FLOAT32.unit
    normed = ((x - mean) * scale).widened(absolute=products).rounded(FLOAT32, times=2)
    scaled = (normed * factor).rounded(FLOAT32)
    if bias is not None:
        scaled = (scaled + _parameter(bias, x, what="bias")).rounded(FLOAT32)
    return scaled.delivered(arithmetic.form)


def _parameter(stored: Stored, x: Bounded, *, what: str) -> Bounded:
    channels = x.shape[-1]
    if stored.shape != (channels,) or not channels:
        raise DataError(f"norm: expected a {what} of {channels} channels, got shape {stored.shape}")
    return bounded.exact(stored)


def _mean(x: Bounded, arithmetic: Arithmetic) -> Bounded:
    """Returns the mean of each row, computed by a sum in any order or by running means."""
    with bounded.quiet():
        value = x.value.mean(axis=-1, keepdims=True)
        rounding = arithmetic.sums(x.shape[-1] + RUNNING) * x.magnitude.mean(axis=-1, keepdims=True)
        return bounded.bounded(value, x.error.mean(axis=-1, keepdims=True) + rounding + FLOAT32.tiny)


def _mean_square(x: Bounded, arithmetic: Arithmetic) -> Bounded:
    channels = x.shape[-1]
    with bounded.quiet():
        value = np.square(x.value).sum(axis=-1, keepdims=True)
        top = np.square(x.magnitude).sum(axis=-1, keepdims=True)
        error = (x.error * (np.abs(x.value) + x.magnitude)).sum(axis=-1, keepdims=True)
        error += arithmetic.sums(channels + 2) * top + channels * FLOAT32.tiny
    return bounded.bounded(value, error).rounded(FLOAT32).times(1.0 / channels)


def _variance(x: Bounded, mean: Bounded, arithmetic: Arithmetic) -> Bounded:
    channels = x.shape[-1]
    square = _mean_square(x, arithmetic)
    with bounded.quiet():
        centred = x.value - mean.value
        value = np.square(centred).mean(axis=-1, keepdims=True)
        error = (x.error * (2.0 * np.abs(centred) + x.error)).mean(axis=-1, keepdims=True)
        error += VARIANCE * arithmetic.sums(channels + RUNNING) * square.magnitude + 4 * FLOAT32.tiny
        return bounded.bounded(value, error)


def _inverse_root(mean: Bounded, epsilon: float) -> Bounded:
    """Returns 1 / √(mean + ε); nothing is known of it where the sum may be 0 or less."""
    total = mean.plus(epsilon).rounded(FLOAT32).widened(absolute=FLOAT32.unit * epsilon)
    with bounded.quiet():
        value = 1.0 / np.sqrt(total.value)
        least: Array = np.maximum(total.value - total.error, 0.0)
        root = bounded.bounded(value, 1.0 / np.sqrt(least) - value)
    return root.widened(relative=FUNCTION).rounded(FLOAT32)
