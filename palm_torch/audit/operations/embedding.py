"""Looking rows up in a table of weights: nothing is computed, so nothing may differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch.audit import bounded
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from palm_torch.audit.bounded import Bounded, Stored


def looked_up(rows: Stored, *, tokens: int) -> Bounded:
    """Returns what an embedding gives, from the rows of its table.

    Args:
        rows: One row of the table for each token, in order, in the table's dtype.
        tokens: How many tokens there are.

    Raises:
        DataError: If there is not one row for each token.
    """
    if rows.ndim != 2 or rows.shape[0] != tokens:  # noqa: PLR2004 (rows and channels)
        raise DataError(f"embedding: expected {tokens} rows of weights, got an array of shape {rows.shape}")
    return bounded.exact(rows)
