"""Committing to tensors that somebody has, whether a model ever put them out or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch

from palm_torch.commit.trace import ModuleCoverage, Site
from palm_torch.committing.capture import Capture
from palm_torch.committing.proof import Proof
from palm_torch.committing.spill import Kept

if TYPE_CHECKING:
    from palm_torch.commit.trace import NotCaptured
    from palm_torch.digest import Digest
    from support.serving import Served


@dataclass(frozen=True, slots=True)
class Replayed:
    """Brings tensors in place of a model's taps, and says of them what the taps would say.

    Attributes:
        tensors: Module → what it is said to have put out, call by call.
        capture: Where they go.
    """

    tensors: dict[str, list[torch.Tensor]]
    capture: Capture

    def __enter__(self) -> Self:
        """Hands everything over."""
        for name, calls in self.tensors.items():
            site = Site(name)
            for call, tensor in enumerate(calls):
                self.capture.capture(site, tensor, call)
        return self

    def __exit__(self, *error: object) -> None:
        """Has nothing to take off."""

    @property
    def coverage(self) -> tuple[ModuleCoverage, ...]:
        """As of a model that called every module each time."""
        return tuple(
            ModuleCoverage(name, "each call", len(calls), len(calls))
            for name, calls in sorted(self.tensors.items())
        )

    @property
    def recomputed(self) -> dict[str, int]:
        """No call of any."""
        return dict.fromkeys(self.tensors, 0)

    @property
    def not_captured(self) -> tuple[NotCaptured, ...]:
        """Nothing."""
        return ()


def commit(served: Served, *, model: Any = None, root: Digest | None = None) -> Proof:  # noqa: ANN401 (transformers has no types)
    """Commits to what is said to have been computed, and keeps it for openings.

    Args:
        served: The tensors, and the tokens that they are said to be of.
        model: The model that is claimed.
        root: Its weights root, bound in the trace.
    """
    kept = Kept(limit_bytes=1 << 30)
    capture = Capture(kept=kept)
    with Proof(Replayed(served.tensors, capture), capture, kept, module=model) as proof:
        pass
    proof.add_facts({}, model=root)
    return proof
