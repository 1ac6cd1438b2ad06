"""The scalar field of BLS12-381, and polynomials over its 4096 roots of unity.

A polynomial of degree below n = 2^t is given by its coefficients, lowest first, or by its values on the
domain of n points. Point i of the domain is ``x_i = w^brp(i)``: w a primitive n-th root of unity, brp the
reversal of t bits. That is the order of an EIP-4844 blob, and it makes every aligned run of b = 2^s places
a coset: all of its points have the same b-th power.

The arithmetic is that of plain `int`. Whoever makes proofs passes ``number=gmpy2.mpz``: same results, two
to four times faster. This module never imports gmpy2, so that checking needs nothing but Python.
"""

from __future__ import annotations

import functools
import itertools
import operator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Number = Callable[[int], int]
    """The integer type of an arithmetic: `int`, or ``gmpy2.mpz`` where speed matters."""

MODULUS: Final = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
"""r, the prime order of the groups of BLS12-381."""

GENERATOR: Final = 7
"""Generates the multiplicative group modulo r."""

WIDTH: Final = 4096
"""N, the number of points of the domain: field elements in one node."""

BITS: Final = 12
"""Binary logarithm of `WIDTH`."""

FIELD_BYTES: Final = 32
"""Length of a field element, big endian, in bytes."""


def _reversals() -> tuple[int, ...]:
    """Returns every number of `BITS` bits with its bits reversed: one more bit in each round."""
    reversals = [0]
    for _ in range(BITS):
        reversals = [*(2 * one for one in reversals), *(2 * one + 1 for one in reversals)]
    return tuple(reversals)


EXPONENTS: Final = _reversals()
"""``brp(i)`` for every place i of the domain of `WIDTH` points."""


@functools.cache
def roots(number: Number = int) -> tuple[int, ...]:
    """Returns ``w^0 … w^4095`` for the primitive root w = 7^((r-1)/4096), as numbers of that type."""
    root = pow(GENERATOR, (MODULUS - 1) // WIDTH, MODULUS)
    powers = itertools.accumulate(range(WIDTH - 1), lambda power, _: power * root % MODULUS, initial=1)
    return tuple(map(number, powers))


def point(place: int) -> int:
    """Returns ``x_i``, the point of the domain of `WIDTH` points at place i."""
    return roots()[EXPONENTS[place]]


def in_domain(value: int) -> bool:
    """Says whether a field element is one of the 4096 points."""
    return pow(value, WIDTH, MODULUS) == 1


def inverses(values: Sequence[int]) -> list[int]:
    """Inverts many non-zero elements with one inversion (Montgomery's trick)."""
    products = list(itertools.accumulate(values, lambda a, b: a * b % MODULUS, initial=1))
    inverse = pow(products[-1], -1, MODULUS)
    out = list(values)
    for at in range(len(values) - 1, -1, -1):
        out[at] = products[at] * inverse % MODULUS
        inverse = inverse * values[at] % MODULUS
    return out


def evaluations(coefficients: Sequence[int], *, number: Number = int) -> list[int]:
    """Returns the values on the domain of n points of the polynomial with these n coefficients.

    A decimation in frequency of constant geometry: one pass a bit, each over the two halves at once.

    Args:
        coefficients: n = 2^t of them, 1 ≤ n ≤ 4096, lowest first.
        number: Type of the arithmetic; the coefficients should be of it.
    """
    values, half, modulus = list(coefficients), len(coefficients) // 2, number(MODULUS)
    for ones, factors in _factors(len(coefficients), number):
        low, high = values[:half], values[half:]
        values[0::2] = map(operator.add, low, high)
        differences = zip(low[ones:], high[ones:], factors, strict=True)
        values[1::2] = [
            *map(operator.sub, low[:ones], high),
            *[(a - b) * factor % modulus for a, b, factor in differences],
        ]
    return [value % modulus for value in values]


def coefficients(evaluations: Sequence[int], *, number: Number = int) -> list[int]:
    """Returns the n coefficients, lowest first, of the polynomial with these values on n points.

    The passes of `evaluations`, undone from the last to the first.

    Args:
        evaluations: n = 2^t of them, 1 ≤ n ≤ 4096, in the domain's order.
        number: Type of the arithmetic; the values should be of it.
    """
    values, modulus = list(evaluations), number(MODULUS)
    for ones, factors in reversed(_factors(len(evaluations), number, inverse=True)):
        low, high = values[0::2], values[1::2]
        scaled = zip(high[ones:], factors, strict=True)
        high[ones:] = [value * factor % modulus for value, factor in scaled]
        values = [*map(operator.add, low, high), *map(operator.sub, low, high)]
    scale = number(pow(len(values), -1, MODULUS))
    return [value * scale % modulus for value in values]


@functools.cache
def _factors(size: int, number: Number, *, inverse: bool = False) -> list[tuple[int, list[int]]]:
    """Returns, for each pass, the powers of w that multiply the differences of two halves.

    Pass t begins with 2^t ones; they come as their number, and only the others are listed.
    """
    powers, stride = roots(number), WIDTH // size
    sign = -1 if inverse else 1
    return [
        (1 << bit, [powers[sign * (at >> bit << bit) * stride] for at in range(1 << bit, size // 2)])
        for bit in range(size.bit_length() - 1)
    ]
