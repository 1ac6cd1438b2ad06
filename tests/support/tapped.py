"""The plainest taps, a forward hook on each named module, and ten lines that say what a root should be."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import torch
from blake3 import blake3

from palm_torch.commit.trace import ModuleCoverage, NotCaptured, Site

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import nn

    from palm_torch.committing.capture import Capture


class PlainTaps:
    """Hooks on modules that return one tensor, or a tuple of them."""

    def __init__(self, model: nn.Module, names: Iterable[str], sink: Capture) -> None:
        self.modules = {name: model.get_submodule(name) for name in names}
        self.sink = sink
        self.fired: Counter[str] = Counter()
        self.handles: list[Any] = []
        self.problem: Exception | None = None

    def __enter__(self) -> Self:
        for name, module in self.modules.items():
            self.handles.append(module.register_forward_hook(partial(self._seen, name)))
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for handle in self.handles:
            handle.remove()
        if kind is None and self.problem is not None:
            raise self.problem

    def _seen(self, name: str, _module: nn.Module, _args: Any, output: Any) -> None:
        call = self.fired[name]
        self.fired[name] += 1
        if isinstance(output, torch.Tensor):
            self.sink.capture(Site(name), output, call)
        else:
            for index, item in enumerate(output):
                self.sink.capture(Site(name, str(index)), item, call)

    @property
    def coverage(self) -> tuple[ModuleCoverage, ...]:
        return tuple(
            ModuleCoverage(name, "each call", count, count) for name, count in sorted(self.fired.items())
        )

    @property
    def recomputed(self) -> dict[str, int]:
        return dict.fromkeys(self.fired, 0)

    @property
    def not_captured(self) -> tuple[NotCaptured, ...]:
        return ()


def framed(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def row_bytes(tensor: torch.Tensor) -> bytes:
    """Returns a tensor's bytes, element by element in row-major order, in a way of its own."""
    flat = tensor.detach().contiguous().reshape(-1)
    if flat.dtype is torch.bfloat16:
        return flat.view(torch.int16).numpy().tobytes()
    return flat.numpy().tobytes()


def naive_leaves(name: str, dtype: str, tensors: Sequence[torch.Tensor]) -> list[bytes]:
    """The leaves of one site, whose tensors have equal channels."""
    channels = tensors[0].shape[-1] if tensors[0].dim() else 1
    data, item = b"".join(map(row_bytes, tensors)), tensors[0].element_size()
    size = channels * item
    if not size:
        return []
    down, across = naive_tile(channels, item)
    leaves = []
    for top in range(0, len(data) // size, down):
        for left in range(0, channels, across):
            block = data[top * size : (top + down) * size]
            width = min(across, channels - left)
            tile = block if width == channels else block[left * item : (left + width) * item]
            numbers = (len(tile) // width // item, width, top // down, left // across)
            head = (
                framed(name.encode(), dtype.encode())
                + b"\2"
                + b"".join(n.to_bytes(8, "big") for n in numbers)
            )
            leaves.append(
                hashlib.sha256(b"palm-torch/tile/v1" + framed(head, b"", blake3(tile).digest())).digest()
            )
    return leaves


def naive_tile(channels: int, item: int) -> tuple[int, int]:
    """Rows and channels of a tile."""
    size = channels * item
    if not size:
        return 1, 1
    down = 1 if size > 16384 else 1 << max(0, math.ceil(math.log2(1024 / size)))
    return down, 16384 // item if size > 16384 else channels


def naive_group(leaves: list[bytes], dtype: str, sites: int, tensors: Sequence[torch.Tensor]) -> bytes:
    """The root of a group under hashes: the Merkle root, bound with what the tree is over."""
    channels = tensors[0].shape[-1] if tensors[0].dim() else 1
    rows = sum(math.prod(one.shape[:-1]) for one in tensors)
    numbers = (sites, rows, channels, 1, *naive_tile(channels, tensors[0].element_size()))
    context = b"\1" + framed(b"hash", b"") + b"\0" + framed(b"palm-torch/trace", dtype.encode()) + b"\3"
    context += b"".join(n.to_bytes(8, "big") for n in numbers) + b"\3" + framed(b"site", b"row", b"channel")
    return hashlib.sha256(b"palm-torch/terkle-root/v1" + framed(context, naive_root(leaves))).digest()


def naive_root(leaves: list[bytes]) -> bytes:
    """The Merkle root over leaves."""
    missing = hashlib.sha256(b"palm-torch/merkle-missing/v1").digest()
    count, nodes, level = len(leaves), leaves or [missing], 0
    while len(nodes) > 1:
        level += 1
        nodes = [*nodes, missing] if len(nodes) % 2 else nodes
        pairs = zip(nodes[::2], nodes[1::2], strict=True)
        nodes = [
            hashlib.sha256(b"palm-torch/merkle-node/v1" + bytes([level]) + a + b).digest() for a, b in pairs
        ]
    return hashlib.sha256(b"palm-torch/merkle-root/v1" + framed(count.to_bytes(8, "big"), nodes[0])).digest()
