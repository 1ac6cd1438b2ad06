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

_CACHE: Final = "use_cache"


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

        Raises:
            DataError: If it returns none, or cannot compute with such tensors.
        """
        try:
            with torch.no_grad():
                returned = block(*self.args, **self.kwargs)
        except (RuntimeError, TypeError, ValueError) as error:
            raise DataError(
                f"{type(block).__name__}: cannot be called alone as the model calls it: {str(error)[:200]}"
            ) from error
        return first(returned, what=type(block).__name__)


def of(
    model: nn.Module, ids: Sequence[int], block: str, before: str | None
) -> tuple[Call, torch.Tensor | None]:
    """Runs a model over one sequence, and returns what it called a block with.

    Args:
        model: The model, which takes ids of shape [1, tokens].
        ids: The ids.
        block: Canonical path of the block.
        before: Path of the block before it; None for the first one.

    Returns:
        The call; and what the block before returned, None for the first one.

    Raises:
        DataError: If there is no such block, or the model does not call each of them once.
    """
    calls: list[Call] = []
    results: list[torch.Tensor] = []

    def called(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append(Call(args, kwargs).changed(torch.clone))

    def returned(_module: nn.Module, _args: Any, output: Any) -> None:  # noqa: ANN401 (whatever it returns)
        results.append(first(output, what=str(before)).clone())

    with contextlib.ExitStack() as stack:
        handles = [module_of(model, block).register_forward_pre_hook(called, with_kwargs=True)]
        stack.callback(handles[0].remove)
        if before is not None:
            stack.callback(module_of(model, before).register_forward_hook(returned).remove)
        _run(model, ids)
    if len(calls) != 1 or len(results) != (before is not None):
        raise DataError(
            f"{block}: expected the model to call it and the block before it once, it called them "
            f"{len(calls)} and {len(results)} times"
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
    known = inspect.signature(model.forward).parameters
    words = {_CACHE: False} if _CACHE in known else {}
    device = next(model.parameters()).device
    with torch.no_grad():
        model(torch.tensor([list(ids)], device=device), **words)


def _mapped(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:  # noqa: ANN401 (any argument)
    if isinstance(value, torch.Tensor):
        return change(value)
    if type(value) in {tuple, list}:
        return type(value)(_mapped(one, change) for one in value)
    if type(value) is dict:
        return {name: _mapped(one, change) for name, one in value.items()}
    return value
