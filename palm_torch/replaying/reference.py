"""The reference of a replay: a copy of a block that computes in float64, and whether it looks ahead."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

import torch

from palm_torch.errors import DataError
from palm_torch.replaying import calls

if TYPE_CHECKING:
    from torch import nn

    from palm_torch.replaying.calls import Call

_EXPERTS: Final = "_experts_implementation"
_ROWS: Final = 3
"""Dimensions of rows of tokens: [1, tokens, channels]."""
_LEAST: Final = 2.0**-20
_HIDDEN: Final = -3.0
"""What numbers of the last token are multiplied by, to see whether anything before it changes."""


def of(block: nn.Module) -> nn.Module:
    """Returns a copy of a block that computes in float64, with its experts one after the other.

    Raises:
        DataError: If the block cannot be copied.
    """
    try:
        return _widened_copy(block)
    except calls.FAILURES as error:
        raise DataError(
            f"{type(block).__name__}: cannot be copied, to compute in float64: {type(error).__name__}: "
            f"{str(error)[:200]}"
        ) from error


def widened(tensor: torch.Tensor) -> torch.Tensor:
    """Returns a tensor of numbers with 64 bits, or two of them where they are complex; any other as it is."""
    if tensor.is_complex():
        return tensor.to(torch.complex128)
    return tensor.double() if tensor.is_floating_point() else tensor


def sees_ahead(exact: nn.Module, call: Call) -> bool:
    """Says whether what a block returns for tokens depends on a token after them.

    It is called a second time with other numbers in the last row of all that has a row for each token.

    Args:
        exact: What `of` returned.
        call: What the model calls the block with, over two tokens or more.

    Raises:
        DataError: If it cannot be called so.
    """
    wide = call.changed(widened)
    first = wide.result_of(exact)
    tokens = first.shape[1]

    def other(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point() or tensor.dim() != _ROWS or tensor.shape[:2] != (1, tokens):
            return tensor
        return torch.cat((tensor[:, :-1], tensor[:, -1:] * _HIDDEN), dim=1)

    second = wide.changed(other).result_of(exact)
    before, after = first[:, :-1], second[:, :-1]
    return float((before - after).abs().max()) > _LEAST * float(before.abs().max())


def _widened_copy(block: nn.Module) -> nn.Module:
    made = copy.deepcopy(block)
    for module in made.modules():
        for parameter in module.parameters(recurse=False):
            parameter.data = widened(parameter.data)
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, widened(buffer))
        config: Any = getattr(module, "config", None)
        if getattr(config, _EXPERTS, None) is not None:
            setattr(config, _EXPERTS, "eager")  # grouped products know no float64
    return made
