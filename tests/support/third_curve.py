"""A third library of BLS12-381, py_ecc, kept from what it does to the interpreter.

Importing it raises the limit of recursion a hundredfold for the whole process; then hostile JSON, nested
ten thousand deep, would end the process that reads it. Its functions need the depth while they run.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Final

_BEFORE: Final = sys.getrecursionlimit()

from py_ecc.bls.g2_primitives import G1_to_pubkey, pubkey_to_G1, signature_to_G2  # noqa: E402 (the line above)
from py_ecc.optimized_bls12_381 import (  # noqa: E402 (likewise)
    FQ12,
    G1,
    G2,
    add,
    curve_order,
    final_exponentiate,
    multiply,
    neg,
    pairing,
)

sys.setrecursionlimit(_BEFORE)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "FQ12",
    "G1",
    "G2",
    "G1_to_pubkey",
    "add",
    "curve_order",
    "deep_recursion",
    "final_exponentiate",
    "multiply",
    "neg",
    "pairing",
    "pubkey_to_G1",
    "signature_to_G2",
]


@contextlib.contextmanager
def deep_recursion() -> Iterator[None]:
    """Lets the library's functions call themselves as deep as they do."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
