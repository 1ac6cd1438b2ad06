"""Commitments: multiset hashes, Merkle trees, manifests, traces and the weights root; pure and torch-free.

``palm_torch.commit(model)`` commits to what a model computes. The package itself is what users call:
importing it, or anything in it, brings no torch; calling it does.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING, Any, Final

from palm_torch import extras

if TYPE_CHECKING:
    from collections.abc import Callable

_CALLED: Final = "palm_torch.committing.entry"


class _CallablePackage(types.ModuleType):
    """A package that can be called; in all else it is a module like others."""

    def __call__(self, model: object, **options: object) -> Any:  # noqa: ANN401 (a Proof, whose module has torch)
        """Commits to what a model computes inside a ``with`` block.

        Args:
            model: The module.
            options: ``layers``, ``conditional``, ``scheme``, ``threads``, ``queue_bytes``, ``keep``,
                ``keep_bytes`` and ``encrypt``: see `palm_torch.committing.entry.commit`.

        Raises:
            MissingExtraError: If ``palm-torch[torch]`` is not installed.
            PalmTorchError: As `palm_torch.committing.entry.commit`.
        """
        with extras.needed("torch", for_what="palm_torch.commit(model)"):
            commit: Callable[..., Any] = importlib.import_module(_CALLED).commit
        return commit(model, **options)


sys.modules[__name__].__class__ = _CallablePackage
