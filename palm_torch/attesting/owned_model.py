"""Owners of what is stepped, and what a checkpoint says of them: the same, tensor by tensor, or another."""

from __future__ import annotations

import itertools
import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeAlias

import torch

from palm_torch.digest import Digest
from palm_torch.hooks import discovery, live, mapped, weights, wrappers
from palm_torch.hooks.buffers import Taken
from palm_torch.roles import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import nn

    Model: TypeAlias = nn.Module | Mapping[str, nn.Module] | Mapping[str, torch.Tensor]

MAX_CANDIDATES: Final = 256
"""Combinations of live modules that are tried for a model that nothing has stepped since it was loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedState:
    """Owners found at one time, as a checkpoint remembers them.

    Attributes:
        names: Names of the owners; empty for tensors that the script named itself.
        prefix: What stands before their tensors' names.
        taken: When the initial weights were read.
        architecture: Digest of their architecture.
        initial: Weights before the first step.
        model: Weights at the checkpoint.
    """

    names: tuple[str, ...]
    prefix: str
    taken: Taken
    architecture: Digest
    initial: tuple[Tensor, ...]
    model: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Owned:
    """Owners found at one time.

    Attributes:
        owners: The modules.
        prefix: What stands before their tensors' names.
        initial: Weights before the first step of the run.
        reference: Weights before the first step of this session.
        taken: When the initial weights were read.
        measured: The tensors that were read, by identity.
        architecture: Digest of the architecture.
    """

    owners: discovery.Owners
    prefix: str
    initial: tuple[Tensor, ...]
    reference: tuple[Tensor, ...]
    taken: Taken
    measured: dict[int, weakref.ref[torch.Tensor]]
    architecture: Digest

    @classmethod
    def of(
        cls,
        owners: discovery.Owners,
        prefix: str,
        initial: tuple[Tensor, ...],
        reference: tuple[Tensor, ...],
        taken: Taken,
        architecture: Digest,
    ) -> Owned:
        """Returns owners whose tensors have just been read; fields as above."""
        measured = {id(item): weakref.ref(item) for item in _all_of(owners)}
        return cls(owners, prefix, initial, reference, taken, measured, architecture)

    def tensors(self) -> list[weights.NamedTensor]:
        """Returns the tensors under their names in the run."""
        return prefixed(self.owners.tensors(), self.prefix)

    def parameters(self) -> list[weights.NamedTensor]:
        """Returns those of `tensors` that are parameters, or that the script named itself."""
        return [named for named in self.tensors() if named.kind == "parameter" or self.owners.loose]

    def knows(self, tensor: torch.Tensor) -> bool:
        """Returns whether this very tensor was measured before the first step."""
        reference = self.measured.get(id(tensor))
        return reference is not None and reference() is tensor


def difference(
    owners: discovery.Owners, tensors: Sequence[weights.NamedTensor], held: OwnedState
) -> str | None:
    """Returns in words the first thing in which loaded tensors differ from the checkpoint's, if any does.

    Args:
        owners: What holds them.
        tensors: The tensors, before anything moved them.
        held: What the checkpoint says.

    Raises:
        CoverageError: If a tensor has no canonical bytes.
    """
    found = {named.name: named for named in prefixed(tensors, held.prefix)}
    for expected in held.model:
        named = found.pop(expected.name, None)
        if named is None:
            return f"tensor {expected.name} is missing in {'+'.join(owners.names) or 'the tensors'}"
        spec = named.spec
        if (spec.dtype, spec.shape, spec.aliases) != (expected.dtype, expected.shape, expected.aliases):
            return (
                f"tensor {expected.name}: expected {expected.dtype} {list(expected.shape)}, got {spec.dtype} "
                f"{list(spec.shape)}" + ("" if spec.aliases == expected.aliases else ", or other tied names")
            )
    if found:
        return f"tensor {min(found)} is not in the checkpoint"
    measured = weights.WeightsMeter().measure(prefixed(tensors, held.prefix))
    roots = {spec.name: root for spec, root in measured.tensors}
    for expected in held.model:
        if roots[expected.name] != expected.root.value:
            return f"tensor {expected.name} has other values"
    return None


def require_own_memory(owners: Sequence[discovery.Owners]) -> None:
    """Checks that no parameter and no buffer lies in a mapped file, buffers that are not saved included.

    Raises:
        CoverageError: As `palm_torch.hooks.mapped.require_own_memory`.
    """
    mapped.require_own_memory(named for found in owners for named in _named(found))


def candidates(held: OwnedState, declared: Model | None, taken: set[int]) -> Iterator[discovery.Owners]:
    """Yields what the weights of a checkpoint may have been loaded into.

    Args:
        held: What the checkpoint says.
        declared: The model that the script named, if it did.
        taken: Modules that are something else, by identity.
    """
    if declared is not None:
        yield discovery.declared(declared)
    alive = [module for module in map(wrappers.unwrap, live.modules()) if id(module) not in taken]
    by_name = [
        [module for module in alive if wrappers.kind_of(module).__name__ == name.partition("#")[0]]
        for name in held.names
    ]
    if by_name:
        for modules in itertools.islice(itertools.product(*by_name), MAX_CANDIDATES):
            yield discovery.Owners(tuple(modules), held.names)


def prefixed(tensors: Sequence[weights.NamedTensor], prefix: str) -> list[weights.NamedTensor]:
    """Returns tensors under their names in the run: each owner's have a prefix of their own."""
    return [
        replace(named, name=prefix + named.name, aliases=tuple(prefix + alias for alias in named.aliases))
        for named in tensors
    ]


def _named(owners: discovery.Owners) -> Iterator[tuple[str, torch.Tensor]]:
    for path, module in owners.named_modules():
        for name, tensor in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            yield f"{path}.{name}" if path else name, tensor
    yield from owners.loose.items()


def _all_of(owners: discovery.Owners) -> Iterator[torch.Tensor]:
    for module in owners.modules:
        yield from module.parameters()
    yield from owners.loose.values()
