"""The sum of two rows: residual connections, and the embeddings of tokens and positions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from palm_torch.audit.arithmetic import Arithmetic
    from palm_torch.audit.bounded import Bounded


def added(first: Bounded, second: Bounded, arithmetic: Arithmetic) -> Bounded:
    """Returns the sum of two arrays of one shape, rounded once or, inside a fused kernel, not at all."""
    return (first + second).delivered(arithmetic.form)
