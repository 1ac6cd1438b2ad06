"""Modules that keep state which is neither parameter nor buffer: it is saved and loaded, and in no digest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from palm_torch.errors import CoverageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from palm_torch.hooks.discovery import Owners


def keepers(owners: Iterable[Owners]) -> list[str]:
    """Returns path and class of every module that defines ``get_extra_state``, each once.

    What it returns is not asked for: that is the module's own code, and may be costly.
    """
    return sorted(
        {
            f"{path or 'the model'} ({type(module).__name__})"
            for each in owners
            for path, module in each.named_modules()
            if type(module).get_extra_state is not nn.Module.get_extra_state
        }
    )


def require_none(model: nn.Module) -> None:
    """Checks that what a model saves are parameters and buffers, as far as its modules' classes say.

    Packed weights of quantised modules are the case in point: they are saved, and no measurement sees them.

    Raises:
        CoverageError: If a module saves something else.
    """
    for path, module in model.named_modules():
        kind = type(module)
        own = kind._save_to_state_dict is not nn.Module._save_to_state_dict  # noqa: SLF001 (what saves a module's own state)
        if own or kind.get_extra_state is not nn.Module.get_extra_state:
            raise CoverageError(
                f"{path or 'the model'}: a {kind.__name__} saves state that is neither parameter nor buffer, "
                "such as packed weights or scales, and would be in no measurement: expected weights that are "
                "parameters and buffers; answer with the model as it was before it was converted"
            )
