"""Reading numbers that live on a device without making every step wait for it.

A number on the CPU is read at once. A number elsewhere is copied on its device (a few microseconds, no
wait) and read together with others, `BATCH` at a time. These numbers are settings of the loop, a learning
rate or a loss scale, never weights or data.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, TypeAlias

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Sink: TypeAlias = Callable[[float], None]

BATCH: Final = 256
"""Numbers that may wait on devices before they are read."""


class DeferredReads:
    """Numbers on their way from devices to those who asked for them, in the order asked."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[tuple[Tensor, Sink]] = []

    def read(self, number: Tensor, sink: Sink) -> None:
        """Hands the present value of a one-element tensor to `sink`, now or later."""
        if number.device.type == "cpu":
            sink(number.item())
            return
        with torch.no_grad():
            self._waiting.append((number.detach().clone(), sink))
        if len(self._waiting) >= BATCH:
            self.finish()

    def finish(self) -> None:
        """Hands over everything that still waits; this waits for the devices."""
        waiting, self._waiting = self._waiting, []
        alike: dict[tuple[torch.device, torch.dtype], list[int]] = defaultdict(list)
        for index, (number, _) in enumerate(waiting):
            alike[number.device, number.dtype].append(index)
        values: dict[int, float] = {}
        for indices in alike.values():
            with torch.no_grad():
                together = torch.stack([waiting[index][0].reshape(()) for index in indices])
            values.update(zip(indices, together.tolist(), strict=True))
        for index, (_, sink) in enumerate(waiting):
            sink(values[index])
