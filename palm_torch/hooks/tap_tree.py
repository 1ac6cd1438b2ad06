"""The modules of a model as taps see them: one place for each, its canonical paths, and who calls it.

The owner of a module is the nearest module above it that has a forward pass; lists and dictionaries of
modules have none. A module that hangs in several places has several owners.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import nn
from torch.nn.utils import parametrize

from palm_torch.hooks import live, wrappers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PARAMETRIZATIONS = "parametrizations"


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A module and where it hangs.

    Attributes:
        path: Its first canonical path.
        module: The module, without wrappers.
        parents: Canonical path of what directly holds it, for every path; empty for the model.
        aliases: Its further paths.
        owners: Canonical paths of the modules that call it, each once.
    """

    path: str
    module: nn.Module
    parents: list[str] = field(default_factory=list)
    aliases: list[str] = field(default_factory=list)
    owners: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition(".")[2]


class Tree:
    """All modules of a model, in registration order.

    Args:
        model: The model, in known wrappers or not.

    Attributes:
        by_path: Every canonical path → its place.
        places: Each module once.
    """

    __slots__ = ("by_path", "places")

    def __init__(self, model: nn.Module) -> None:
        self.by_path: dict[str, Place] = {}
        self.places: list[Place] = []
        by_module: dict[int, Place] = {}
        for path, module in wrappers.named_modules(model):
            place = by_module.get(id(module))
            if place is None:
                place = by_module[id(module)] = Place(path, module)
                self.places.append(place)
            else:
                place.aliases.append(path)
            self.by_path[path] = place
            if path:
                parent = path.rpartition(".")[0]
                place.parents.append(parent)
                owner = self._owner(parent)
                if owner not in place.owners:
                    place.owners.append(owner)

    def children(self, place: Place) -> Iterator[Place]:
        """Yields what a place directly holds, repeats included, wrappers left out."""
        before = f"{place.path}." if place.path else ""
        for name, module in place.module._modules.items():  # noqa: SLF001 (the public iterators drop repeats)
            if module is not None:
                yield self.by_path[before + name]

    def replaced(self, paths: Iterable[str]) -> set[str]:
        """Returns those paths at which another module hangs by now, or below one where it does.

        Args:
            paths: Canonical paths.
        """
        moved = {"": False}
        return {path for path in paths if self._is_replaced(path, moved)}

    def _is_replaced(self, path: str, known: dict[str, bool]) -> bool:
        if path not in known:
            above, _, name = path.rpartition(".")
            was = self.by_path[path].module
            now = self.by_path[above].module._modules.get(name)  # noqa: SLF001 (as above)
            same = now is was or (now is not None and wrappers.unwrap(now) is was)
            known[path] = not same or self._is_replaced(above, known)
        return known[path]

    def _owner(self, path: str) -> str:
        while path and not has_forward(self.by_path[path].module):
            path = path.rpartition(".")[0]
        return self.by_path[path].path


def has_forward(module: nn.Module) -> bool:
    """Says whether a module can be called: lists, dictionaries and plain `nn.Module`s cannot."""
    owner = next(kind for kind in type(module).__mro__ if "forward" in vars(kind))
    return owner is not nn.Module or "forward" in vars(module)


def has_weights(module: nn.Module) -> bool:
    """Says whether a module itself holds something of the state dict, parametrized or not.

    A buffer counts too: a weight-only quantized linear layer may hold nothing else. So does what a class
    writes there by itself, as torch's quantized layers do with weights that are no tensors of theirs.
    """
    return (
        any(parameter is not None for parameter in module._parameters.values())  # noqa: SLF001 (cheaper)
        or any(True for _ in live.persistent_buffers(module))
        or parametrize.is_parametrized(module)
        or type(module)._save_to_state_dict is not nn.Module._save_to_state_dict  # noqa: SLF001 (as it is called)
        or type(module).get_extra_state is not nn.Module.get_extra_state
    )


def is_parametrization(tree: Tree, place: Place) -> bool:
    """Says whether a module computes another one's weight: `torch.nn.utils.parametrize` put it there."""
    parts = place.path.split(".")
    return any(
        part == _PARAMETRIZATIONS
        and parametrize.is_parametrized(tree.by_path[".".join(parts[:index])].module)
        for index, part in enumerate(parts)
    )


def is_list(module: nn.Module) -> bool:
    """Says whether a module is a list whose items may be blocks."""
    return isinstance(module, (nn.ModuleList, nn.Sequential))


def runs_its_items(module: nn.Module) -> bool:
    """Says whether a module is a `nn.Sequential` that hands each item's output to the next item."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward
