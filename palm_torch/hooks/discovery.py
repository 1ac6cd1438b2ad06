"""Who owns the parameters that an optimizer steps: the smallest set of live modules that has them all.

1. Among all live modules take the outermost ones with at least one stepped parameter below them. A known
   wrapper (compiled, data parallel) counts as the module it wraps.
2. Of these take the smallest set that covers every stepped parameter. It has to exist and to be the only
   one of its size; otherwise the run cannot be named, and the error says what to write.

So a frozen teacher, a copy for averaging or a loss without parameters never becomes an owner, a model used
by its parts stays one model, and fine-tuning a head measures the frozen backbone with it.
"""

from __future__ import annotations

import gc
import itertools
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from torch import Tensor, nn

from palm_torch.errors import CoverageError
from palm_torch.hooks import live, weights, wrappers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MAX_COVERS: Final = 10_000
"""Sets of candidates tried before the owners count as ambiguous."""

_SHOWN: Final = 5

_Candidates: TypeAlias = "list[tuple[nn.Module, frozenset[int]]]"


@dataclass(frozen=True, slots=True, eq=False)
class Owners:
    """The modules (or the named tensors) whose weights a run is about.

    The modules are held strongly: their final weights are read when the run ends, even if the script
    has dropped them by then.

    Attributes:
        modules: In order of their first stepped parameter, wrappers removed.
        names: One per module: its class name, with ``#2``, ``#3`` … for further ones of the same name.
            They become prefixes of tensor names when there are several modules.
        loose: Tensors that the script named itself, for parameters that no module holds.
    """

    modules: tuple[nn.Module, ...]
    names: tuple[str, ...]
    loose: Mapping[str, Tensor] = field(default_factory=dict)

    def tensors(self) -> list[weights.NamedTensor]:
        """Returns parameters and persistent buffers under their canonical names.

        Raises:
            CoverageError: If a tensor has no canonical bytes.
        """
        if not self.modules:
            return weights.canonical_tensors(self.loose)
        if len(self.modules) == 1:
            return weights.canonical_tensors(self.modules[0])
        joined = nn.Module()  # weights tied across owners are found as they are within one
        for name, module in zip(self.names, self.modules, strict=True):
            joined.add_module(name, module)
        return weights.canonical_tensors(joined)

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Yields canonical path and module of every module, repeats included, wrappers left out."""
        for name, module in zip(self.names, self.modules, strict=True):
            yield from wrappers.named_modules(module, name if len(self.modules) > 1 else "")

    def require(self, parameters: Iterable[Tensor]) -> None:
        """Checks that every one of these parameters belongs to the owners.

        Raises:
            CoverageError: Naming those that do not.
        """
        held = {id(parameter) for module in self.modules for parameter in module.parameters()}
        held.update(map(id, self.loose.values()))
        missing = [parameter for parameter in parameters if id(parameter) not in held]
        if missing:
            names = ", ".join(self.names) or "the tensors named"
            raise CoverageError(
                f"run.output(model=...) names {names}, but an optimizer also steps {_describe(missing)}: "
                "name a module that holds all of them, or several: run.output(model={'a': a, 'b': b})"
            )


def declared(
    model: nn.Module | Mapping[str, nn.Module] | Mapping[str, Tensor], parameters: Iterable[Tensor] = ()
) -> Owners:
    """Returns the owners that a script names itself.

    Args:
        model: A module, several modules by name, or tensors by name.
        parameters: What optimizers step; all of it has to be in `model`.

    Raises:
        CoverageError: If it is not, or a name or a value cannot be used.
    """
    if isinstance(model, nn.Module):
        inner = wrappers.unwrap(model)
        owners = Owners((inner,), (wrappers.kind_of(inner).__name__,))
    else:
        modules = {name: item for name, item in model.items() if isinstance(item, nn.Module)}
        tensors = {name: item for name, item in model.items() if isinstance(item, Tensor)}
        if not model or len(model) not in (len(modules), len(tensors)):
            kinds = ", ".join(sorted({type(item).__name__ for item in model.values()})) or "nothing"
            raise CoverageError(
                f"run.output(model=...): expected a module, modules by name or tensors by name, got {kinds}"
            )
        for name in modules:
            if not name or "." in name or hasattr(nn.Module, name):
                raise CoverageError(f"run.output(model=...): {name!r} cannot be the name of a module")
        owners = Owners(tuple(map(wrappers.unwrap, modules.values())), tuple(modules), tensors)
    owners.require(parameters)
    return owners


def find_owners(parameters: Sequence[Tensor], *, among: Sequence[nn.Module] = ()) -> Owners:
    """Finds the modules that own the stepped parameters.

    Args:
        parameters: All tensors in the parameter groups of the optimizers that step, in that order.
        among: Modules known from an earlier look, tried before a new one is taken.

    Raises:
        CoverageError: If a parameter has no owner, or several sets of modules could be the owners.
    """
    position = {id(parameter): index for index, parameter in reversed(list(enumerate(parameters)))}
    wanted = frozenset(position)
    found = _candidates(position, among)
    cover = _smallest_cover(found, wanted) if wanted <= _owned(found) else None
    if cover is None:
        found = _candidates(position, live.modules())
        _require_owner(parameters, found)
        cover = _smallest_cover(found, wanted)
    if cover is None:
        del found  # what the script has dropped may hang in a cycle: collect it and look once more
        gc.collect()
        found = _candidates(position, live.modules())
        cover = _smallest_cover(found, wanted)
    if cover is None:
        raise _ambiguous(found, len(position))
    ordered = sorted(cover, key=lambda item: min(position[key] for key in item[1]))
    modules = tuple(module for module, _ in ordered)
    return Owners(modules, _names(modules))


def _owned(found: _Candidates) -> frozenset[int]:
    return frozenset[int]().union(*(owned for _, owned in found))


def _candidates(wanted: Mapping[int, int], modules: Sequence[nn.Module]) -> _Candidates:
    """Returns the outermost modules, wrappers removed, with the stepped parameters each one has."""
    inner = {id(module): module for module in map(wrappers.unwrap, live.roots(modules))}
    owned = {
        key: frozenset(id(parameter) for parameter in module.parameters()) & wanted.keys()
        for key, module in inner.items()
    }
    having = [module for key, module in inner.items() if owned[key]]
    below = {id(sub) for module in having for sub in module.modules() if sub is not module}
    return [(module, owned[id(module)]) for module in having if id(module) not in below]


def _smallest_cover(found: _Candidates, wanted: frozenset[int]) -> _Candidates | None:
    """Returns the only smallest set of candidates that has all wanted parameters, or None if ambiguous."""
    holders = Counter(key for _, owned in found for key in owned)
    needed = [item for item in found if any(holders[key] == 1 for key in item[1])]
    left = wanted.difference(*(owned for _, owned in needed))
    if not left:
        return needed
    optional = [item for item in found if item not in needed and not left.isdisjoint(item[1])]
    tried = 0
    for size in range(1, len(optional) + 1):
        tried += math.comb(len(optional), size)
        if tried > MAX_COVERS:
            return None
        covers = [
            chosen
            for chosen in itertools.combinations(optional, size)
            if left <= frozenset[int]().union(*(owned for _, owned in chosen))
        ]
        if covers:
            return [*needed, *covers[0]] if len(covers) == 1 else None
    return None


def _names(modules: Sequence[nn.Module]) -> tuple[str, ...]:
    seen: Counter[str] = Counter()
    names = []
    for module in modules:
        name = wrappers.kind_of(module).__name__
        seen[name] += 1
        numbered = seen[name] > 1 or hasattr(nn.Module, name)  # a class may be called like a method
        names.append(f"{name}#{seen[name]}" if numbered else name)
    return tuple(names)


def _require_owner(parameters: Sequence[Tensor], found: _Candidates) -> None:
    owned = frozenset[int]().union(*(keys for _, keys in found))
    orphans = [parameter for parameter in parameters if id(parameter) not in owned]
    if orphans:
        frozen = " (gc.freeze() hides modules from discovery)" if gc.get_freeze_count() else ""
        partly = f"; the others belong to {_classes(found)}" if found else ""
        raise CoverageError(
            f"an optimizer steps {_describe(orphans)}; no live torch.nn.Module owns them{frozen}{partly}: "
            "write run.output(model=MODULE) with a module that holds them, or "
            "run.output(model={'name': tensor, ...}) for tensors outside of modules"
        )


def _ambiguous(found: _Candidates, wanted: int) -> CoverageError:
    choices = ", ".join(f"{type(module).__name__} ({len(owned)})" for module, owned in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return CoverageError(
        f"{wanted} stepped parameters could belong to several sets of modules: {choices}{more} hold some of "
        "them (their number in brackets); expected one smallest set: write run.output(model=MODULE) with "
        "the module that is trained"
    )


def _describe(parameters: Sequence[Tensor]) -> str:
    shapes = ", ".join(
        f"{tuple(parameter.shape)} {str(parameter.dtype).removeprefix('torch.')}"
        for parameter in parameters[:_SHOWN]
    )
    more = ", ..." if len(parameters) > _SHOWN else ""
    return f"{len(parameters)} parameters of shapes {shapes}{more}"


def _classes(found: _Candidates) -> str:
    return ", ".join(sorted({type(module).__name__ for module, _ in found}))
