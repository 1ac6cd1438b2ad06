"""Modules that only wrap another: the one table of them, and walking a model as if they were not there.

A wrapper is known by its class (or a base class), never by the text of a name, so a submodule that
somebody called ``module`` keeps its name. Classes are compared by qualified name, because importing some
of them takes longer than a training step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import nn

WRAPPERS: Final = {
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch.nn.parallel.data_parallel.DataParallel": "module",
}
"""Qualified class name of each known wrapper, and the attribute that holds the module it wraps."""

_CHECKPOINTING: Final = "torch.distributed.algorithms._checkpoint.checkpoint_wrapper"
ADAPTERS: Final = {
    "peft.peft_model.PeftModel": "base_model",
    "peft.mixed_model.PeftMixedModel": "base_model",
    "peft.tuners.tuners_utils.BaseTuner": "model",
    f"{_CHECKPOINTING}.ActivationWrapper": "_checkpoint_wrapped_module",
}
"""The same for classes that only wrap as long as they hold nothing else: prompt encoders are weights."""

SHARDED: Final = "torch.distributed.fsdp.FSDPModule"
"""Qualified name of the class that `fully_shard` puts before a module's own: it makes a new class of both."""


def qualified_name(kind: type) -> str:
    """Returns ``module.QualifiedName`` of a class."""
    return f"{kind.__module__}.{kind.__qualname__}"


def kind_of(module: nn.Module) -> type[nn.Module]:
    """Returns the class of a module as its author wrote it, without what `fully_shard` put before it."""
    kind = type(module)
    if is_sharded(module):
        own = [base for base in kind.__bases__ if SHARDED not in map(qualified_name, base.__mro__)]
        return own[0] if len(own) == 1 else kind
    return kind


def is_sharded(module: nn.Module) -> bool:
    """Returns whether `fully_shard` was applied to this very module."""
    return any(qualified_name(base) == SHARDED for base in type(module).__bases__)


def reshard(modules: Iterable[nn.Module]) -> None:
    """Lets go of whole parameters that `fully_shard` gathered for a forward pass; each rank keeps its part.

    A root module keeps them after a forward pass without a backward one, such as an evaluation.
    """
    for module in modules:
        if is_sharded(module):
            module.reshard()  # type: ignore[operator]  # what `fully_shard` added to it


def wrapped_attribute(module: nn.Module) -> str | None:
    """Returns the attribute under which a known wrapper holds its module, or None for other modules."""
    for kind in type(module).__mro__:
        name = qualified_name(kind)
        if (attribute := WRAPPERS.get(name)) is not None:
            return attribute
        if (attribute := ADAPTERS.get(name)) is not None:
            return attribute if _holds_only(module, attribute) else None
    return None


def unwrap(module: nn.Module) -> nn.Module:
    """Returns the module inside every known wrapper, or the module itself."""
    while (attribute := wrapped_attribute(module)) is not None:
        module = getattr(module, attribute)
    return module


def named_modules(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Walks a module and everything below it, in registration order, with wrappers left out.

    Args:
        module: Where to begin.
        prefix: Canonical path of `module`, empty for the root.

    Yields:
        Canonical path and module. A module registered in several places appears at each of them.
    """
    inner = unwrap(module)
    yield prefix, inner
    for name, child in _children(inner):
        yield from named_modules(child, f"{prefix}.{name}" if prefix else name)


def _holds_only(module: nn.Module, attribute: str) -> bool:
    own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
    return [name for name, _ in _children(module)] == [attribute] and not own


def _children(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yields direct children, also those registered twice (`named_children` drops the second)."""
    for name, child in module._modules.items():  # noqa: SLF001 (the public iterators drop repeats)
        if child is not None:
            yield name, child
