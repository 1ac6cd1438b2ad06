"""Graphs that torch.compile made, and whether they know of the taps.

A graph has the hooks in it that were there when it was made, and by default nobody looks whether they still
are, not even for another model of the same class. Inside of a block the compiler is told to look. What it
makes there may be used again, in that block and in later ones; what it made elsewhere runs without the taps.
"""

from __future__ import annotations

import contextlib
import sys
import weakref
from typing import TYPE_CHECKING, Any, Final

import torch

from palm_torch.hooks import live, wrappers

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from types import CodeType

    from torch import nn

_DYNAMO: Final = "torch._dynamo"
_OPTIMIZED: Final = "torch._dynamo.eval_frame.OptimizedModule"
_ORIGINAL: Final = "_torchdynamo_orig_callable"
_KIND: Final = "get_type_of_guarded_value"

_made_inside: Final[weakref.WeakSet[CodeType]] = weakref.WeakSet()


def leave_alone(kind: type) -> None:
    """Keeps the compiler away from calls of a class's objects, and from all that they call.

    A hook of the outermost module runs beside the graph and not in it; compiled, it would be a graph of its
    own. What is called inside of something that is being compiled is compiled with it as before.
    """
    frames: Any = getattr(torch._C._dynamo, "eval_frame", None)  # noqa: SLF001 (torch has no public name)
    actions, strategy, mark = (
        getattr(frames, name, None)
        for name in ("_FrameAction", "_FrameExecStrategy", "set_code_exec_strategy")
    )
    if actions is None or strategy is None or mark is None:
        raise live.missing_private_name(frames, "set_code_exec_strategy")
    mark(vars(kind)["__call__"].__code__, strategy(actions.SKIP, actions.SKIP))


def has_stale_graphs(model: nn.Module, modules: Iterable[nn.Module]) -> bool:
    """Says whether a model that is compiled, in whole or in part, has graphs that were not made in a block.

    Args:
        model: The model, with its wrappers.
        modules: All modules in it, without wrappers.
    """
    modules = list(modules)
    if not _is_compiled(model, modules):
        return False
    return any(graph not in _made_inside for graph in _graphs(model, modules))


def stale_caller(kinds: Collection[type]) -> str | None:
    """Returns the name of a compiled function with a graph that was not made in a block and calls a module.

    A function that calls the model has the model's calls in its own graph, and so has the call that
    `transformers` compiles for the steps of `generate`. A graph tells the classes of what it calls, and not
    which objects these were.

    Args:
        kinds: Classes of modules.
    """
    for code, entry in _entries():
        if entry.code not in _made_inside and not _classes(entry).isdisjoint(kinds):
            return code.co_qualname
    return None


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Lets graphs that are made in the ``with`` block look at the hooks, and remembers these graphs."""
    before = {entry.code for _, entry in _entries()}
    with contextlib.ExitStack() as stack:
        if _DYNAMO in sys.modules:
            stack.enter_context(_config().patch(skip_nnmodule_hook_guards=False))
        try:
            yield
        finally:
            _made_inside.update({entry.code for _, entry in _entries()} - before)


def _config() -> Any:  # noqa: ANN401 (a module that makes up its attributes)
    config = sys.modules[_DYNAMO].config
    if not hasattr(config, "skip_nnmodule_hook_guards"):
        raise live.missing_private_name(config, "skip_nnmodule_hook_guards")
    return config


def _is_compiled(model: nn.Module, modules: Iterable[nn.Module]) -> bool:
    return any(True for _ in _compiled(model, modules))


def _compiled(model: nn.Module, modules: Iterable[nn.Module]) -> Iterator[Any]:
    """Yields what stands for each module that is compiled: the wrapper's call, or the module's own."""
    for module in (*model.modules(), *modules):
        if any(wrappers.qualified_name(kind) == _OPTIMIZED for kind in type(module).__mro__):
            yield module.forward
        own = getattr(module, "_compiled_call_impl", None)
        if own is not None:
            yield own


def _graphs(model: nn.Module, modules: Iterable[nn.Module]) -> Iterator[CodeType]:
    """Yields the code of each graph that was made of the forward pass of a module, or of what wraps it."""
    if _DYNAMO not in sys.modules:
        return
    entries = _lister()
    modules = list(modules)
    calls = [getattr(call, _ORIGINAL, None) for call in _compiled(model, modules)]
    codes = {code for call in (*(module.forward for module in modules), *calls) for code in _codes(call)}
    for code in codes:
        for entry in entries(code):
            yield entry.code


def _entries() -> Iterator[tuple[CodeType, Any]]:
    """Yields all graphs of this process, each behind the function that it was made of."""
    if _DYNAMO not in sys.modules:
        return
    frames = sys.modules[_DYNAMO].convert_frame
    seen = getattr(getattr(frames, "input_codes", None), "seen", None)
    if seen is None:
        raise live.missing_private_name(frames, "input_codes.seen")
    entries = _lister()
    for code in filter(None, [reference() for reference in seen]):
        for entry in entries(code):
            yield code, entry


def _lister() -> Any:  # noqa: ANN401 (of C)
    frames = sys.modules[_DYNAMO].eval_frame
    lister = getattr(frames, "_debug_get_cache_entry_list", None)
    if lister is None:
        raise live.missing_private_name(frames, "_debug_get_cache_entry_list")
    return lister


def _classes(entry: Any) -> set[object]:  # noqa: ANN401 (of C)
    """Returns the classes of all that a graph compares before it runs, as it does with what it calls."""
    found: set[object] = set()
    pending: list[Any] = [getattr(entry.guard_manager, "root", None)]
    while pending:
        guarded = pending.pop()
        if not hasattr(guarded, _KIND):
            raise live.missing_private_name(guarded, _KIND)
        found.add(guarded.get_type_of_guarded_value())
        pending += guarded.get_child_managers()
        if hasattr(guarded, "get_key_value_managers"):
            pairs = guarded.get_key_value_managers().values()
            pending += [part for pair in pairs for part in pair if part is not None]
    return found


def _codes(call: Any) -> Iterator[CodeType]:  # noqa: ANN401 (anything that can be called)
    """Yields the code of a function and of those that decorators put it into."""
    while call is not None:
        code = getattr(call, "__code__", None)
        if code is not None:
            yield code
        call = getattr(call, "__wrapped__", None)
