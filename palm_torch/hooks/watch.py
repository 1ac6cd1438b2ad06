"""Noticing early that parameters move although no optimizer steps: a hand-written update.

Version counters are hints: a changed counter shows that something wrote to a parameter, an unchanged one
shows nothing. ``p.data -= lr * p.grad`` moves no counter, so the first elements are compared too. This watch
speaks up early where it can; that a run had gradients but no step is checked for certain when it ends.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Final

from torch import Tensor

from palm_torch.commit.weights_root import ITEM_BYTES
from palm_torch.errors import CoverageError
from palm_torch.hooks import live, tensors, wrappers

SAMPLE_ELEMENTS: Final = 16


@dataclass(slots=True)
class _Watched:
    tensor: weakref.ref[Tensor]
    version: int
    sample: bytes
    owner: str
    name: str


class ParameterWatch:
    """Compares counters and samples of live modules' parameters at deliveries 2, 4, 8 and so on.

    One write may be a checkpoint being loaded. It counts as training when the parameter has a gradient, or
    when parameters were written to between two comparisons in succession.
    """

    __slots__ = ("_changed_before", "_deliveries", "_watched")

    def __init__(self) -> None:
        self._deliveries = 0
        self._changed_before = False
        self._watched: list[_Watched] = []

    def delivered(self) -> None:
        """Compares; to be called for every batch delivered with gradients on while nothing has stepped.

        Raises:
            CoverageError: If parameters are being changed without an optimizer.
        """
        self._deliveries += 1
        if self._deliveries.bit_count() != 1:
            return
        changed = self._changed()
        trained = next((item for item in changed if _has_gradient(item)), None)
        if trained is None and changed and self._changed_before:
            trained = changed[0]
        if trained is not None:
            raise CoverageError(
                f"parameters of {trained.owner} changed (first {trained.name!r}), but no torch.optim "
                "optimizer has stepped, so neither the initial weights nor the steps can be measured: make "
                "the update with a torch.optim optimizer (torch.optim.SGD does p -= lr * p.grad), or put "
                "your rule into the step() of a subclass of torch.optim.Optimizer"
            )
        self._changed_before = bool(changed)
        self._watched = _trainable()

    def _changed(self) -> list[_Watched]:
        return [
            item
            for item in self._watched
            if (tensor := item.tensor()) is not None
            and (tensor._version, _sample(tensor)) != (item.version, item.sample)  # noqa: SLF001 (no public name)
        ]


def _trainable() -> list[_Watched]:
    watched: dict[int, _Watched] = {}
    for root in live.roots(live.modules()):
        module = wrappers.unwrap(root)
        for name, tensor in module.named_parameters():
            if tensor.requires_grad and tensors.counts_writes(tensor) and id(tensor) not in watched:
                watched[id(tensor)] = _Watched(
                    weakref.ref(tensor),
                    tensor._version,  # noqa: SLF001 (no public name)
                    _sample(tensor),
                    type(module).__name__,
                    name,
                )
    return list(watched.values())


def _has_gradient(item: _Watched) -> bool:
    tensor = item.tensor()
    return tensor is not None and tensor.grad is not None


def _sample(tensor: Tensor) -> bytes:
    """Returns the first elements' bytes; nothing where looking would wait for a device."""
    if tensor.device.type != "cpu" or not tensor.numel() or not tensors.keeps_its_bytes(tensor):
        return b""
    if tensors.dtype_name(tensor) not in ITEM_BYTES:
        return b""
    part = tensor.detach()
    while part.dim() > 1:
        part = part[0]
    return tensors.copied_bytes(part[:SAMPLE_ELEMENTS] if part.dim() else part)
