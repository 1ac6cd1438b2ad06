"""Code that forked workers import and files that they open, on their way into the run's own account.

A worker is a copy of the run's process, with the import hook and the listeners in it. What it meets for the
first time (a library imported on first use, a configuration opened in a collate function) it tells with every
batch, and the run's process lists it when the batch is delivered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from palm_torch.hooks import importing

if TYPE_CHECKING:
    from palm_torch.hooks.executed import ExecutedFiles
    from palm_torch.hooks.opened import OpenedFiles


class ForkedWorkers:
    """What the workers of a run see; the run's process and each worker have a copy.

    Args:
        files: The files that the script opened.
        code: What the script ran by itself.
    """

    def __init__(self, files: OpenedFiles, code: ExecutedFiles) -> None:
        self._files = files
        self._code = code
        self._before = (0, 0)
        self._told: tuple[tuple[int, int], tuple[Any, ...]] = ((0, 0), ())
        self._taken: set[tuple[Any, ...]] = set()

    def begin_here(self) -> None:
        """Begins to look at this process, which was forked from the run's own."""
        self._files.move_here()
        self._code.move_here()
        self._before = (len(importing.loaded()), len(self._files.told()))
        self._told = (self._state(), ())

    def seen_here(self) -> tuple[Any, ...]:
        """Returns the code loaded and the files opened here since `begin_here`; empty if there are none."""
        state = self._state()
        if state != self._told[0]:
            code, files = self._before
            loaded = tuple(tuple(item) for item in importing.loaded()[code:])
            self._told = (state, (loaded, self._files.told()[files:]))
        return self._told[1]

    def take(self, seen: tuple[Any, ...]) -> None:
        """Lists what `seen_here` returned in a worker."""
        if seen in self._taken:
            return
        self._taken.add(seen)
        loaded, files = seen
        for item in loaded:
            importing.note_elsewhere(importing.Loaded(*item))
        for name, digest in files:
            self._files.take(name, digest)

    def _state(self) -> tuple[int, int]:
        return importing.generation(), self._files.listed()
