"""Which modules are alive, as Python's garbage collector knows them.

A loop hands parameters to an optimizer, not modules; the modules are found among everything that is
alive. Nothing is called on objects of foreign types: `type` never runs their code, `isinstance` may.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
from typing import TYPE_CHECKING, Final, TypeVar

from torch import nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from palm_torch.errors import CoverageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor

T = TypeVar("T")

KINDS: Final = (nn.Module, Optimizer, GradScaler)
"""What is looked for among everything that is alive."""

TESTED_TORCH: Final = "2.13"
"""The torch version whose private names this package was tested with."""


_seen: list[list[object]] = []
"""What the look that is under way saw; empty outside of `one_look`."""


@contextlib.contextmanager
def one_look() -> Iterator[None]:
    """Lets everything inside share one look at what is alive: a look costs some 50 ms in a busy process."""
    if _seen:
        yield
        return
    objects = gc.get_objects()
    kinds = list(map(type, objects))  # types are compared in bulk: there are some 300,000 objects
    wanted = {kind for kind in set(kinds) if issubclass(kind, KINDS)}
    _seen.append(list(itertools.compress(objects, map(wanted.__contains__, kinds))))
    del objects
    try:
        yield
    finally:
        _seen.clear()


def instances(kind: type[T]) -> list[T]:
    """Returns every live object of one of `KINDS`, subclasses included.

    Objects that `gc.freeze` has put aside are invisible to the collector, and so to this function.
    """
    with one_look():
        return [item for item in _seen[0] if isinstance(item, kind)]


def modules() -> list[nn.Module]:
    """Returns every live module whose construction has begun with ``super().__init__()``."""
    return [module for module in instances(nn.Module) if "_modules" in vars(module)]


def optimizers() -> list[Optimizer]:
    """Returns every live optimizer that has parameter groups."""
    return [item for item in instances(Optimizer) if vars(item).get("param_groups")]


def roots(alive: Iterable[nn.Module]) -> list[nn.Module]:
    """Returns those modules that no other of them has as a child."""
    alive = list(alive)
    children = {id(child) for module in alive for child in module.children() if child is not module}
    return [module for module in alive if id(module) not in children]


def persistent_buffers(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yields the module's own buffers that its state dict holds.

    Raises:
        CoverageError: If this version of torch does not say which buffers those are.
    """
    transient = getattr(module, "_non_persistent_buffers_set", None)
    if transient is None:
        raise missing_private_name(module, "_non_persistent_buffers_set")
    for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
        if name not in transient:
            yield name, buffer


def missing_private_name(owner: object, name: str) -> CoverageError:
    """Returns the error for a private name of torch that is no longer there."""
    from torch import __version__  # noqa: PLC0415 (only needed for this message)

    return CoverageError(
        f"torch {__version__}: {type(owner).__name__} has no attribute {name!r}, which is measured here; "
        f"expected torch {TESTED_TORCH}, the version this was tested with: install that one"
    )
