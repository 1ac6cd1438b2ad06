"""How a model calls one of its blocks: taken from a forward pass of its own, to call the block alone.

Masks, positions and whatever else a block is given are made by the model's own code, so that none of it has
to be known here. What the block before returned is found among the arguments, and can be exchanged.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from palm_torch.errors import DataError
from palm_torch.hooks import tap_tree

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

FAILURES: Final = (
    RuntimeError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    AssertionError,
    ArithmeticError,
)
"""What code of a model raises when it is given what it cannot compute with."""

_CACHE: Final = "use_cache"
_SAME: Final = 4
"""How many times the element type's epsilon two calls alike may be apart, relative to the largest number."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """What a block was called with.

    Attributes:
        args: Positional arguments; tensors are copies.
        kwargs: Those by name.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def changed(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Call:
        """Returns a call whose tensors went through a function."""
        return Call(_mapped(self.args, change), _mapped(self.kwargs, change))

    def result_of(self, block: nn.Module) -> torch.Tensor:
        """Calls a block, and returns the first tensor of what it returns.

        It is given copies: many a block adds to its input in place.

        Raises:
            DataError: If it returns none, or cannot compute with such tensors.
        """
        copies = self.changed(torch.clone)
        try:
            with torch.no_grad():
                returned = block(*copies.args, **copies.kwargs)
        except FAILURES as error:
            raise DataError(
                f"{type(block).__name__}: cannot be called alone as the model calls it: "
                f"{type(error).__name__}: {str(error)[:200]}"
            ) from error
        return first(returned, what=type(block).__name__)


def of(
    model: nn.Module, ids: Sequence[int], block: str, before: str | None
) -> tuple[Call, torch.Tensor | None]:
    """Runs a model over one sequence, and returns what it called a block with.

    The block is called once more, alone: one that keeps something between calls, or is given a cache, returns
    something else then, and whatever it returned to other inputs would say nothing.

    Args:
        model: The model, which takes ids of shape [1, tokens].
        ids: The ids.
        block: Canonical path of the block.
        before: Path of the block before it; None for the first one.

    Returns:
        The call; and what the block before returned, None for the first one.

    Raises:
        DataError: If there is no such block, the model does not call each of them once, cannot compute with
            these ids, or the block returns something else when it is called alone.
    """
    calls: list[Call] = []
    own: list[torch.Tensor] = []
    results: list[torch.Tensor] = []

    def called(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append(Call(args, kwargs).changed(torch.clone))

    def ran(_module: nn.Module, _args: Any, output: Any) -> None:  # noqa: ANN401 (whatever it returns)
        own.append(first(output, what=block).clone())

    def returned(_module: nn.Module, _args: Any, output: Any) -> None:  # noqa: ANN401 (whatever it returns)
        results.append(first(output, what=str(before)).clone())

    with contextlib.ExitStack() as stack:
        module = module_of(model, block)
        stack.callback(module.register_forward_pre_hook(called, with_kwargs=True).remove)
        stack.callback(module.register_forward_hook(ran).remove)
        if before is not None:
            stack.callback(module_of(model, before).register_forward_hook(returned).remove)
        _run(model, ids)
    if len(calls) != 1 or len(results) != (before is not None):
        raise DataError(
            f"{block}: expected the model to call it and the block before it once, it called them "
            f"{len(calls)} and {len(results)} times"
        )
    if not _alike(calls[0].result_of(module), own[0]):
        raise DataError(
            f"{block}: called alone with what the model gives it, it returns something else: it keeps "
            "something between calls, or draws numbers, which no replay follows"
        )
    return calls[0], results[0] if results else None


def exchanged(call: Call, old: torch.Tensor, new: torch.Tensor, *, block: str) -> Call:
    """Returns a call that has other numbers where the block before's result was.

    Args:
        call: The call.
        old: What the block before returned.
        new: What is to stand there.
        block: Path of the block, for messages.

    Raises:
        DataError: If the block was not given what the one before returned.
    """
    places = 0

    def change(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal places
        if tensor.shape != old.shape or tensor.dtype != old.dtype or not torch.equal(tensor, old):
            return tensor
        places += 1
        return new

    made = call.changed(change)
    if not places:
        raise DataError(
            f"{block}: expected it to be given what the block before returned, it was not: between them "
            "something else is computed, which no replay of blocks follows"
        )
    return made


def module_of(model: nn.Module, path: str) -> nn.Module:
    """Returns a module of a model by its canonical path.

    Raises:
        DataError: If there is none.
    """
    found = tap_tree.Tree(model).by_path.get(path)
    if found is None:
        raise DataError(
            f"{path}: the model has no such module: expected the model that the request was drawn for"
        )
    return found.module


def first(value: Any, *, what: str) -> torch.Tensor:  # noqa: ANN401 (whatever a module returns)
    """Returns the first tensor of what a module returned.

    Raises:
        DataError: If there is none.
    """
    if isinstance(value, torch.Tensor):
        return value
    inner = (
        value.values() if isinstance(value, Mapping) else value if isinstance(value, (tuple, list)) else ()
    )
    for one in inner:
        if isinstance(one, torch.Tensor):
            return one
    raise DataError(f"{what}: expected it to return a tensor, got {type(value).__name__}")


def _run(model: nn.Module, ids: Sequence[int]) -> None:
    words = {_CACHE: False} if _knows_cache(model) else {}
    weight = next(model.parameters(), None)
    device = None if weight is None else weight.device
    try:
        with torch.no_grad():
            model(torch.tensor([list(ids)], device=device), **words)
    except FAILURES as error:
        raise DataError(
            f"model: cannot compute with the {len(ids)} ids that the trace binds up to the place, of which "
            f"{max(ids)} is the largest: {type(error).__name__}: {str(error)[:200]}"
        ) from error


def _knows_cache(model: nn.Module) -> bool:
    known = inspect.signature(model.forward).parameters
    if _CACHE in known:
        return True
    hands_on = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values())
    return hands_on and hasattr(getattr(model, "config", None), _CACHE)


def _alike(again: torch.Tensor, own: torch.Tensor) -> bool:
    if again.shape != own.shape or again.dtype != own.dtype:
        return False
    if torch.equal(again, own) or not own.is_floating_point():
        return torch.equal(again, own)
    most = float(own.double().nan_to_num(0, 0, 0).abs().max())
    room = _SAME * torch.finfo(own.dtype).eps * most
    return torch.allclose(again.double(), own.double(), rtol=0, atol=room, equal_nan=True)


def _mapped(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:  # noqa: ANN401 (any argument)
    if isinstance(value, torch.Tensor):
        return change(value)
    if type(value) in {tuple, list}:
        return type(value)(_mapped(one, change) for one in value)
    if type(value) is dict:
        return {name: _mapped(one, change) for name, one in value.items()}
    return value
