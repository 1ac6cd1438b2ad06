"""Which tensors a model consists of, under canonical names, and their weights root.

Names are those of `state_dict`, except that a wrapper (see `palm_torch.hooks.wrappers`) adds nothing to
them. Tied weights appear once, under the smallest of their names, with the others as aliases. Parameters
and persistent buffers count; other buffers and extra state do not: they are not weights.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import torch
from torch import nn

from palm_torch.commit import weights_root
from palm_torch.digest import Digest
from palm_torch.errors import CoverageError
from palm_torch.hooks import live, tensors, wrappers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


Kind: TypeAlias = Literal["parameter", "buffer"]


@dataclass(frozen=True, slots=True, eq=False)
class NamedTensor:
    """A tensor of a model.

    Attributes:
        name: Canonical name, the smallest of all its names by UTF-8 bytes.
        aliases: Further names of the same tensor, ascending.
        tensor: The tensor itself, as the model holds it.
        kind: ``parameter`` if it is one under any of its names.
        trainable: Whether it is a parameter that asks for gradients.
    """

    name: str
    aliases: tuple[str, ...]
    tensor: torch.Tensor
    kind: Kind
    trainable: bool

    @property
    def spec(self) -> weights_root.TensorSpec:
        """What the tensor is, apart from its bytes.

        Raises:
            CoverageError: If it has no canonical bytes; see `tensors.tensor_bytes`.
        """
        tensors.require_bytes(self.tensor, what=self.name)
        dtype = tensors.dtype_name(self.tensor)
        return weights_root.TensorSpec(self.name, dtype, tuple(self.tensor.shape), self.aliases)


@dataclass(frozen=True, slots=True)
class WeightsMeasurement:
    """What a model's weights were at one moment.

    Attributes:
        root: The weights root.
        tensors: Every tensor with its root (32 bytes), sorted by name.
        hashed_bytes: Bytes that were read and hashed for it.
    """

    root: Digest
    tensors: tuple[tuple[weights_root.TensorSpec, bytes], ...]
    hashed_bytes: int


def canonical_tensors(model: nn.Module | Mapping[str, torch.Tensor]) -> list[NamedTensor]:
    """Returns the tensors of a model, or of a mapping from name to tensor, sorted by canonical name.

    Raises:
        CoverageError: If one name would stand for two tensors, or a mapping holds something else.
    """
    found = _of_mapping(model) if isinstance(model, Mapping) else _of_module(model)
    by_identity: dict[_Identity, dict[str, torch.Tensor]] = {}
    owner: dict[str, _Identity] = {}
    for name, tensor in found:
        identity = _identity(tensor)
        if owner.setdefault(name, identity) != identity:
            raise CoverageError(f"two different tensors are called {name!r}; rename one of them")
        by_identity.setdefault(identity, {})[name] = tensor
    return sorted((_merge(names) for names in by_identity.values()), key=lambda one: one.name.encode("utf-8"))


class WeightsMeter:
    """Measures one model's weights again and again, remembering the last roots.

    A distributed tensor is gathered to be read, which takes all ranks: every one of them has to measure the
    same tensors at the same time.

    With ``full=False`` only tensors whose hint moved are hashed again. The hint (same tensor object, same
    memory, same version counter) misses writes through ``.data``, NumPy aliases and custom kernels, so a
    measurement that evidence rests on is a full one.
    """

    __slots__ = ("_last", "_remembered")

    def __init__(self) -> None:
        self._last: WeightsMeasurement | None = None
        self._remembered: dict[str, _Remembered] = {}

    def measure(self, named: Iterable[NamedTensor], *, full: bool = True) -> WeightsMeasurement:
        """Returns the weights root of these tensors as they are now.

        Args:
            named: What `canonical_tensors` returned.
            full: Hash everything, or only what the hints say has changed since the last measurement.

        Raises:
            CoverageError: If a tensor has no canonical bytes.
            DataError: If a name occurs twice.
        """
        measured: list[tuple[weights_root.TensorSpec, bytes]] = []
        remembered: dict[str, _Remembered] = {}
        hashed = 0
        hashed_bytes = 0
        for one in named:
            hint = hint_of(one.tensor)
            last = self._remembered.get(one.name)
            if full or last is None or not last.still(one, hint):
                spec = one.spec
                content = tensors.tensor_bytes(tensors.whole(one.tensor), what=one.name)
                root = weights_root.tensor_root(spec, content)
                del content  # of a tensor that was gathered: there is one of them at a time
                last = _Remembered(weakref.ref(one.tensor), hint, spec, root)
                hashed += 1
                hashed_bytes += spec.nbytes
            measured.append((last.spec, last.root))
            remembered[one.name] = last
        same_tensors = len(measured) == len(remembered) and remembered.keys() == self._remembered.keys()
        if hashed or self._last is None or not same_tensors:
            measured.sort(key=lambda pair: pair[0].name.encode("utf-8"))
            total = weights_root.weights_root(measured)
            self._last = WeightsMeasurement(total, tuple(measured), hashed_bytes)
            self._remembered = remembered
        return replace(self._last, hashed_bytes=hashed_bytes)


_Identity: TypeAlias = "tuple[object, ...]"
_Hint: TypeAlias = "tuple[object, ...]"


@dataclass(frozen=True, slots=True)
class _Remembered:
    tensor: weakref.ref[torch.Tensor]  # an address may be used again, an object that lives may not
    hint: _Hint | None
    spec: weights_root.TensorSpec
    root: bytes

    def still(self, one: NamedTensor, hint: _Hint | None) -> bool:
        same_tensor = self.tensor() is one.tensor and self.spec.aliases == one.aliases
        return same_tensor and hint is not None and self.hint == hint


def hint_of(tensor: torch.Tensor) -> tuple[object, ...] | None:
    """Returns what changes with almost every write, or None where torch counts no versions."""
    if not tensors.keeps_its_bytes(tensor) or not tensors.counts_writes(tensor):
        return None
    place = (tensor.data_ptr(), tensor.device, tuple(tensor.stride()), tensor.is_conj(), tensor.is_neg())
    return (tensor._version, tensor.dtype, tuple(tensor.shape), *place)  # noqa: SLF001 (torch's own counter)


def _identity(tensor: torch.Tensor) -> _Identity:
    """Returns equal values for tensors that are one: the same object, or the same elements of memory."""
    if not tensors.keeps_its_bytes(tensor) or tensor.numel() == 0:
        return (id(tensor),)
    place = (tensor.device, tensor.data_ptr(), tuple(tensor.stride()), tensor.is_conj(), tensor.is_neg())
    return (tensor.dtype, tuple(tensor.shape), *place)


def _merge(names: Mapping[str, torch.Tensor]) -> NamedTensor:
    first, *rest = sorted(names, key=lambda name: name.encode("utf-8"))
    parameters = [tensor for tensor in names.values() if isinstance(tensor, nn.Parameter)]
    return NamedTensor(
        name=first,
        aliases=tuple(rest),
        tensor=parameters[0] if parameters else names[first],
        kind="parameter" if parameters else "buffer",
        trainable=any(parameter.requires_grad for parameter in parameters),
    )


def _of_module(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for path, module in wrappers.named_modules(model):
        prefix = f"{path}." if path else ""
        for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
            yield prefix + name, parameter
        for name, buffer in live.persistent_buffers(module):
            yield prefix + name, buffer


def _of_mapping(mapping: Mapping[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    for name, tensor in mapping.items():
        if not isinstance(tensor, torch.Tensor):
            raise CoverageError(f"{name}: expected a tensor, got {type(tensor).__name__}; leave it out")
        yield name, tensor
