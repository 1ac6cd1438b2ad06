"""What brings tensors to a capture: hooks on a model, installed for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from palm_torch.commit.trace import ModuleCoverage, NotCaptured


class Bringer(Protocol):
    """What hooks a model and calls the capture: `palm_torch.hooks.taps.Taps`."""

    def __enter__(self) -> object:
        """Installs the hooks."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> object:
        """Removes them; raises CoverageError if a tapped module was not seen as often as it should be."""

    @property
    def coverage(self) -> tuple[ModuleCoverage, ...]:
        """How often each tapped module was seen, by path."""

    @property
    def recomputed(self) -> Mapping[str, int]:
        """How many calls of each tapped module were seen inside of a backward pass."""

    @property
    def not_captured(self) -> tuple[NotCaptured, ...]:
        """Outputs that were seen and left out."""
