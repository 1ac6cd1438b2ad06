"""Accelerate's loaders fetch a batch before they hand on the one before: a batch counts when it is handed on.

`accelerate.prepare`, and with it the Trainer of transformers, puts a stock loader into a generator of its
own that is always one batch ahead, to know the last one when it comes. So what was fetched for a batch is
held here until the generator asks for the next one, which it does right before it yields. A batch that
was fetched when the loop ended is never yielded, and never counts; neither do batches that are skipped.

The generators are known by name, and say in a local variable how many batches they have passed. At every
fetch that has to be one less than the batches fetched; another version of accelerate that looks further
ahead, or not at all, is refused instead of miscounted.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from palm_torch.errors import CoverageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, FrameType

    from palm_torch.recorder import Reads

Batch: TypeAlias = "Sequence[Reads]"

_MODULE: Final = "accelerate.data_loader"

_DEPTH: Final = 3
"""Frames between a generator and what it iterates, at most: a method of its own stands between."""


class _Generator(NamedTuple):
    """One of accelerate's generators.

    Attributes:
        passed: Local variable with the number of batches that were passed: yielded or skipped.
        ahead: Batches that are fetched before the first is yielded.
    """

    passed: str
    ahead: int


_GENERATORS: Final = {
    "DataLoaderShard.__iter__": _Generator("batch_index", 1),
    "DataLoaderDispatcher.__iter__": _Generator("batch_index", 1),
    "SkipDataLoader.__iter__": _Generator("index", 0),
}


class Lookahead:
    """What one pass of a generator has fetched and not yet yielded.

    Args:
        code: The generator's code.
        skips: Batches at the beginning that are fetched and not yielded.
        spreads: Whether batches are handed to other processes.
    """

    def __init__(self, code: CodeType, *, skips: int, spreads: bool) -> None:
        self._code = code
        self._generator = _GENERATORS.get(code.co_qualname)
        self._skips = skips
        self._spreads = spreads
        self._fetched = 0
        self._passed: int | None = None
        self._held: Batch = ()

    @classmethod
    def of(cls, frame: FrameType) -> Lookahead | None:
        """Returns the lookahead of what begins to iterate a loader; None if it is no generator of accelerate.

        Args:
            frame: Frame that called the loader's ``__iter__``.
        """
        if frame.f_globals.get("__name__") != _MODULE:
            return None
        outer = frame.f_locals.get("self")
        spreads = "Dispatcher" in frame.f_code.co_qualname and outer.state.num_processes > 1  # type: ignore[union-attr]
        return cls(frame.f_code, skips=getattr(outer, "skip_batches", 0), spreads=spreads)

    def look(self, frame: FrameType | None) -> None:
        """Looks where the generator stands.

        Args:
            frame: Frame that is about to fetch a batch.
        """
        self._passed = None
        for _ in range(_DEPTH):
            if frame is None or self._generator is None:
                return
            if frame.f_code is self._code:
                # the number of the last batch that was begun, or nothing before the first
                self._passed = frame.f_locals.get(self._generator.passed, -1)
                return
            frame = frame.f_back

    def take(self, reads: Batch) -> Batch:
        """Takes what was just fetched, and returns what is yielded now: of this batch, or the one before.

        Raises:
            CoverageError: If the generator is not where it should be, or hands records to other processes.
        """
        number = self._fetched
        self._fetched += 1
        if reads or self._held:
            self._require_known(number)
        if self._generator is not None and not self._generator.ahead:
            return reads if number >= self._skips else ()
        due, self._held = self._held, reads
        return due if number > self._skips else ()

    def end(self) -> Batch:
        """Returns what is yielded when there is nothing more to fetch.

        Raises:
            CoverageError: As `take`.
        """
        if self._held:
            self._require_known(self._fetched)
        due, self._held = self._held, ()
        return due if self._fetched > self._skips else ()

    def _require_known(self, number: int) -> None:
        if self._spreads:
            raise CoverageError(
                "accelerate reads batches in one process and hands parts of them to others "
                "(dispatch_batches=True): what a process trains on cannot be counted there; pass "
                "DataLoaderConfiguration(dispatch_batches=False), and let every process read its own"
            )
        if self._passed != number - 1:
            version = getattr(sys.modules.get("accelerate"), "__version__", "unknown")
            raise CoverageError(
                f"accelerate {version}: {self._code.co_qualname} fetches its batches in an order that is not "
                f"known: expected to be asked for batch {number} after {number - 1} were begun, got "
                f"{self._passed}; use another version, or iterate a palm_torch.DataLoader without "
                "accelerator.prepare"
            )
