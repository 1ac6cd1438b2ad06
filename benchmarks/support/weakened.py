"""Models that are cheaper or other than the one that is claimed: copies with changed weights or layers."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Rounding = Callable[[torch.Tensor], torch.Tensor]

TINY: Final = 1e-12
"""Scale of a channel whose weights are all zero."""


def copied(model: Any) -> Any:  # noqa: ANN401 (transformers has no types)
    """Returns a model with the same weights, which can be changed."""
    return copy.deepcopy(model)


def quantised(model: Any, bits: int, blocks: Iterable[int] | None = None) -> Any:  # noqa: ANN401 (transformers has no types)
    """Rounds the matrices of blocks to integers of some bits, one scale for each output channel.

    Embedding, norms and head stay as they are, as is the custom.

    Args:
        model: A Llama.
        bits: 8 and 4 are usual.
        blocks: Which; None for all.
    """
    made = copied(model)
    for number, block in enumerate(made.model.layers):
        if blocks is not None and number not in blocks:
            continue
        for module in block.modules():
            if isinstance(module, nn.Linear):
                module.weight.data = nearest(module.weight.data, bits)
    return made


def nearest(weight: torch.Tensor, bits: int) -> torch.Tensor:
    """Returns weights rounded to the nearest of 2^bits - 1 evenly spaced values, symmetric, for each row.

    Args:
        weight: [outputs, inputs], any floating-point type.
        bits: 2 or more.
    """
    most = 2 ** (bits - 1) - 1
    scale = weight.float().abs().amax(dim=1, keepdim=True).clamp(min=TINY) / most
    rounded: torch.Tensor = torch.round(weight.float() / scale) * scale
    return rounded.to(weight.dtype)


def swapped(model: Any, one: int, two: int) -> Any:  # noqa: ANN401 (as above)
    """Returns a model in which two blocks have each other's weights: each does the other's work."""
    made = copied(model)
    states = [copy.deepcopy(made.model.layers[number].state_dict()) for number in (one, two)]
    made.model.layers[two].load_state_dict(states[0])
    made.model.layers[one].load_state_dict(states[1])
    return made


def skipping(model: Any, block: int) -> Any:  # noqa: ANN401 (as above)
    """Returns a model in which one block hands on what came in: what it computes itself is thrown away."""
    made = copied(model)

    def hand_on(_module: object, args: tuple[torch.Tensor, ...], _output: object) -> torch.Tensor:
        return args[0].clone()

    made.model.layers[block].register_forward_hook(hand_on)
    return made
