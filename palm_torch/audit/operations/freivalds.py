"""All rows of a linear layer at once, by sums of output coordinates with signs that nobody knew before.

The outputs are cut into groups. With signs r of the challenge, y · r is compared with x · (Wᵀ r) in each
group: a coordinate that lies farther off than its group's bound escapes one draw of signs with probability
1/2 at most. A pass over the weights makes 2 · in · out operations for each draw and as many for the bound,
and each row 2 · in · out / group for each draw and as many for the bound.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from palm_torch.audit import bounded, margins
from palm_torch.audit.arithmetic import FLOAT32
from palm_torch.audit.operations import linear
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from palm_torch.audit.arithmetic import Arithmetic
    from palm_torch.audit.bounded import Array, Bounded, Stored
    from palm_torch.audit.margins import Margin

GROUP: Final = 64
"""Coordinates whose outputs are added with signs."""


def checked(
    x: Bounded,
    y: Stored,
    weight: Stored,
    bias: Stored | None,
    signs: npt.NDArray[np.int8],
    arithmetic: Arithmetic,
    *,
    transposed: bool = False,
    group: int = GROUP,
) -> Margin:
    """Compares sums of committed outputs with what they should be.

    Args:
        x: (rows, in).
        y: (rows, out), committed.
        weight: (out, in).
        bias: (out,), or None.
        signs: (draws, out), each −1 or 1, drawn after the outputs were sealed.
        arithmetic: Of the run.
        transposed: Whether the weight is (in, out) instead.
        group: Coordinates of one sum.

    Returns:
        The margin, at a draw, row and group. Rows with a number that is not finite are compared whole, each
        coordinate by itself; theirs is said to be of draw 0.

    Raises:
        DataError: If shapes do not fit, there is no draw, or a sign is another number.
    """
    out = linear.outputs(x, weight, bias, transposed=transposed)
    if y.shape != (x.shape[0], out):
        raise DataError(f"linear layer: expected outputs of shape {(x.shape[0], out)}, got {y.shape}")
    if signs.ndim != 2 or not signs.shape[0] or signs.shape[1] != out or not np.isin(signs, (-1, 1)).all():  # noqa: PLR2004 (draws, coordinates)
        raise DataError(
            f"signs: expected draws of {out} numbers −1 or 1, got an array of shape {signs.shape}"
        )
    if group < 1:
        raise DataError(f"group: expected 1 or more coordinates, got {group}")
    finite = np.isfinite(y).all(axis=1)
    rest = ~finite
    found = _grouped(
        x[finite], y[finite], weight, bias, signs, arithmetic, transposed=transposed, group=group
    )
    found = _placed(found, np.flatnonzero(finite))
    if finite.all():
        return found
    whole = margins.compare(y[rest], linear.applied(x[rest], weight, bias, arithmetic, transposed=transposed))
    if whole.index:
        row, coordinate = whole.index
        whole = dataclasses.replace(whole, index=(0, row, coordinate // group))
    return margins.worse(found, _placed(whole, np.flatnonzero(rest)))


def _placed(margin: Margin, rows: npt.NDArray[np.intp]) -> Margin:
    """Returns a margin of some of the rows, with its place among all of them."""
    if not margin.index:
        return margin
    draw, row, part = margin.index
    return dataclasses.replace(margin, index=(draw, int(rows[row]), part))


def _grouped(
    x: Bounded,
    y: Stored,
    weight: Stored,
    bias: Stored | None,
    signs: npt.NDArray[np.int8],
    arithmetic: Arithmetic,
    *,
    transposed: bool,
    group: int,
) -> Margin:
    starts = np.arange(0, signs.shape[1], group)
    plus = np.ones(signs.shape[1])
    size, largest = _folded(weight, plus[None], starts, transposed=transposed, absolute=True)
    sums, _ = _folded(weight, signs.astype(np.float64), starts, transposed=transposed, absolute=False)
    found = y.astype(np.float64)
    addend = np.zeros(signs.shape[1]) if bias is None else bias.astype(np.float64)
    coefficient = linear.accumulated(x.shape[1], arithmetic)
    with bounded.quiet():
        form = arithmetic.form
        last = form.unit * bounded.binade(np.abs(found)) + form.tiny
        if bias is not None:  # the sum may be rounded before the bias is added, too
            last += (form.unit + coefficient) * (1.0 + form.unit) * (
                np.abs(found) + np.abs(addend)
            ) + form.tiny
        last += group * bounded.OWN * np.abs(found)
        bound = linear.reached(x, coefficient) @ size[0].T + np.add.reduceat(last, starts, axis=1)
        bound += group * linear.underflow(x, largest)
        bound[linear.unknown(x)] = np.inf
        bound[~(bound < coefficient * FLOAT32.largest)] = np.inf
        differences = np.empty((signs.shape[0], *bound.shape))
        for draw, sign in enumerate(signs.astype(np.float64)):
            committed = np.add.reduceat((found - addend) * sign, starts, axis=1)
            differences[draw] = np.abs(committed - x.value @ sums[draw].T)
    return margins.measure(differences, np.broadcast_to(bound, differences.shape))


def _folded(
    weight: Stored, signs: Array, starts: npt.NDArray[np.int64], *, transposed: bool, absolute: bool
) -> tuple[Array, Array]:
    """Adds the weights of each group, times their signs.

    Returns:
        The sums (draws, groups, in), and the largest absolute weight of each group.
    """
    draws, out = signs.shape
    terms = weight.shape[0] if transposed else weight.shape[1]
    found = np.zeros((draws, len(starts), terms))
    largest = np.zeros(len(starts))
    groups = np.searchsorted(starts, np.arange(out), side="right") - 1
    for start, end, piece in linear.pieces(weight):
        if absolute:
            np.abs(piece, out=piece)
        if transposed:
            for draw in range(draws):
                found[draw, :, start:end] = np.add.reduceat(piece * signs[draw], starts, axis=1).T
            peaks = np.abs(piece).max(axis=0)
            np.maximum(largest, np.maximum.reduceat(peaks, starts), out=largest)
        else:
            first, last = int(groups[start]), int(groups[end - 1]) + 1
            chosen = np.zeros((draws, last - first, end - start))
            chosen[:, groups[start:end] - first, np.arange(end - start)] = signs[:, start:end]
            found[:, first:last] += chosen @ piece
            np.maximum.at(largest, groups[start:end], np.abs(piece).max(axis=1))
    return found, largest
