"""Interpolate and commit, as TensorCommitments' public program does it; restated, no line of it is in here.

Values become x · 10^8, rounded, in the field of the curve; they are interpolated on the grid {0 … d-1}^m, so
the polynomial in m variables, of degree below d in each, has as many coefficients as there are values. Its
commitment is one sum over a reference string of d^m points; an opening at a place v is one value and a proof
of m points, the quotients by X_i - v_i; checking it takes m + 1 pairings. Theirs is on BN254, this on
BLS12-381; arkworks computes both. The reference string is drawn here, with its secrets in plain sight:
nothing it commits to is bound, and only times may be taken from it.
"""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

MODULUS: Final = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
SCALE: Final = 10**8


class Toy:
    """A reference string for d^m values, made of secrets that anyone can see.

    Args:
        degree: d.
        variables: m.
    """

    def __init__(self, degree: int, variables: int) -> None:
        import py_arkworks_bls12381 as curve  # noqa: PLC0415 (whoever has it)

        self._curve: Any = curve
        self._shape = (degree,) * variables
        draw = random.Random(1)  # a toy; the published one is drawn no better
        secrets = [draw.randrange(2, MODULUS) for _ in self._shape]
        one = curve.G1Point()
        powers = [[pow(secret, exponent, MODULUS) for exponent in range(degree)] for secret in secrets]
        products = [1]
        for row in powers:
            products = [product * power % MODULUS for product in products for power in row]
        self._points = [one * curve.Scalar(product) for product in products]
        self._ones = (one, curve.G2Point())
        self._secrets = [curve.G2Point() * curve.Scalar(secret) for secret in secrets]

    @property
    def count(self) -> int:
        """How many values there is room for."""
        return len(self._points)

    def interpolate(self, values: torch.Tensor) -> Any:  # noqa: ANN401 (an array of Python's integers)
        """Returns the coefficients, one axis for each variable."""
        numbers = np.array([round(value * SCALE) % MODULUS for value in values.tolist()], dtype=object)
        found = numbers.reshape(self._shape)
        matrix = _inverse_vandermonde(self._shape[0])
        for _ in self._shape:  # each turn moves the first axis to the end
            found = np.tensordot(found, matrix, axes=([0], [1])) % MODULUS
        return found

    def commit(self, coefficients: Any) -> Any:  # noqa: ANN401 (a point)
        """Returns the commitment."""
        return self._sum(self._points, coefficients)

    def open(self, coefficients: Any, place: Sequence[int]) -> tuple[int, list[Any]]:  # noqa: ANN401 (as above)
        """Returns the value at a place, and the proof."""
        proof, rest = [], coefficients
        for at in place:
            quotient = np.zeros_like(rest)
            carry = rest[-1]
            for exponent in range(len(rest) - 2, -1, -1):  # by X - at, from the highest power down
                quotient[exponent] = carry
                carry = (rest[exponent] + at * carry) % MODULUS
            proof.append(self._sum(self._points_without(rest.ndim), quotient))
            rest = carry
        return int(rest), proof

    def check(self, commitment: Any, place: Sequence[int], value: int, proof: Sequence[Any]) -> bool:  # noqa: ANN401
        """Says whether an opening holds."""
        scalar, (one, two) = self._curve.Scalar, self._ones
        left = [commitment - one * scalar(value), *(-point for point in proof)]
        right = [two, *(s - two * scalar(at) for s, at in zip(self._secrets, place, strict=True))]
        held: bool = self._curve.GT.pairing_check(left, right)
        return held

    def _points_without(self, variables: int) -> list[Any]:
        """Returns the points of the last so many variables alone; the others have the power 0."""
        return self._points[: self._shape[0] ** variables]

    def _sum(self, points: list[Any], numbers: Any) -> Any:  # noqa: ANN401 (as above)
        scalar = self._curve.Scalar
        flat = [scalar.from_be_bytes(int(number).to_bytes(32, "big")) for number in np.ravel(numbers)]
        return self._curve.G1Point.multiexp_unchecked(points, flat)


def places(degree: int, variables: int) -> list[tuple[int, ...]]:
    """Returns the grid, in the order of the values."""
    return list(itertools.product(range(degree), repeat=variables))


def _inverse_vandermonde(degree: int) -> Any:  # noqa: ANN401 (as above)
    """Returns the matrix that turns values at 0 … d-1 into coefficients."""
    columns = []
    for point in range(degree):
        basis = [1]
        for other in range(degree):
            if other != point:
                inverse = pow(point - other, -1, MODULUS)
                raised, lowered = [0, *basis], [*(-other * number for number in basis), 0]
                basis = [(up + down) * inverse % MODULUS for up, down in zip(raised, lowered, strict=True)]
        columns.append(basis)
    return np.array(columns, dtype=object).T
