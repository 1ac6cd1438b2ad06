"""Weights that are measured once and held: what they were, whether they still are, and how to look again.

Three looks, from cheap to certain. `settle` asks torch's version counters, addresses and the modules' own
tables, and hashes what these say has moved: microseconds, made for every answer. `slices` hashes everything
again, at most 1 MiB at a time, so that a thread can do it between answers. Counters and addresses are hints
alone: writes through ``.data``, NumPy, ctypes or kernels of one's own leave them where they were, and only
hashing everything finds them. A write that was undone before it was looked for is found by nobody.
"""

from __future__ import annotations

import itertools
import operator
import time
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from blake3 import blake3
from torch import nn

from palm_torch.commit import weights_root
from palm_torch.commit.weights_root import TensorSpec
from palm_torch.errors import CoverageError
from palm_torch.hooks import extra_state, loading, tensors, weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from palm_torch.digest import Digest

_DIGEST_BYTES: Final = 32
_VERSION: Final = operator.attrgetter("_version")
"""Torch's own counter of writes."""
_VALUES: Final = operator.methodcaller("values")
_TABLES: Final = ("_parameters", "_buffers", "_modules")


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    name: str
    tensor: torch.Tensor
    spec: TensorSpec
    tiles: bytes


class HeldWeights:
    """The weights of one model, as they were when this was made.

    Args:
        model: The model, or tensors by name. It is kept alive.

    Attributes:
        root: The weights root.
        tensors: Every tensor with its root (32 bytes), sorted by name.
        hashed_bytes: Bytes that had to be read for it: of what `loading.load_safetensors` loaded, none.
        moment: When reading them began, on the monotonic clock, in seconds: of what was loaded so, then.

    Raises:
        CoverageError: If the model has no tensors, one has no canonical bytes, each rank holds a part, or a
            module keeps state that is neither parameter nor buffer.
    """

    def __init__(self, model: nn.Module | Mapping[str, torch.Tensor]) -> None:
        if not isinstance(model, (nn.Module, Mapping)):
            raise CoverageError(f"expected a torch.nn.Module, or tensors by name, got {type(model).__name__}")
        if isinstance(model, nn.Module):
            extra_state.require_none(model)
        self._model = model
        self.moment = time.monotonic()
        self.hashed_bytes = 0
        named = weights.canonical_tensors(model)
        if not named:
            raise CoverageError(f"{type(model).__name__}: a model without parameters and buffers")
        counted = [one.tensor for one in named if tensors.keeps_its_bytes(one.tensor)]
        self._counted = [tensor for tensor in counted if tensors.counts_writes(tensor)]
        self._hints = _hints(self._counted)  # before the bytes are read
        self._tables = _Tables(model)
        self._entries = self._tables.entries()
        self._held = tuple(self._take(one) for one in named)
        of_tensor = {id(one.tensor): one for one in self._held}
        self._counting = [of_tensor[id(tensor)] for tensor in self._counted]
        roots = tuple((one.spec, weights_root.root_of_tiles(one.spec, one.tiles)) for one in self._held)
        self.tensors: tuple[tuple[TensorSpec, bytes], ...] = roots
        self.root: Digest = weights_root.weights_root(roots)

    def parameters(self) -> list[torch.Tensor]:
        """Returns the tensors themselves."""
        return [one.tensor for one in self._held]

    def settle(self) -> str | None:
        """Hashes what hints say has moved, and takes up the new hints where nothing had changed.

        Returns:
            The name of a tensor that is not what it was, or None.
        """
        if self._tables.entries() != self._entries:
            changed = self._exchanged()
            if changed is not None:
                return changed
        now = _hints(self._counted)
        if now == self._hints:
            return None
        for one, version, address, *moved in zip(self._counting, *self._hints, *now, strict=True):
            if [version, address] != moved and not all(self._compare(one)):
                return one.name
        self._hints = now
        return None

    def slices(self) -> Iterator[str | None]:
        """Hashes everything again, a slice with every step of the iteration.

        Yields:
            None after each slice that is what it was; the name of the first tensor that is not, and no more.

        Raises:
            CoverageError: If a tensor has lost its bytes, for instance to another device.
        """
        changed = self._exchanged()
        if changed is not None:
            yield changed
            return
        for one in self._held:
            for same in self._compare(one):
                if not same:
                    yield one.name
                    return
                yield None

    def measure(self) -> str | None:
        """Hashes everything again, at once.

        Returns:
            The name of the first tensor that is not what it was, or None.
        """
        return next((changed for changed in self.slices() if changed is not None), None)

    # ------------------------------------------------------------------------------------------------------

    def _take(self, one: weights.NamedTensor) -> _Held:
        if tensors.is_distributed(one.tensor):
            raise CoverageError(
                f"{one.name}: each rank holds a part of it; weights are held where one process has all of "
                "them: gather the model first"
            )
        spec = one.spec
        loaded = loading.loaded(one.tensor)
        if loaded is not None:
            tiles, moment = loaded
            self.moment = min(self.moment, moment)
        else:
            content = tensors.tensor_bytes(one.tensor, what=one.name)
            ranges = weights_root.tile_ranges(spec)
            tiles = b"".join(blake3(content[start:end]).digest() for start, end in ranges)
            self.hashed_bytes += spec.nbytes
        return _Held(one.name, one.tensor, spec, tiles)

    def _compare(self, one: _Held) -> Iterator[bool]:
        """Yields for each tile whether it is what it was; at least once."""
        now = (tensors.dtype_name(one.tensor), tuple(one.tensor.shape))
        if now != (one.spec.dtype, one.spec.shape):
            yield False
            return
        content = tensors.tensor_bytes(one.tensor, what=one.name)
        yield True
        for number, (start, end) in enumerate(weights_root.tile_ranges(one.spec)):
            expected = one.tiles[number * _DIGEST_BYTES : (number + 1) * _DIGEST_BYTES]
            yield blake3(content[start:end]).digest() == expected

    def _exchanged(self) -> str | None:
        """Returns the name of a tensor that came, went or was exchanged for another."""
        held = {one.name: (one.spec.aliases, id(one.tensor)) for one in self._held}
        now = {one.name: (one.aliases, id(one.tensor)) for one in weights.canonical_tensors(self._model)}
        if held != now:
            names = held.keys() | now.keys()
            return min(name for name in names if held.get(name) != now.get(name))
        self._tables = _Tables(self._model)  # what moved is no part of the weights
        self._entries = self._tables.entries()
        return None


class _Tables:
    """The tables in which a model's modules keep what they hold by name; a third of them holds something.

    Args:
        model: The model, or tensors by name.
    """

    __slots__ = ("_empty", "_filled")

    def __init__(self, model: nn.Module | Mapping[str, torch.Tensor]) -> None:
        tables: list[Mapping[str, Any]] = [model] if isinstance(model, Mapping) else []
        if isinstance(model, nn.Module):
            tables = [vars(module)[table] for module in model.modules() for table in _TABLES]
        self._filled = [table for table in tables if table]
        self._empty = [table for table in tables if not table]

    def entries(self) -> array[int]:
        """Returns the identities of everything in the tables, also in those that were empty."""
        filled = itertools.chain(self._filled, self._empty) if any(self._empty) else self._filled
        return array("Q", map(id, itertools.chain.from_iterable(map(_VALUES, filled))))


def _hints(counted: Sequence[torch.Tensor]) -> tuple[array[int], array[int]]:
    """Returns how often each tensor was written by torch's own count, and where each one lies."""
    return array("Q", map(_VERSION, counted)), array("Q", map(torch.Tensor.data_ptr, counted))
