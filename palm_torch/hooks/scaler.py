"""Steps that gradient scalers skipped, read off their loss scale.

When `torch.amp.GradScaler` finds an infinite gradient it does not call the optimizer, so no step hook
fires; it lowers its scale instead. Live scalers are found by the garbage collector and their scale is
looked at again and again; each lowering is one iteration without a step. The scale is read through private
names, because the public ones wait for the device; their absence is an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch.amp import GradScaler

from palm_torch.hooks import live

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_torch.hooks.deferred import DeferredReads


@dataclass(frozen=True, slots=True)
class ScalerCounts:
    """What one gradient scaler did.

    Attributes:
        initial: Scale it began with.
        least: Least scale seen.
        last: Scale at the end.
        lowered: Iterations after which it lowered the scale: at least one optimizer was skipped in each.
    """

    initial: float
    least: float
    last: float
    lowered: int


class ScalerWatch:
    """Counts what live gradient scalers skip, one poll after the other.

    Lowerings between two polls are counted from the ratio of the scales; polls at every delivery and every
    step see each one alone unless the script calls `GradScaler.update` more often than that.
    """

    __slots__ = ("_held", "_reads", "_scalers")

    def __init__(self, reads: DeferredReads) -> None:
        self._reads = reads
        self._scalers: dict[int, _Scaler] = {}
        self._held: list[ScalerCounts] = []

    def resume(self, held: Sequence[ScalerCounts]) -> None:
        """Goes on from what `counts` returned: scalers found from now on are those, in this order."""
        self._held = list(held)

    def find(self, *, at_begin: bool = False) -> None:
        """Looks for scalers that are alive and not yet known.

        Args:
            at_begin: Whether the run begins now: what a scaler did so far is then not of this run, and
                its present scale is the initial one. Later ones are followed from their construction.

        Raises:
            CoverageError: If this version of torch keeps the scale elsewhere.
        """
        for item in live.instances(GradScaler):
            if id(item) not in self._scalers and item.is_enabled():
                number = len(self._scalers)
                before = self._held[number] if number < len(self._held) else None
                self._scalers[id(item)] = scaler = _Scaler(item, before)
                if at_begin:
                    scaler.begin(self._reads)
        self.poll(force=True)

    def poll(self, *, force: bool = False) -> None:
        """Looks at the scale of each known scaler.

        Args:
            force: Whether to read scales whose version counter says that they did not change, too.

        Raises:
            CoverageError: If this version of torch keeps the scale elsewhere.
        """
        for scaler in self._scalers.values():
            scaler.poll(self._reads, force=force)

    def counts(self) -> tuple[ScalerCounts, ...]:
        """Returns the counts of every scaler found, in the order found; there may be more to come."""
        self.find()
        self._reads.finish()
        found = tuple(scaler.result() for scaler in self._scalers.values())
        return found + tuple(self._held[len(found) :])


class _Scaler:
    __slots__ = ("_hint", "_initial", "_last", "_least", "_lowered", "_scaler")

    def __init__(self, scaler: GradScaler, before: ScalerCounts | None) -> None:
        self._scaler = scaler  # held, so that its id stays its own
        self._initial = self._last = self._least = float(_private(scaler, "_init_scale"))
        self._lowered = 0
        if before is not None:  # the scale it begins with was loaded: no step was skipped for it
            self._initial, self._lowered = before.initial, before.lowered
            self._least = min(before.least, self._last)
        self._hint: tuple[int, int] | None = None

    def begin(self, reads: DeferredReads) -> None:
        scale = _private(self._scaler, "_scale")
        if scale is not None:
            reads.read(scale, self._begin)

    def poll(self, reads: DeferredReads, *, force: bool) -> None:
        scale = _private(self._scaler, "_scale")
        if scale is None:  # made when the first loss is scaled
            return
        hint = (id(scale), -1 if scale.is_inference() else scale._version)  # noqa: SLF001 (no public name)
        if force or hint != self._hint:
            self._hint = hint
            reads.read(scale, self._scale)

    def _begin(self, scale: float) -> None:
        self._initial = self._last = self._least = scale

    def _scale(self, scale: float) -> None:
        if scale < self._last:
            factor = self._scaler.get_backoff_factor()
            times = math.log(scale / self._last) / math.log(factor) if scale > 0 else 1
            self._lowered += max(1, round(times))
        self._last = scale
        self._least = min(self._least, scale)

    def result(self) -> ScalerCounts:
        return ScalerCounts(self._initial, self._least, self._last, self._lowered)


def _private(scaler: GradScaler, name: str) -> Any:  # noqa: ANN401 (torch does not say what it is)
    try:
        return getattr(scaler, name)
    except AttributeError as error:
        raise live.missing_private_name(scaler, name) from error
