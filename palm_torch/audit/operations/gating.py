"""Activation functions of a feed-forward part, alone or as the gate of another row."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from palm_torch.audit import bounded
from palm_torch.audit.arithmetic import FLOAT32, FUNCTION
from palm_torch.audit.bounded import Bounded
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from palm_torch.audit.arithmetic import Arithmetic, Form
    from palm_torch.audit.bounded import Array

EXPONENTIAL_TINY: Final = 2.0**-110
"""What is lost where an exponential leaves the range of float32, times its argument."""

ERF: Final = 2 * FUNCTION
"""Absolute error allowed to erf, which processors also take from a polynomial that errs by 1.5e-7.

Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 7.1.26.
"""

_FLAT: Final = 16.0
"""From here on 1 − |tanh| is nothing, also where the cube before it left the range of float16."""

_CUBIC: Final = 0.044715
_ROOT: Final = math.sqrt(2.0 / math.pi)
_SLOPE: Final = 1.13
"""The largest slope of any of these functions is less."""

_erf: Final = np.vectorize(math.erf, otypes=[np.float64])


def activated(x: Bounded, activation: str, arithmetic: Arithmetic) -> Bounded:
    """Returns an activation function of each number.

    Args:
        x: Any shape.
        activation: Name as in a model's configuration, a key of `ACTIVATIONS`.
        arithmetic: Of the run.

    Raises:
        DataError: If no bounds are known for the function.
    """
    function = ACTIVATIONS.get(activation)
    if function is None:
        raise DataError(f"activation: expected one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    return function(x, arithmetic.form)


def gated(gate: Bounded, up: Bounded, activation: str, arithmetic: Arithmetic) -> Bounded:
    """Returns activation(gate) · up: SwiGLU with "silu". Both factors and the product are rounded.

    Raises:
        DataError: If no bounds are known for the function.
    """
    return (activated(gate, activation, arithmetic) * up).rounded(arithmetic.form)


def _silu(x: Bounded, form: Form) -> Bounded:
    """The quotient x / (1 + exp(−x)), or x times the sigmoid of x: rounded to the dtype at the end."""
    found = x.through(_silu64, slope=_SLOPE)
    with bounded.quiet():  # the exponential, its argument times log2(e), and three roundings
        turned = 2.0 * x.magnitude / (1.0 + np.exp(x.value - x.error))  # only its part in 1 + exp(−x) counts
        part = FUNCTION + (4.0 + turned) * FLOAT32.unit
    return found.widened(relative=part * (1.0 + part), absolute=EXPONENTIAL_TINY).rounded(form)


def _gelu(x: Bounded, form: Form) -> Bounded:
    """Half of x times (1 + erf(x / √2)), in float32 whatever the dtype, rounded to it at the end."""
    found = x.through(_gelu64, slope=_SLOPE)
    with bounded.quiet():  # erf, two roundings of its argument, one of the sum with 1; three of products
        error = x.magnitude * (ERF + 4.0 * FLOAT32.unit) / 2.0
    return found.widened(absolute=error, relative=4.0 * FLOAT32.unit).rounded(form)


def _tanh_gelu(x: Bounded, form: Form) -> Bounded:
    """The form with tanh, in float32 inside one kernel whatever the dtype, rounded to it at the end."""
    return _tanh_steps(x, FLOAT32).rounded(form)


def _tanh_gelu_in_steps(x: Bounded, form: Form) -> Bounded:
    """The form with tanh, one operation of torch after the other: each may round to the dtype."""
    return _tanh_steps(x, form).rounded(form)


def _tanh_steps(x: Bounded, form: Form) -> Bounded:
    """Half of x times (1 + tanh(√(2 / π) (x + 0.044715 x³))), rounded wherever anybody may round."""
    unit = FLOAT32.unit
    cube = (x * x).rounded(form) * x
    cube = cube.rounded(form).widened(relative=FUNCTION)
    inner = (x + cube.times(_CUBIC).widened(relative=unit).rounded(form)).rounded(form)
    inner = inner.times(_ROOT).widened(relative=unit).rounded(form)
    with bounded.quiet():
        nearest = np.maximum(np.abs(inner.value) - inner.error, 0.0)
        slope = 1.0 / np.square(np.cosh(np.minimum(nearest, 300.0)))
    tangent = inner.through(np.tanh, slope=slope)
    with bounded.quiet():
        flat = np.abs(x.value) - x.error >= _FLAT
    tangent = Bounded(np.where(flat, np.sign(x.value), tangent.value), np.where(flat, 0.0, tangent.error))
    tangent = tangent.widened(absolute=FUNCTION).rounded(form)
    weight = tangent.plus(1.0).rounded(form)
    return (weight * x.times(0.5)).rounded(form)


def _silu64(x: Array) -> Array:
    found: Array = x / (1.0 + np.exp(-x))
    return found


def _gelu64(x: Array) -> Array:
    found: Array = 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0)))
    return found


ACTIVATIONS: Final[Mapping[str, Callable[[Bounded, Form], Bounded]]] = MappingProxyType(
    {
        "silu": _silu,
        "swish": _silu,
        "gelu": _gelu,
        "gelu_new": _tanh_gelu_in_steps,
        "gelu_pytorch_tanh": _tanh_gelu,
    }
)
"""Name in a configuration → the function."""
