"""A verifier who runs the claimed model over the claimed tokens as it suits him, and keeps some rows."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch

from support import serving
from support.serving import Setting
from support.world import World

if TYPE_CHECKING:
    from support.serving import Served

    Rows = dict[str, torch.Tensor]

SETTINGS: Final = (
    Setting(),
    Setting(attention="eager"),
    Setting(others=3),
    Setting(threads=2),
    Setting(float32=True),
    Setting(float32=True, attention="eager", others=3),
)
"""How he runs it: all tokens at once, where the prover went token by token; more may differ, too."""

SAME: Final = tuple(number for number, setting in enumerate(SETTINGS) if not setting.float32)
WIDER: Final = tuple(number for number, setting in enumerate(SETTINGS) if setting.float32)
"""Numbers of the settings in the prover's precision, and in a wider one."""


@dataclass(slots=True)
class Verifier:
    """Someone who has the claimed model.

    Attributes:
        world: Where it is.
        modules: Which rows he keeps.
    """

    world: World
    modules: list[str]
    _wide: Any = field(default=None)

    def rows(self, tokens: torch.Tensor, setting: Setting) -> Rows:
        """Returns module → [T, C], bfloat16, of the tokens that were fed.

        Args:
            tokens: int64 [1, T], of which the last was not fed.
            setting: How.
        """
        fed = tokens[:, :-1]
        others = self.world.texts[-1 - setting.others : -1, : fed.shape[1]]
        if setting.float32 and self._wide is None:
            self._wide = copy.deepcopy(self.world.model).float()
        model = self._wide if setting.float32 else self.world.model
        found = serving.read(model, torch.cat([fed, others]), self.modules, setting)
        return {name: rows.bfloat16() for name, rows in found.items()}


def shown(served: Served, modules: list[str]) -> Rows:
    """Returns the rows that a prover shows."""
    return {name: served.rows(name) for name in modules}
