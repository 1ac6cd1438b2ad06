"""Which modules of a model are tapped: what `layers=` stands for, and which of them run only sometimes.

`blocks` are the repeated parts that a model is a chain of. They are looked for from the outside in, so the
experts inside of a block are no blocks:

1. items of a list of modules (`nn.ModuleList`, `nn.Sequential`) that have parts of their own and whose class
   occurs there twice; with them all other such items of the list, and lists of a single such item;
2. if there are none: items that are themselves `nn.Sequential`s, by the same rule;
3. if there are none: items with weights and without parts, of the longest lists of one class.

`all` is every module that itself holds weights, experts, the blocks and the model. `audit` is the same
without the model: what a later recomputation, layer by layer, begins and ends with. A module that its owner
is known never to call is left out of these, and named; asked for by name it is refused.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from torch import nn

from palm_torch.errors import CoverageError
from palm_torch.hooks import tap_refusals, tap_tree, wrappers
from palm_torch.hooks.tap_refusals import Refusal
from palm_torch.hooks.tap_tree import Place, Tree

if TYPE_CHECKING:
    from collections.abc import Iterator

Layers: TypeAlias = Literal["blocks", "all", "audit"] | Iterable[str] | Callable[[str, nn.Module], bool]
"""What to tap: a word, canonical names, or a function of canonical name and module."""

Conditional: TypeAlias = Iterable[str] | Callable[[str, nn.Module], bool]
"""What runs only sometimes, beside what is known to: canonical names, or a function of name and module."""

EXPERTS: Final = "experts"
ADAPTERS: Final = "adapters"
DECLARED: Final = "declared"
LAYERDROP: Final = "layerdrop"

_ADAPTED: Final = "peft.tuners.tuners_utils.BaseTunerLayer"
_NEAR: Final = 3
_SHOWN: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A module to tap.

    Attributes:
        place: The module and where it hangs.
        run: Canonical path of the list that it is an item of, beside others of its class; else None.
        conditional: Why it may be skipped: one of `EXPERTS`, `ADAPTERS`, `DECLARED`; `LAYERDROP` while its
            owner trains; None if every call of its owner has to call it.
    """

    place: Place
    run: str | None
    conditional: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """What `layers=` stands for in one model.

    Attributes:
        tree: All modules of the model.
        targets: What is tapped, in registration order.
        refused: Why it cannot be, or not all of it; empty if it can.
        left_out: Modules with weights that are not tapped because their owner never calls them.
    """

    tree: Tree
    targets: tuple[Target, ...]
    refused: tuple[Refusal, ...]
    left_out: tuple[Refusal, ...]


def select(model: nn.Module, layers: Layers = "blocks", *, conditional: Conditional = ()) -> Selection:
    """Returns what can be tapped, and refuses the rest in one error.

    Args:
        model: The model, in known wrappers or not.
        layers: What to tap.
        conditional: Modules that may be skipped by their owner; how often they ran is told, not checked.

    Raises:
        CoverageError: Naming every module that cannot be tapped, why, and what to do.
    """
    selection = survey(model, layers, conditional=conditional)
    if selection.refused:
        lines = [f"  {refusal}" for refusal in selection.refused[:_SHOWN]]
        more = len(selection.refused) - _SHOWN
        lines += [f"  and {more} more"] if more > 0 else []
        raise CoverageError("\n".join(["the model cannot be tapped as asked for:", *lines]))
    return selection


def survey(model: nn.Module, layers: Layers = "blocks", *, conditional: Conditional = ()) -> Selection:
    """Lists what can and what cannot be tapped, and why; arguments as in `select`.

    Raises:
        CoverageError: If it is no model, there is a name that it does not have, or nothing is selected.
    """
    if not isinstance(model, nn.Module):
        raise CoverageError(f"model: expected a torch.nn.Module, got {type(model).__name__}")
    tree = tap_tree.Tree(model)
    asked, by_word = _asked(tree, layers)
    uncalled = {place.path: refusal for place in asked for refusal in tap_refusals.uncalled(tree, place)}
    chosen = [place for place in asked if place.path not in uncalled or not by_word]
    if not chosen:
        raise CoverageError(f"layers={layers!r} selects no module of {type(model).__name__}: {_offer(tree)}")
    skipped = {place.path for place in _named_by(tree, conditional, what="conditional")}
    blocks = Counter((place.parents[0], wrappers.kind_of(place.module)) for place in chosen if place.parents)
    targets = tuple(_target(tree, place, blocks, skipped) for place in chosen)
    refused = [] if by_word else list(uncalled.values())
    refused += tap_refusals.refusals(model, tree, chosen)
    return Selection(tree, targets, tuple(refused), tuple(uncalled.values()) if by_word else ())


def _asked(tree: Tree, layers: Layers) -> tuple[list[Place], bool]:
    """Returns the places that `layers` stands for, and whether a word stood for them."""
    if not isinstance(layers, str):
        return _named_by(tree, layers, what="layers"), False
    if layers not in {"blocks", "all", "audit"}:
        raise CoverageError(
            f"layers={layers!r}: expected 'blocks', 'all', 'audit', a list of names or a function of name "
            f"and module; for one module write layers=[{layers!r}]"
        )
    blocks = _blocks(tree)
    if layers == "blocks":
        if not blocks:
            raise CoverageError(
                f"{type(tree.places[0].module).__name__} has no repeated blocks (items of one class in a "
                f"ModuleList or Sequential): {_offer(tree)}"
            )
        return blocks, True
    wanted = {place.path for place in blocks}
    wanted.update(place.path for place in tree.places if _is_layer(tree, place))
    if layers == "all":
        wanted.add("")
    return [place for place in tree.places if place.path in wanted], True


