"""Calls of ``optimizer.step`` on the stack: torch wraps all of them in one function that calls the hooks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from torch.optim.optimizer import register_optimizer_step_pre_hook

if TYPE_CHECKING:
    from types import FrameType

OPTIMIZER_MODULE: Final = register_optimizer_step_pre_hook.__module__
"""Where torch's function that calls the hooks around a step is defined."""


def inside() -> bool:
    """Says whether an optimizer's hooked ``step`` called, however indirectly."""
    return _nearest() is not None


def outer_calls(known: int) -> int:
    """Counts the hooked ``step`` calls around the one whose hook asks.

    Args:
        known: Calls that have begun and not ended; returned if no such function is on the stack, because
            a compiled step has inlined it.
    """
    frame = _nearest()
    if frame is None:
        return known
    hooked = frame.f_code
    count = 0
    while (frame := frame.f_back) is not None:
        count += frame.f_code is hooked
    return count


def _nearest() -> FrameType | None:
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 (documented, and as fast as it gets)
    while frame is not None and frame.f_globals.get("__name__") != OPTIMIZER_MODULE:
        frame = frame.f_back
    return frame
