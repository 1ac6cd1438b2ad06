"""A linear layer, y = x Wᵀ + b: every output coordinate of some rows, against weights in hand or opened.

The weights are passed once, in pieces that stay in the cache: converted to float64, multiplied with all rows,
and, as absolute values, with the errors of all rows. 100 million parameters take about half a second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from palm_torch.audit import bounded
from palm_torch.audit.arithmetic import FLOAT32
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_torch.audit.arithmetic import Arithmetic
    from palm_torch.audit.bounded import Array, Bounded, Stored

PIECE: Final = 1 << 17
"""How many weights are converted at a time: 1 MiB in float64."""


def applied(
    x: Bounded,
    weight: Stored,
    bias: Stored | None,
    arithmetic: Arithmetic,
    *,
    transposed: bool = False,
) -> Bounded:
    """Returns what a linear layer gives for some rows.

    Args:
        x: (rows, in).
        weight: (out, in), or any of its rows: then the same coordinates of the output are returned.
        bias: (out,), of the same coordinates, or None.
        arithmetic: Of the run.
        transposed: Whether the weight is (in, out) instead, as GPT-2 has it.

    Returns:
        (rows, out), to be compared with committed numbers.

    Raises:
        DataError: If shapes do not fit.
    """
    out = outputs(x, weight, bias, transposed=transposed)
    coefficient = accumulated(x.shape[1], arithmetic)
    reach = reached(x, coefficient)
    value, error = np.zeros((x.shape[0], out)), np.zeros((x.shape[0], out))
    largest = np.zeros(out)
    for start, end, piece in pieces(weight):
        if transposed:
            value += x.value[:, start:end] @ piece
            np.abs(piece, out=piece)
            error += reach[:, start:end] @ piece
            np.maximum(largest, piece.max(axis=0), out=largest)
        else:
            value[:, start:end] = x.value @ piece.T
            np.abs(piece, out=piece)
            error[:, start:end] = reach @ piece.T
            largest[start:end] = piece.max(axis=1)
    with bounded.quiet():
        error += underflow(x, largest)
        overflown = ~(error < coefficient * FLOAT32.largest)  # a partial sum may have left float32
        error[overflown | unknown(x)[:, None]] = np.inf
    sums = bounded.bounded(value, error)
    if bias is not None:  # which may be added before the sum is rounded or after
        addend = bounded.exact(bias)
        sums = sums.rounded(arithmetic.form) + addend.widened(relative=coefficient)
    return sums.delivered(arithmetic.form)


def outputs(x: Bounded, weight: Stored, bias: Stored | None, *, transposed: bool) -> int:
    """Returns how many output coordinates a layer has, once its shapes fit.

    Raises:
        DataError: If they do not.
    """
    fits = len(x.shape) == weight.ndim == 2 and 0 not in weight.shape  # noqa: PLR2004 (matrices)
    if fits:
        terms, out = weight.shape if transposed else weight.shape[::-1]
        if x.shape[1] == terms and (bias is None or bias.shape == (out,)):
            return int(out)
    raise DataError(
        f"linear layer: expected inputs (rows, in), weight {'(in, out)' if transposed else '(out, in)'}, "
        f"bias (out,), got {x.shape}, {weight.shape} and {None if bias is None else bias.shape}"
    )


def accumulated(terms: int, arithmetic: Arithmetic) -> float:
    """Returns the error of a sum of so many products and a bias, by the unit of the sum of absolute products.

    The error of the same sum in float64 is part of it.
    """
    return arithmetic.products(terms + 1) + 4.0 * (terms + 2) * 2.0**-53


def reached(x: Bounded, coefficient: float) -> Array:
    """Returns what times each absolute weight gives its part of the error; 0 in rows not known."""
    with bounded.quiet():
        reach = np.abs(x.value) * coefficient + x.error * (1.0 + coefficient)
    reach[unknown(x)] = 0.0
    return reach


def unknown(x: Bounded) -> npt.NDArray[np.bool_]:
    """Returns the flags of the rows that hold a number of which nothing is known."""
    found: npt.NDArray[np.bool_] = np.logical_not(np.isfinite(x.error).all(axis=1))
    return found


def underflow(x: Bounded, largest: Array) -> Array:
    """Returns what flushing of tiny operands and products to zero may change in each coordinate, at most.

    Args:
        x: (rows, in).
        largest: The largest absolute weight of each coordinate, (out,).
    """
    peak = x.magnitude.max(axis=1)
    with bounded.quiet():
        found: Array = 2 * x.shape[1] * FLOAT32.tiny * (1.0 + peak[:, None] + largest[None, :])
    return found


def pieces(weight: Stored) -> Iterator[tuple[int, int, Array]]:
    """Yields a matrix in float64, some rows at a time: first row, the one after the last, and the rows.

    The memory of one piece becomes that of the next one.
    """
    height, width = weight.shape
    step = max(1, min(height, PIECE // width))
    wide = np.empty((step, width))
    for start in range(0, height, step):
        end = min(start + step, height)
        yield start, end, _widened(weight[start:end], wide[: end - start])


def _widened(part: Stored, into: Array) -> Array:
    if part.dtype.name == "bfloat16":
        bits = np.ascontiguousarray(part).view(np.uint16).astype(np.uint32)
        bits <<= 16
        np.copyto(into, bits.view(np.float32))
    else:
        np.copyto(into, part)
    return into
