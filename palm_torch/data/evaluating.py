"""Evaluation loops of frameworks that fetch their batches with gradients on, and only then turn them off.

A batch that is fetched with gradients on counts as training once a step has followed. Where a framework's
own loop is known to evaluate and nothing else, what it fetches is evaluation: its frame is on the stack.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from types import FrameType

_LOOPS: Final = frozenset(
    {
        ("transformers.trainer", "Trainer.evaluation_loop"),
        ("transformers.trainer", "Trainer.prediction_loop"),
    }
)
"""Module and qualified name of functions; a class derived from the Trainer runs them under these names."""

_MODULES: Final = frozenset(module for module, _ in _LOOPS)
_NAMES: Final = frozenset(name for _, name in _LOOPS)


def now() -> bool:
    """Returns whether this call was made, however deep, by a framework's evaluation loop."""
    if sys.modules.keys().isdisjoint(_MODULES):
        return False
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 (inspect makes a record of every frame)
    while frame is not None:
        name = frame.f_code.co_qualname
        if name in _NAMES and (frame.f_globals.get("__name__"), name) in _LOOPS:
            return True
        frame = frame.f_back
    return False
