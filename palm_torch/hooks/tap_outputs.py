"""What a module returned, as tensors under paths: one walk over tuples, dictionaries and dataclasses.

The path of a tensor that is the whole output is empty; an item of a tuple or a list adds its position, a
value of a dictionary its key and a field of a dataclass its name, joined by dots. Plain numbers, text, None
and the caches of `transformers` are no activations: they are told, and left out. Everything else is refused.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import torch

from palm_torch.errors import CoverageError
from palm_torch.hooks import live, tensors
from palm_torch.hooks.wrappers import qualified_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import nn

PLAIN: Final = (type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device)
"""Types of values beside the tensors that are left out."""

_TRANSFORMERS: Final = "transformers."
_CACHES: Final = "transformers.cache_utils"
_caches: tuple[type, ...] = ()

_functorch: Final = getattr(torch._C, "_functorch", None)  # noqa: SLF001 (torch tells it nowhere else)
_transform: Final = getattr(_functorch, "peek_interpreter_stack", None)


def leaves(output: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Walks an output.

    Args:
        output: What the module returned, or a part of it.
        path: Path of the part.

    Yields:
        Path and value of each tensor, and of each value that is left out (`kind_of` names it).

    Raises:
        CoverageError: If there is a value of another type.
    """
    if isinstance(output, torch.Tensor) or _is_left_out(output):
        yield path, output
        return
    before = f"{path}." if path else ""
    if isinstance(output, (tuple, list)):
        for position, item in enumerate(output):
            yield from leaves(item, f"{before}{position}")
    elif isinstance(output, Mapping):
        for key, item in output.items():
            if not isinstance(key, str) or "\n" in key:
                raise CoverageError(f"output {path!r} has the key {key!r}: expected a name of one line")
            yield from leaves(item, f"{before}{key}")
    elif dataclasses.is_dataclass(output) and not isinstance(output, type):
        for field in dataclasses.fields(output):
            yield from leaves(getattr(output, field.name), f"{before}{field.name}")
    else:
        where = f"output {path!r}" if path else "the output"
        raise CoverageError(
            f"{where} is a {qualified_name(type(output))}: expected a tensor, or tuples, lists, dictionaries "
            "and dataclasses of them; leave the module out of layers=, or let it return one of these"
        )


def kind_of(value: object) -> str:
    """Returns what a value that is left out is, in words."""
    if value is None:
        return "None"
    if isinstance(value, (tuple, list, Mapping)):
        return f"empty {type(value).__name__}"
    return type(value).__name__


def require_dense(tensor: torch.Tensor, *, what: str) -> None:
    """Checks, without reading a value, that a tensor has bytes of its own.

    Args:
        tensor: A tensor that a module returned.
        what: Name of it, for messages.

    Raises:
        CoverageError: If it has none or not in one piece: distributed, sparse, nested, quantized, on the meta
            device, being traced, or inside of a transform such as `torch.func.vmap`.
    """
    if _transform is None:
        raise live.missing_private_name(torch._C, "_functorch.peek_interpreter_stack")  # noqa: SLF001 (as above)
    if _transform() is not None:
        raise CoverageError(
            f"{what}: the module runs inside of a torch.func transform such as vmap or grad, where it "
            "computes other things than its outputs; call it outside of the transform"
        )
    if tensors.is_ordinary(tensor):
        return
    if tensors.is_distributed(tensor):
        raise CoverageError(
            f"{what}: a {type(tensor).__name__}, of which this rank holds a part; let the module return the "
            "whole (`full_tensor()`) or its part (`to_local()`), or leave it out of layers="
        )
    tensors.require_bytes(tensor, what=what)


def first_tensor(value: object) -> torch.Tensor | None:
    """Returns the tensor that a value is or begins with; None if that is no tensor."""
    while isinstance(value, (tuple, list)) and value:
        value = value[0]
    return value if isinstance(value, torch.Tensor) else None


def learn_caches(modules: Iterable[nn.Module]) -> None:
    """Looks up the classes of caches that a model may return: those of `transformers`, and of its own files.

    Args:
        modules: All modules of the model.
    """
    global _caches  # noqa: PLW0603 (a graph tells what it compared with; a tuple of classes it can tell)
    files = {_CACHES, *(kind.__module__ for kind in set(map(type, modules)))}
    found = [
        kind
        for name in sorted(files)
        if name.startswith(_TRANSFORMERS) and name in sys.modules
        for kind in vars(sys.modules[name]).values()
        if isinstance(kind, type) and kind.__name__.endswith("Cache") and kind not in _caches
    ]
    _caches = (*_caches, *found)


def _is_left_out(value: object) -> bool:
    if isinstance(value, (*PLAIN, *_caches)):
        return True
    return isinstance(value, (tuple, list, dict)) and not value
