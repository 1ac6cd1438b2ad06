"""What a tap cannot see, known before anything runs: each case with the reason and what to do instead.

What cannot be known before, such as a call of ``module.forward(x)``, shows as missing calls at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import fx, nn

from palm_torch.hooks import tap_compiled, tap_tree, wrappers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from palm_torch.hooks.tap_tree import Place, Tree

_SHOWN: Final = 3
_DATA_PARALLEL: Final = "torch.nn.parallel.data_parallel.DataParallel"
_TORCH: Final = "torch.nn."
_STORE: Final = "torch.ao.nn.quantized.modules.linear.LinearPackedParams"
"""What holds the packed weights of a quantized layer."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that cannot be tapped.

    Attributes:
        path: Canonical path; empty for the model.
        why: What stands against it.
        instead: What to do.
    """

    path: str
    why: str
    instead: str

    def __str__(self) -> str:
        """Returns it in one line, for messages."""
        return f"{self.path or 'the model'}: {self.why}; {self.instead}"


def refusals(model: nn.Module, tree: Tree, chosen: Iterable[Place]) -> list[Refusal]:
    """Returns all that stands against tapping some modules of a model.

    Args:
        model: The model as it was handed in, with its wrappers.
        tree: Its modules.
        chosen: What is to be tapped.
    """
    chosen = list(chosen)
    found = [*_wrapped(model), *_exported(tree), *_compiled(model, tree, chosen), *_meta(tree)]
    for place in chosen:
        found.extend(_of_place(place))
    return [*found, *_fused(tree, chosen)]


def uncalled(tree: Tree, place: Place) -> Iterator[Refusal]:
    """Yields a refusal if a module is one that its owner never calls."""
    if not place.parents:
        return
    parent = tree.by_path[place.parents[0]].module
    if isinstance(parent, nn.MultiheadAttention):
        yield Refusal(
            place.path,
            "nn.MultiheadAttention reads its weights and never calls it",
            f"tap {place.parents[0]!r}, whose output it makes",
        )
    if wrappers.qualified_name(type(place.module)) == _STORE:
        yield Refusal(
            place.path,
            "it holds the packed weights of a quantized layer, which reads and never calls it",
            f"tap {place.parents[0]!r}, whose output is made with them",
        )
    for path, holder in _traced_above(tree, place):
        if not _is_called(holder, place.path[len(path) + 1 :] if path else place.path):
            yield Refusal(
                place.path,
                f"the traced graph of {path or 'the model'} goes around it",
                "tap the model that was traced, before tracing",
            )


def _traced_above(tree: Tree, place: Place) -> Iterator[tuple[str, fx.GraphModule]]:
    path = place.path
    while path:
        path = path.rpartition(".")[0]
        module = tree.by_path[path].module
        if isinstance(module, fx.GraphModule):
            yield path, module


def _is_called(holder: fx.GraphModule, path: str) -> bool:
    called = {str(node.target) for node in holder.graph.nodes if node.op == "call_module"}
    return any(path == target or path.startswith(f"{target}.") for target in called)


def _of_place(place: Place) -> Iterator[Refusal]:
    module = place.module
    if isinstance(module, (torch.jit.ScriptModule, torch.jit.ScriptFunction)):
        yield Refusal(
            place.path,
            f"{type(module).__name__} runs as a scripted or traced graph, without its hooks",
            "tap the module that it was made of",
        )
    elif not tap_tree.has_forward(module):
        items = [f"{place.path}.{name}" if place.path else name for name, _ in module.named_children()]
        shown = ", ".join(map(repr, items[:_SHOWN])) + (", …" if len(items) > _SHOWN else "")
        instead = f"name its items: {shown}" if items else "leave it out"
        yield Refusal(place.path, f"{type(module).__name__} holds modules and has no forward pass", instead)


def _fused(tree: Tree, chosen: Iterable[Place]) -> Iterator[Refusal]:
    """Yields a refusal for each layer that would be computed otherwise if it, or a part of it, had a hook."""
    paths = {path for place in chosen for path in _above(place.path)}
    for place in tree.places:
        module = place.module
        if place.path in paths and isinstance(module, nn.TransformerEncoderLayer) and _may_be_fused(module):
            yield Refusal(
                place.path,
                "without hooks torch may run this layer as one fused kernel, with hooks in it it never does, "
                "so the tapped outputs would not be those of the plain run",
                "call torch.backends.mha.set_fastpath_enabled(False) first, for tapped and plain runs alike",
            )


def _above(path: str) -> Iterator[str]:
    """Yields a path and those of all modules that it lies in."""
    yield path
    while path:
        path = path.rpartition(".")[0]
        yield path


def _may_be_fused(layer: nn.TransformerEncoderLayer) -> bool:
    attention: Any = layer.self_attn  # its annotations say less than its arguments
    return (
        not layer.training
        and torch.backends.mha.get_fastpath_enabled()
        and attention.batch_first
        and attention.in_proj_bias is not None
        and bool(layer.activation_relu_or_gelu)
        and attention.num_heads % 2 == 0
    )


def _wrapped(model: nn.Module) -> Iterator[Refusal]:
    while (attribute := wrappers.wrapped_attribute(model)) is not None:
        devices = getattr(model, "device_ids", None) or ()
        if wrappers.qualified_name(type(model)) == _DATA_PARALLEL and len(devices) > 1:
            yield Refusal(
                "",
                f"DataParallel runs copies of it on {len(devices)} devices, and copies are not the model",
                "use DistributedDataParallel, one process for each device",
            )
        model = getattr(model, attribute)


def _exported(tree: Tree) -> Iterator[Refusal]:
    for place in tree.places:
        module = place.module
        if isinstance(module, fx.GraphModule) and _is_exported(module):
            yield Refusal(
                place.path,
                "it was exported: its graph holds operators and calls no module",
                "tap the model that was exported, in eager mode or under torch.compile",
            )


def _is_exported(module: fx.GraphModule) -> bool:
    overload = torch._ops.OpOverload  # noqa: SLF001 (it has no public name)
    return any(isinstance(node.target, overload) for node in module.graph.nodes)


def _compiled(model: nn.Module, tree: Tree, chosen: Iterable[Place]) -> Iterator[Refusal]:
    instead = "call torch.compiler.reset() before the block: it is compiled anew inside, with them"
    if tap_compiled.has_stale_graphs(model, (place.module for place in tree.places)):
        yield Refusal(
            "", "it was compiled and has run before, and its graphs go on running without the taps", instead
        )
    elif (caller := tap_compiled.stale_caller({_own_kind(tree, place) for place in chosen})) is not None:
        yield Refusal(
            "",
            f"{caller!r}, which was compiled and has run before, calls modules of these classes, and its "
            "graphs go on running without the taps",
            instead,
        )


def _own_kind(tree: Tree, place: Place) -> type[nn.Module]:
    """Returns the class of a module or, if that is one of torch, of the nearest above it that is not.

    What calls layers of torch is in all models, and says little of whose they are.
    """
    kinds = (type(tree.by_path[path].module) for path in _above(place.path))
    return next((kind for kind in kinds if not kind.__module__.startswith(_TORCH)), type(place.module))


def _meta(tree: Tree) -> Iterator[Refusal]:
    empty = [
        f"{place.path}.{name}" if place.path else name
        for place in tree.places
        for named in (place.module.named_parameters, place.module.named_buffers)
        for name, tensor in named(recurse=False)
        if tensor.is_meta
    ]
    if empty:
        names = ", ".join(empty[:_SHOWN]) + (", …" if len(empty) > _SHOWN else "")
        yield Refusal(
            "",
            f"{len(empty)} of its tensors are on the meta device, without values ({names})",
            "load the weights first; weights that are fetched layer by layer cannot be bound to the outputs",
        )
