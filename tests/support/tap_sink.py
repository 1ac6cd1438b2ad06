"""A sink that keeps what taps hand it, and small models to tap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from palm_torch.hooks import taps, tensors

if TYPE_CHECKING:
    from collections.abc import Callable

    from palm_torch.commit.trace import Site


class Recorded:
    """Keeps the bytes of every output, in the order of arrival."""

    def __init__(self) -> None:
        self.order: list[tuple[str, int]] = []
        self.bytes: dict[tuple[str, int], bytes] = {}
        self.shapes: dict[tuple[str, int], tuple[int, ...]] = {}

    def capture(self, site: Site, tensor: torch.Tensor, call: int) -> None:
        key = (site.tree_id, call)
        assert key not in self.bytes
        self.order.append(key)
        self.bytes[key] = bytes(tensors.tensor_bytes(tensor))
        self.shapes[key] = tuple(tensor.shape)


def record(
    model: nn.Module, layers: Any, body: Callable[[], object], **options: Any
) -> tuple[Recorded, taps.Taps]:
    """Runs a function with the model tapped."""
    sink = Recorded()
    with taps.Taps(model, layers, sink, **options) as tapped:
        body()
    return sink, tapped


class Block(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(torch.relu(self.up(x)))


class Stack(nn.Module):
    """Blocks in a list, called by a loop."""

    def __init__(self, blocks: int = 3, width: int = 8) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Block(width) for _ in range(blocks)])
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


BLOCKS = ["layers.0", "layers.1", "layers.2"]


def hooks_of(model: nn.Module) -> int:
    """Returns how many forward hooks and pre-hooks a model has."""
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())
