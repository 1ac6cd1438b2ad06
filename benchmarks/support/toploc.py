"""TOPLOC's algorithm, restated from its paper (arXiv 2501.16007); no line of its authors' program is in it.

Of the last hidden states of the prompt, and of every 32 generated tokens, the 128 elements of the largest
magnitude are taken. They are encoded as a polynomial through 128 points over the integers modulo 65497: x is
an element's place modulo the largest m for which all places differ, y the 16 bits of its value. A proof is m
and 128 coefficients, 258 bytes. Where the paper leaves a choice (how m is found, which interpolation), this
takes what is fast here: NumPy, Newton's divided differences.

Whoever checks has run the model over the same tokens, takes the 128 elements of the largest magnitude of his
own run, and evaluates the polynomial at their places. Of these elements he counts those whose exponents
differ; of the others he takes mean and median of how far the mantissas are apart. Too much of one of the
three is a failure. How much is too much depends on model, type and kernels: `PUBLISHED` is what published
examples of its use allow for bfloat16.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    Integers: TypeAlias = npt.NDArray[np.int64]

PRIME: Final = 65497
TOKENS: Final = 32
TOP: Final = 128
PROOF_BYTES: Final = 2 + 2 * TOP
MANTISSA_BITS: Final = 7
NONE_ALIKE: Final = 128.0
"""Difference of mantissas where no exponents agree: more than there can be."""


@dataclass(frozen=True, slots=True)
class Errors:
    """How far a run is from the one that a proof was made of.

    Attributes:
        exponents: How many of the 128 elements have another exponent, or another sign.
        mean: Mean difference of the mantissas of the others, in units in the last place.
        median: Their median.
    """

    exponents: float
    mean: float
    median: float

    def above(self, most: Errors) -> bool:
        """Says whether one of the three is too large."""
        return any(mine > theirs for mine, theirs in zip(astuple(self), astuple(most), strict=True))


PUBLISHED: Final = Errors(90, 10, 8)


def proofs(states: Sequence[torch.Tensor]) -> Iterator[bytes]:
    """Yields the proof of the prompt, then one for every 32 tokens.

    Args:
        states: Last hidden states of each forward pass: tokens × width, bfloat16; the prompt's first.
    """
    yield proof(states[0])
    for start in range(1, len(states), TOKENS):
        yield proof(torch.cat(list(states[start : start + TOKENS])))


def check(made: Iterable[bytes], states: Sequence[torch.Tensor]) -> Errors:
    """Compares a run with proofs of one that should be the same; returns the largest of each error.

    Args:
        made: The proofs, as `proofs` yields them.
        states: The verifier's own last hidden states, as for `proofs`.
    """
    runs = [states[0]]
    runs += [torch.cat(list(states[start : start + TOKENS])) for start in range(1, len(states), TOKENS)]
    found = [astuple(errors(item, own)) for item, own in zip(made, runs, strict=True)]
    return Errors(*(max(column) for column in zip(*found, strict=True)))


def errors(made: bytes, states: torch.Tensor) -> Errors:
    """Compares some tokens with a proof.

    Args:
        made: The proof.
        states: The verifier's own states of these tokens, tokens × width, bfloat16.
    """
    modulus = int.from_bytes(made[:2], "big")
    coefficients = np.frombuffer(made[2:], dtype=">u2").astype(np.int64)
    flat = states.reshape(-1)
    places = flat.abs().topk(TOP).indices
    own = flat[places].view(torch.int16).numpy().astype(np.int64) % 2**16
    told = evaluate(coefficients, places.numpy() % modulus)
    alike = own >> MANTISSA_BITS == told >> MANTISSA_BITS
    if not alike.any():
        return Errors(TOP, NONE_ALIKE, NONE_ALIKE)
    apart = np.abs(own - told)[alike]
    return Errors(float(TOP - alike.sum()), float(apart.mean()), float(np.median(apart)))


def proof(states: torch.Tensor) -> bytes:
    """Returns the proof of some tokens: 258 bytes.

    Args:
        states: Tokens × width, bfloat16.
    """
    flat = states.reshape(-1)
    places = flat.abs().topk(TOP).indices
    values = flat[places].view(torch.int16).numpy().astype(np.int64) % 2**16 % PRIME
    modulus, x = _apart(places.numpy())
    coefficients = interpolate(x, values)
    return modulus.to_bytes(2, "big") + coefficients.astype(">u2").tobytes()


def interpolate(x: Integers, y: Integers) -> Integers:
    """Returns the coefficients, lowest first, of the polynomial through some points modulo 65497."""
    count = len(x)
    differences = y.copy()
    for order in range(1, count):  # Newton: after this, entry i is the divided difference of points 0 … i
        gaps = (x[order:] - x[: count - order]) % PRIME
        differences[order:] = (differences[order:] - differences[order - 1 : -1]) * _inverse(gaps) % PRIME
    coefficients = np.zeros(count, dtype=np.int64)
    for order in range(count - 1, -1, -1):  # Horner: times (X - x[order]), plus the difference
        shifted = np.concatenate(([0], coefficients[:-1]))
        coefficients = (shifted - x[order] * coefficients) % PRIME
        coefficients[0] = (coefficients[0] + differences[order]) % PRIME
    return coefficients


def evaluate(coefficients: Integers, x: Integers) -> Integers:
    """Returns a polynomial's values modulo 65497."""
    found = np.zeros_like(x)
    for coefficient in coefficients[::-1]:
        found = (found * x + coefficient) % PRIME
    return found


def _apart(places: Integers) -> tuple[int, Integers]:
    """Returns the largest modulus, up to the prime, under which all places differ, and what they are then."""
    for modulus in range(PRIME, 0, -1):
        rest = places % modulus
        if len(np.unique(rest)) == len(rest):
            return modulus, rest
    raise SystemExit("TOPLOC: two elements have one place")


def _inverses() -> Integers:
    found = np.ones(PRIME, dtype=np.int64)
    for number in range(2, PRIME):
        found[number] = (PRIME - PRIME // number) * found[PRIME % number] % PRIME
    return found


_table: Final = _inverses()


def _inverse(numbers: Integers) -> Integers:
    return _table[numbers]