def _named_by(tree: Tree, names: Conditional, *, what: str) -> list[Place]:
    if callable(names):
        return [
            place
            for place in tree.places
            if tap_tree.has_forward(place.module) and names(place.path, place.module)
        ]
    if isinstance(names, (str, bytes)) or not isinstance(names, Iterable):
        raise CoverageError(f"{what}={names!r}: expected a list of names, or a function of name and module")
    listed = list(names)
    unknown = [name for name in listed if name not in tree.by_path]
    if unknown:
        near = difflib.get_close_matches(str(unknown[0]), tree.by_path, n=_NEAR, cutoff=0.5)
        hint = f"did you mean {', '.join(map(repr, near))}?" if near else _offer(tree)
        raise CoverageError(
            f"{what}: the model has no module {unknown[0]!r} ({len(unknown)} such names): {hint}"
        )
    wanted = {tree.by_path[name].path for name in listed}
    return [place for place in tree.places if place.path in wanted]


def _blocks(tree: Tree) -> list[Place]:
    for sequential in (False, True):
        found = list(_outermost(tree, tree.places[0], sequential=sequential))
        if found:
            wanted = {place.path for place in found}
            return [place for place in tree.places if place.path in wanted]
    runs = []
    for place in filter(lambda place: tap_tree.is_list(place.module), tree.places):
        items = [item for item in tree.children(place) if tap_tree.has_weights(item.module)]
        kinds = Counter(wrappers.kind_of(item.module) for item in items)
        if len(kinds) == 1 and len(items) > 1:
            runs.append(items)
    longest = max(map(len, runs), default=0)
    return [item for items in runs if len(items) == longest for item in items]


def _outermost(tree: Tree, place: Place, *, sequential: bool) -> Iterator[Place]:
    """Yields blocks below a place, without looking into blocks."""
    children = list(tree.children(place))
    blocks: list[Place] = []
    if tap_tree.is_list(place.module):
        parts = [item for item in children if _has_parts(tree, item, sequential=sequential)]
        kinds = Counter(wrappers.kind_of(item.module) for item in parts)
        if isinstance(place.module, nn.ModuleList) and (
            max(kinds.values(), default=0) > 1 or len(children) == 1
        ):
            blocks = parts
        else:
            blocks = [item for item in parts if kinds[wrappers.kind_of(item.module)] > 1]
    yield from blocks
    for child in children:
        if child not in blocks:
            yield from _outermost(tree, child, sequential=sequential)


def _has_parts(tree: Tree, place: Place, *, sequential: bool) -> bool:
    has_children = any(True for _ in tree.children(place)) and tap_tree.has_forward(place.module)
    weighs = any(True for _ in place.module.buffers()) or any(
        map(tap_tree.has_weights, place.module.modules())
    )
    return has_children and weighs and isinstance(place.module, nn.Sequential) == sequential


def _is_layer(tree: Tree, place: Place) -> bool:
    if not tap_tree.has_forward(place.module) or tap_tree.is_parametrization(tree, place):
        return False
    return (
        tap_tree.has_weights(place.module)
        or _is_adapted(place.module)
        or conditional_of(tree, place) == EXPERTS
    )


def _is_adapted(module: nn.Module) -> bool:
    """Says whether an adapter library put this module in the place of a layer."""
    return any(wrappers.qualified_name(kind) == _ADAPTED for kind in type(module).__mro__)


def _target(
    tree: Tree, place: Place, blocks: Counter[tuple[str, type[nn.Module]]], declared: set[str]
) -> Target:
    run = None
    if place.parents and tap_tree.is_list(tree.by_path[place.parents[0]].module):
        alone = blocks[place.parents[0], wrappers.kind_of(place.module)] == 1
        run = None if alone else place.parents[0]
    return Target(place, run, DECLARED if place.path in declared else conditional_of(tree, place))


def conditional_of(tree: Tree, place: Place) -> str | None:
    """Returns why the owner of a module may skip it; None if nothing of the kind is known."""
    if not place.parents:
        return None
    parent = tree.by_path[place.parents[0]]
    owner = tree.by_path[place.owners[0]].module
    if not tap_tree.has_forward(parent.module):
        if "expert" in parent.name.lower() or "expert" in type(place.module).__name__.lower():
            return EXPERTS
        if _is_adapted(owner):
            return ADAPTERS
    dropped = [getattr(holder, LAYERDROP, 0) for holder in (owner, getattr(owner, "config", None))]
    is_item = isinstance(parent.module, nn.ModuleList)
    return LAYERDROP if is_item and any(isinstance(rate, float) and rate > 0 for rate in dropped) else None


def _offer(tree: Tree) -> str:
    callable_places = [
        place.path for place in tree.places if place.path and tap_tree.has_forward(place.module)
    ]
    names = ", ".join(map(repr, callable_places[:_SHOWN]))
    more = ", …" if len(callable_places) > _SHOWN else ""
    return (
        f"pass layers='all', or layers=[names] of {names}{more}"
        if names
        else "pass layers=[''] for the model"
    )
