"""Weights that an answer opens, where the verifier has none: rows of matrices, and whole vectors.

Each opening is checked against the weights root that the trace names; nothing else is known of the weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from palm_torch.audit import weights_file
from palm_torch.commit import weights_opening
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from palm_torch.commit.opening_file import WeightsOpening
    from palm_torch.digest import Digest


class WeightsOpened:
    """Rows of weights that were opened; `verified` makes it.

    Args:
        rows: Name → number of a row → the row, under every name that a tensor has.
    """

    def __init__(self, rows: dict[str, dict[int, NDArray[Any]]]) -> None:
        self._rows = rows

    def vector(self, name: str) -> NDArray[Any]:
        """Returns a norm or a bias.

        Raises:
            DataError: If it was not opened.
        """
        return self._row(name, 0)

    def rows(self, name: str, numbers: Sequence[int]) -> NDArray[Any]:
        """Returns rows of a matrix, in this order.

        Args:
            name: Canonical name of the matrix, or an alias.
            numbers: Which rows.

        Raises:
            DataError: If one was not opened.
        """
        return np.stack([self._row(name, number) for number in numbers])

    def matrix(self, name: str) -> NDArray[Any]:
        """Returns all rows of a matrix that was opened.

        Raises:
            DataError: If it was not opened.
        """
        return self.rows(name, sorted(self._rows.get(name, {0: None})))

    def _row(self, name: str, number: int) -> NDArray[Any]:
        found = self._rows.get(name, {}).get(number)
        if found is None:
            raise DataError(f"{name}: expected an opening of row {number} of these weights, got none")
        return found


def verified(root: Digest, openings: Sequence[WeightsOpening]) -> WeightsOpened:
    """Checks openings of weights, each against the weights root, and returns what they show.

    Args:
        root: The weights root that the trace names.
        openings: What the answer shows; whole rows of tensors.

    Raises:
        BindingError: If one is of other weights.
        EvidenceError: If one is malformed.
        DataError: If one has an element type that no audit computes with.
    """
    rows: dict[str, dict[int, NDArray[Any]]] = {}
    for opening in openings:
        shown = weights_opening.verify(opening, root)
        dtype = weights_file.DTYPES.get(shown.spec.dtype)
        if dtype is None:
            raise DataError(
                f"weights {shown.spec.name!r}: expected one of {', '.join(weights_file.DTYPES)}, got "
                f"{shown.spec.dtype}: no audit computes with it"
            )
        first, last = shown.block.rows
        array = np.frombuffer(shown.values, dtype).reshape(last - first, -1)
        for name in (shown.spec.name, *shown.spec.aliases):
            rows.setdefault(name, {}).update(zip(range(first, last), array, strict=True))
    return WeightsOpened(rows)
