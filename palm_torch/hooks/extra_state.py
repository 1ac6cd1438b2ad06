"""Modules that keep state which is neither parameter nor buffer: it is saved and loaded, and in no digest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

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
