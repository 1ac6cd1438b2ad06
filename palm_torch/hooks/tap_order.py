"""Whether what a hook saw is what the next module got: the order of hooks, and the tensor that arrives there.

A hook that runs after ours may replace the output, so ours has to be the last; of later ones only those are
borne that are known to return nothing.
"""

from __future__ import annotations

import sys
from types import FunctionType
from typing import TYPE_CHECKING, Final, TypeAlias

import torch

from palm_torch.hooks import tap_hooks, tap_outputs

if TYPE_CHECKING:
    from torch import Tensor, nn

Mark: TypeAlias = "tuple[Tensor, int | None]"
"""A tensor, and its version counter where it has one."""

_DENSE: Final = frozenset({torch.Tensor, torch.nn.Parameter})

ONLY_LOOKS: Final = "transformers.utils.output_capturing"
"""A module whose hooks return nothing; they are put on when hidden states are first asked for."""


def later_hooks(module: nn.Module, hook: int) -> list[object] | None:
    """Returns forward hooks that run after a given one and may replace the output.

    Args:
        module: The module.
        hook: Identity of the given one.

    Returns:
        The hooks; None if the given one is not there.
    """
    hooks = list(module._forward_hooks.items())  # noqa: SLF001 (torch has no other name for them)
    positions = [position for position, (key, _) in enumerate(hooks) if key == hook]
    if not positions:
        return None
    return [later for _, later in hooks[positions[0] + 1 :] if not _is_harmless(later)]


def replaced(name: str, later: list[object]) -> str:
    """Returns the message for hooks that come after ours."""
    kinds = ", ".join(sorted({getattr(hook, "__qualname__", type(hook).__qualname__) for hook in later}))
    return (
        f"{name}: a forward hook that was registered after the tap ({kinds}) may replace the output that was "
        "captured; register it before the block"
    )


def mark(output: object) -> Mark | None:
    """Remembers the tensor that an output is or begins with; None if it is none.

    The tensor lives until the mark is dropped, which is when the next module gets its input.
    """
    tensor = output if type(output) is torch.Tensor else tap_outputs.first_tensor(output)
    if tensor is None:
        return None
    return tensor, None if tensor.is_inference() else tensor._version  # noqa: SLF001 (torch's own counter)


def is_same(marked: Mark, args: tuple[object, ...], kwargs: dict[str, object]) -> bool:
    """Says whether a call begins with the tensor that was marked, unchanged since.

    Hooks for gradients hand on another object over the same memory; that is the same tensor.
    """
    before, version = marked
    if args and args[0] is before:  # as it mostly is
        return version is None or before._version == version  # noqa: SLF001 (torch's own counter)
    for value in (*args, *kwargs.values()):
        tensor = tap_outputs.first_tensor(value)
        if tensor is not None:
            same = tensor is before or ((place := _place(before)) is not None and _place(tensor) == place)
            return same and _version(tensor) == version
    return False


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version  # noqa: SLF001 (torch's own counter)


def _place(tensor: Tensor) -> tuple[object, ...] | None:
    if type(tensor) not in _DENSE or tensor.layout is not torch.strided:
        return None
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def _is_harmless(hook: object) -> bool:
    """Says whether a hook is known to return nothing, by what it is and not by what it says of itself."""
    if type(hook) in tap_hooks.KINDS:
        return True
    module = sys.modules.get(ONLY_LOOKS)
    return module is not None and isinstance(hook, FunctionType) and hook.__globals__ is vars(module)
