"""Buffers as they were before the first batch: a forward pass moves them before any optimizer steps.

Parameters are read in the first pre-step hook, when nothing has moved them yet. The running statistics of
batch normalisation move in the first forward pass, so persistent buffers are copied when the first batch
is delivered.
"""

from __future__ import annotations

import dataclasses
import weakref
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import torch
from torch.nn.parameter import is_lazy

from palm_torch.hooks import live

if TYPE_CHECKING:
    from torch import Tensor, nn

    from palm_torch.hooks.discovery import Owners
    from palm_torch.hooks.weights import NamedTensor

Taken: TypeAlias = Literal["first_delivery", "first_step"]

MAX_BYTES: Final = 64 << 20
"""Most bytes of buffers that are copied; with more, buffers are read at the first step, and that is said."""


class BufferSnapshot:
    """Copies of the persistent buffers of all live modules, on the devices where they live.

    A buffer is known by its module and its name there, so that replacing the tensor (``self.mean = …``)
    does not lose it.

    Args:
        max_bytes: Most bytes to copy; with more nothing is kept.
    """

    __slots__ = ("_copies", "_modules")

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        self._modules: dict[int, weakref.ref[nn.Module]] = {}
        self._copies: dict[tuple[int, str], Tensor] = {}
        copied: dict[int, Tensor] = {}
        total = 0
        with torch.no_grad():
            for module in live.modules():
                for name, buffer in live.persistent_buffers(module):
                    if is_lazy(buffer):
                        continue
                    copy = copied.get(id(buffer))
                    if copy is None:
                        total += buffer.numel() * buffer.element_size()
                        if total > max_bytes:
                            self._modules.clear()
                            self._copies.clear()
                            return
                        copy = copied[id(buffer)] = buffer.detach().clone()
                    self._modules[id(module)] = weakref.ref(module)
                    self._copies[id(module), name] = copy

    def initial(self, owners: Owners) -> tuple[list[NamedTensor], Taken]:
        """Returns the owners' tensors with buffers as they were when the snapshot was taken.

        To be called before the first step: parameters are those of now.

        Args:
            owners: The modules whose initial weights are wanted.

        Returns:
            The tensors under their canonical names, and since when they are right: ``first_step`` if some
            buffer was not in the snapshot (too many bytes, or its module was made later).

        Raises:
            CoverageError: If a tensor has no canonical bytes.
        """
        copies: dict[str, Tensor] = {}
        complete = True
        for path, module in owners.named_modules():
            for name, _ in live.persistent_buffers(module):
                copy = self._copy(module, name)
                complete &= copy is not None
                if copy is not None:
                    copies[f"{path}.{name}" if path else name] = copy
        tensors = [
            dataclasses.replace(item, tensor=copies[item.name])
            if item.kind == "buffer" and item.name in copies
            else item
            for item in owners.tensors()
        ]
        return tensors, "first_delivery" if complete else "first_step"

    def _copy(self, module: nn.Module, name: str) -> Tensor | None:
        known = self._modules.get(id(module))
        return self._copies.get((id(module), name)) if known is not None and known() is module else None
