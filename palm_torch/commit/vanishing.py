"""The polynomial that is zero at a set of places of a node: division by it, and interpolation on the set.

A set of places falls into maximal aligned runs: b = 2^t places from a multiple of b on. The points of a run
are all the b-th roots of one number c, so the run's polynomial is ``X^b - c``, and Z_S is the product over
the runs. A row is one run; a column of a 64×64 node is 64 of them.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch.commit import field

if TYPE_CHECKING:
    from collections.abc import Sequence

_PASSES: Final = 8
"""Most runs that are divided out one by one; beyond, one long multiplication is faster."""

_LIMB_BYTES: Final = 72
"""Room for a sum of 4096 products of two elements (522 bits), in whole machine words."""


@dataclass(frozen=True, slots=True)
class Run:
    """An aligned run of places.

    Attributes:
        start: Its first place, a multiple of `length`.
        length: b, a power of two.
    """

    start: int
    length: int

    @property
    def power(self) -> int:
        """The b-th power that all its points have in common."""
        return field.roots()[field.EXPONENTS[self.start] * self.length % field.WIDTH]


@dataclass(frozen=True, slots=True)
class Vanishing:
    """Z_S for one set of places.

    Attributes:
        places: S, ascending.
        runs: The maximal aligned runs that S falls into, ascending.
        weights: ``1 / Z_S'(x_j)`` for each place j: the barycentric weights of interpolation on S.
    """

    places: tuple[int, ...]
    runs: tuple[Run, ...]
    weights: tuple[int, ...]

    def at(self, value: int) -> int:
        """Returns ``Z_S(value)``."""
        product = 1
        for run in self.runs:
            product = product * (pow(value, run.length, field.MODULUS) - run.power) % field.MODULUS
        return product

    def divide(self, coefficients: Sequence[int], *, number: field.Number = int) -> list[int]:
        """Returns the quotient by Z_S of a polynomial of degree below 4096; coefficients, lowest first.

        Few runs are divided out one after the other, in one pass each. For many, with Z' the polynomial
        that is zero at all the other places: ``Z_S·Z' = X^4096 - 1``, and so from ``f = q·Z_S + r`` follows
        ``f·Z' = q·(X^4096 - 1) + r·Z'``, where ``r·Z'`` has a degree below 4096: q is the upper half of f·Z'.
        """
        if len(self.runs) <= _PASSES:
            quotient = list(coefficients)
            for run in self.runs:
                quotient = _without(run, quotient, number)
            return quotient
        upper = _upper_half(coefficients, _of_the_others(self.places, number), number)
        return upper[: field.WIDTH - len(self.places)]


def quotient_at_one(values: Sequence[int], place: int, *, number: field.Number = int) -> list[int]:
    """Returns, for the polynomial f with these 4096 values, those of ``x_s·(f - f(x_s)) / (X - x_s)``.

    No transform: at place j the value is ``(f_j - f_s) / (w^d - 1)`` with w^d = x_j / x_s. At s itself it
    follows from the quotient's degree, as ``sum of x_j·q(x_j) = 0`` whenever q has a degree below 4095.
    """
    modulus, exponent, own = number(field.MODULUS), field.EXPONENTS[place], values[place]
    slopes = _one_by_distances(number)
    quotient = [
        (value - own) * slopes[other - exponent] % modulus
        for value, other in zip(values, field.EXPONENTS, strict=True)
    ]
    quotient[place] = (field.WIDTH * own - sum(values) - sum(quotient)) % modulus
    return quotient


@functools.cache
def _one_by_distances(number: field.Number) -> list[int]:
    """Returns ``1 / (w^d - 1)`` for d in 1 … 4095, and 0 for d = 0."""
    return [number(0), *map(number, field.inverses([root - 1 for root in field.roots()[1:]]))]


@functools.lru_cache(maxsize=64)
def of(places: tuple[int, ...]) -> Vanishing:
    """Returns Z_S for ascending, distinct places in 0 … 4095; at least one."""
    runs = tuple(_runs(places))
    return Vanishing(places, runs, tuple(_weights(runs)))


def _runs(places: tuple[int, ...]) -> list[Run]:
    """Cuts ascending places into maximal aligned runs: two neighbours that fit become one."""
    runs: list[Run] = []
    for place in places:
        run = Run(place, 1)
        while runs and _joins(runs[-1], run):
            run = Run(runs.pop().start, 2 * run.length)
        runs.append(run)
    return runs


def _joins(left: Run, right: Run) -> bool:
    adjacent = left.length == right.length and left.start + left.length == right.start
    return adjacent and left.start % (2 * left.length) == 0


def _weights(runs: Sequence[Run]) -> list[int]:
    """Returns ``1 / Z_S'(x_j)``: with b, c of j's own run, ``Z_S'(x_j) = b·x_j^(b-1)·∏ (x_j^b' - c')``."""
    roots, modulus = field.roots(), field.MODULUS
    powers = [(run.length, run.power) for run in runs]
    slopes: list[int] = []
    for at, run in enumerate(runs):
        others = powers[:at] + powers[at + 1 :]
        for exponent in field.EXPONENTS[run.start : run.start + run.length]:
            slope = run.length * roots[exponent * (run.length - 1) % field.WIDTH]
            for length, power in others:
                slope = slope * (roots[exponent * length % field.WIDTH] - power) % modulus
            slopes.append(slope)
    return field.inverses(slopes)


def _without(run: Run, coefficients: list[int], number: field.Number) -> list[int]:
    """Returns the quotient by ``X^b - c``, from the top: ``q_i = f_(i+b) + c·q_(i+b)``."""
    modulus, power, length = number(field.MODULUS), number(run.power), run.length
    if length == 1:
        falling = itertools.accumulate(reversed(coefficients), lambda q, f: (q * power + f) % modulus)
        return list(falling)[-2::-1]
    quotient = coefficients[length:]
    for end in range(len(quotient) - length, 0, -length):
        start = max(end - length, 0)
        above = quotient[start + length : end + length]
        block = zip(quotient[start:end], above, strict=True)
        quotient[start:end] = [(f + power * q) % modulus for f, q in block]
    return quotient


@functools.lru_cache(maxsize=64)
def _of_the_others(places: tuple[int, ...], number: field.Number) -> int:
    """Returns the coefficients of ``Z' = (X^4096 - 1) / Z_S``, one beside the other in one number.

    Z' is 0 off S, and ``4096·x_j^4095 / Z_S'(x_j)`` at place j of S, by the derivative of the product.
    """
    roots, values = field.roots(), [number(0)] * field.WIDTH
    for place, weight in zip(places, of(places).weights, strict=True):
        values[place] = number(field.WIDTH * weight * roots[-field.EXPONENTS[place]] % field.MODULUS)
    return _side_by_side(field.coefficients(values, number=number), number)


def _side_by_side(coefficients: Sequence[int], number: field.Number) -> int:
    limbs = b"".join([coefficient.to_bytes(_LIMB_BYTES, "little") for coefficient in coefficients])
    return number(int.from_bytes(limbs, "little"))


def _upper_half(coefficients: Sequence[int], others: int, number: field.Number) -> list[int]:
    """Returns coefficients 4096 … 8190 of a product."""
    modulus, size = number(field.MODULUS), _LIMB_BYTES
    product = _side_by_side(coefficients, number) * others >> 8 * size * field.WIDTH
    limbs = product.to_bytes(size * (field.WIDTH - 1), "little")
    return [int.from_bytes(limbs[at : at + size], "little") % modulus for at in range(0, len(limbs), size)]
