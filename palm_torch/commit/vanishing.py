"""The polynomial that is zero at a set of places of a node: division by it, and interpolation on the set.

A set of places falls into maximal aligned runs: b = 2^t places from a multiple of b on. The points of a run
are all the b-th roots of one number c, so the run's polynomial is ``X^b - c``, and Z_S is the product over
the runs. A row is one run; a column of a 64×64 node is 64 of them.
"""

from __future__ import annotations

import functools
import itertools
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch.commit import field

if TYPE_CHECKING:
    from collections.abc import Sequence

_DIRECT: Final = 3 << 13
"""Most factors (places × runs) of slopes that are multiplied one by one; beyond, transforms are faster."""

_FACTORS: Final = 16
"""Factors ``X - x`` of a polynomial that are multiplied one by one."""

_LONG: Final = 256
"""Degree from which two polynomials are multiplied by their values."""

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
        powers = {length: pow(value, length, field.MODULUS) for length in {run.length for run in self.runs}}
        product = 1
        for run in self.runs:
            product = product * (powers[run.length] - run.power) % field.MODULUS
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
    if (shortest := min(run.length for run in runs)) > 1:
        weights = _weights_of_runs(places, shortest)
    elif _step(places):
        weights = _weights_of_progression(places)
    elif len(places) * len(runs) <= _DIRECT:
        weights = _weights(runs)
    else:
        weights = _weights_of_many(places)
    return Vanishing(places, runs, tuple(weights))


def _runs(places: tuple[int, ...]) -> list[Run]:
    """Cuts ascending places into maximal aligned runs: of neighbours, always the longest from the left."""
    starts = [place for before, place in zip((-1, *places), places, strict=False) if place != before + 1]
    if places[0] == 0:
        starts.insert(0, 0)
    stops = [place + 1 for place, after in zip(places, (*places[1:], -1), strict=True) if after != place + 1]
    runs: list[Run] = []
    for start, stop in zip(starts, stops, strict=True):
        at = start
        while at < stop:
            room = 1 << (stop - at).bit_length() - 1
            runs.append(Run(at, min(at & -at or room, room)))
            at += runs[-1].length
    return runs


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


def _weights_of_runs(places: tuple[int, ...], length: int) -> list[int]:
    """Returns what `_weights` returns, for aligned runs of at least b places, from weights of one place each.

    The b-th power of a point at place j is the point at place ⌊j / b⌋. With P the polynomial that is zero
    at these, ``Z_S = P(X^b)``, and so ``Z_S'(x_j) = b·x_j^(b-1)·P'(x_j^b)``.
    """
    roots, modulus = field.roots(), field.MODULUS
    powers = of(tuple(sorted({place // length for place in places})))
    scale = pow(length, -1, modulus)
    scaled = {
        place: weight * scale % modulus for place, weight in zip(powers.places, powers.weights, strict=True)
    }
    return [
        scaled[place // length] * roots[-field.EXPONENTS[place] * (length - 1) % field.WIDTH] % modulus
        for place in places
    ]


def _step(places: tuple[int, ...]) -> int:
    """Returns by how much the exponents of the points differ if they are a progression, else 0.

    They are for one place, an aligned run, and a column over all rows of a node.
    """
    exponents = sorted([field.EXPONENTS[place] for place in places])
    step = exponents[1] - exponents[0] if len(exponents) > 1 else 1
    return step if exponents == list(range(exponents[0], exponents[-1] + 1, step)) else 0


def _weights_of_progression(places: tuple[int, ...]) -> list[int]:
    """Returns what `_weights` returns, in linear time, for exponents ``e_i = e_0 + i·s``, i below n.

    ``Z_S'(x_i)`` is the product over the others of ``w^e_k · (w^(e_i - e_k) - 1)``. With P_k the product of
    ``w^(t·s) - 1`` over t = 1 … k, those before i give ``P_i``; the m = n - 1 - i behind it give
    ``(-1)^m · w^(-s·m(m+1)/2) · P_m``.
    """
    roots, modulus, step, last = field.roots(), field.MODULUS, _step(places), len(places) - 1
    exponents = [field.EXPONENTS[place] for place in places]
    total, first = sum(exponents), min(exponents)
    factors = [roots[step * t % field.WIDTH] - 1 for t in range(1, len(places))]
    products = list(itertools.accumulate(factors, lambda product, one: product * one % modulus, initial=1))
    slopes: list[int] = []
    for exponent in exponents:
        before = (exponent - first) // step
        behind = last - before
        power = total - exponent - step * behind * (behind + 1) // 2 + field.WIDTH // 2 * behind
        slopes.append(products[before] * products[behind] % modulus * roots[power % field.WIDTH] % modulus)
    return field.inverses(slopes)


def _weights_of_many(places: tuple[int, ...]) -> list[int]:
    """Returns what `_weights` returns, by the values of one polynomial at all 4096 points.

    If most places are in S, that is Z', which is zero at the others: ``Z_S'(x_j)·Z'(x_j) = 4096·x_j^4095``.
    Else it is the derivative of Z_S. Either has at most 2048 factors.
    """
    modulus = field.MODULUS
    if 2 * len(places) > field.WIDTH:
        values = _values(_product(sorted(set(range(field.WIDTH)).difference(places))))
        scale = pow(field.WIDTH, -1, modulus)
        return [values[place] * field.point(place) % modulus * scale % modulus for place in places]
    derivative = [at * coefficient % modulus for at, coefficient in enumerate(_product(places))][1:]
    values = _values(derivative)
    return field.inverses([values[place] for place in places])


def _values(coefficients: list[int]) -> list[int]:
    return field.evaluations(coefficients + [0] * (field.WIDTH - len(coefficients)))


def _product(places: Sequence[int]) -> list[int]:
    """Returns the coefficients of the product of ``X - x_i``, lowest first: a tree of products of two."""
    products: list[list[int]] = []
    for first in range(0, len(places), _FACTORS):
        product = [1]
        for place in places[first : first + _FACTORS]:
            root = field.point(place)
            shifted = zip([0, *product], [*product, 0], strict=True)
            product = [(above - root * own) % field.MODULUS for above, own in shifted]
        products.append(product)
    while len(products) > 1:
        pairs = itertools.zip_longest(products[::2], products[1::2])
        products = [_times(left, right) if right else left for left, right in pairs]
    return products[0]


def _times(left: list[int], right: list[int]) -> list[int]:
    """Returns the product of two polynomials whose highest coefficients are 1."""
    degree = len(left) + len(right) - 2
    if min(len(left), len(right)) <= _LONG:
        product, size = _side_by_side(left, int) * _side_by_side(right, int), _LIMB_BYTES
        limbs = product.to_bytes(size * (degree + 1), "little")
        starts = range(0, len(limbs), size)
        return [int.from_bytes(limbs[at : at + size], "little") % field.MODULUS for at in starts]
    room = 1 << (degree - 1).bit_length()
    values = [field.evaluations(factor + [0] * (room - len(factor))) for factor in (left, right)]
    product_values = list(map(operator.mul, *values))
    rising = field.coefficients([value % field.MODULUS for value in product_values])
    if degree == room:  # X^room is 1 at all points: the highest coefficient was added to the lowest
        return [(rising[0] - 1) % field.MODULUS, *rising[1:], 1]
    return rising[: degree + 1]


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
