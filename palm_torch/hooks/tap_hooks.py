"""The hooks that taps are: objects that hold a number and nothing else, so that models stay as they were.

A model with hooks may be pickled, saved and copied. What comes out is no longer the model that was tapped:
copies of `Tap` are `StrangerTap`s, which only count. All of them return None; anything else would replace
what the module returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from palm_torch.hooks import tap_compiled, tap_op

if TYPE_CHECKING:
    from torch import nn


class Tap:
    """Forward hook of a module that is counted.

    Args:
        token: Key of what counts.
        captured: Whether the output is handed on.
    """

    __slots__ = ("captured", "token")

    def __init__(self, token: int, *, captured: bool) -> None:
        self.token = token
        self.captured = captured

    def __call__(self, module: nn.Module, _args: object, output: object) -> None:
        """Tells that the module returned, at once or whenever the graph that is being traced runs."""
        if torch.compiler.is_compiling():
            tap_op.emit(self.token, output, captured=self.captured)
            return
        receiver = tap_op.receivers.get(self.token)
        if receiver is not None:
            receiver.left(module, output)

    def __reduce__(self) -> tuple[type[StrangerTap], tuple[int]]:
        """Copies and pickles as a stranger."""
        return StrangerTap, (self.token,)


class StrangerTap:
    """Forward hook of a copy.

    Args:
        token: Key of what counts the original.
    """

    __slots__ = ("token",)

    def __init__(self, token: int) -> None:
        self.token = token

    def __call__(self, _module: nn.Module, _args: object, _output: object) -> None:
        """Counts a call of the copy while the original is tapped."""
        if torch.compiler.is_compiling():
            return
        receiver = tap_op.receivers.get(self.token)
        if receiver is not None:
            receiver.strangers += 1

    def __reduce__(self) -> tuple[type[StrangerTap], tuple[int]]:
        """Copies and pickles as what it is."""
        return StrangerTap, (self.token,)


class Arrival:
    """Forward pre-hook of a module whose calls are compared with what the module before it returned.

    Args:
        token: Key of what compares.
    """

    __slots__ = ("token",)

    def __init__(self, token: int) -> None:
        self.token = token

    def __call__(self, module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        """Tells that a call begins."""
        if torch.compiler.is_compiling():
            return
        receiver = tap_op.receivers.get(self.token)
        if receiver is not None:
            receiver.arrived(module, args, kwargs)

    def __reduce__(self) -> tuple[type[Arrival], tuple[int]]:
        """Copies and pickles as what it is; a copy's module is not the one that is compared."""
        return Arrival, (self.token,)


for _kind in (Tap, StrangerTap, Arrival):
    tap_compiled.leave_alone(_kind)

KINDS: Final = frozenset({Tap, StrangerTap})
"""Forward hooks that return nothing."""
