"""Which parameters were written to by other code than an optimizer, as torch's version counters tell.

Every parameter of a model is watched from the moment its first weights are read. A step sets the mark of
what it steps anew; what moved past its mark in between was written to by somebody else. Writes through
``.data`` or NumPy move no counter: these are hints, and the weights root alone is certain.
"""

from __future__ import annotations

import weakref
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from palm_torch.hooks import tensors

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor

_version = attrgetter("_version")  # torch's own counter; no public name


class WriteWatch:
    """Version counters of parameters, by identity; the parameters themselves are not held."""

    __slots__ = ("_alive", "_marks", "_stepped")

    def __init__(self) -> None:
        self._alive: dict[int, weakref.ref[Tensor]] = {}
        self._marks: dict[int, int] = {}
        self._stepped: set[int] = set()

    def watch(self, parameters: Iterable[Tensor]) -> None:
        """Begins to watch parameters; a mark that one has already stays."""
        for tensor in parameters:
            if id(tensor) not in self._marks and tensors.counts_writes(tensor):
                self._alive[id(tensor)] = weakref.ref(tensor, partial(self._forget, id(tensor)))
                self._marks[id(tensor)] = _version(tensor)

    def written(self, parameters: Sequence[Tensor]) -> bool:
        """Says whether one of these was written to since its mark.

        Args:
            parameters: Watched ones.
        """
        return list(map(_version, parameters)) != list(map(self._marks.get, map(id, parameters)))

    def stepped(self, parameters: Sequence[Tensor]) -> None:
        """Sets the marks anew, after a step.

        Args:
            parameters: Watched ones.
        """
        keys = list(map(id, parameters))
        self._stepped.update(keys)
        self._marks.update(zip(keys, map(_version, parameters), strict=True))

    def written_since_a_step(self) -> bool:
        """Says whether a parameter that was stepped and lives was written to since."""
        alive = (self._alive[key]() for key in self._stepped)
        return self.written([tensor for tensor in alive if tensor is not None])

    def counts(self, tensor: Tensor) -> bool:
        """Says whether a tensor is watched."""
        return id(tensor) in self._marks

    def _forget(self, key: int, _reference: weakref.ref[Tensor]) -> None:
        self._stepped.discard(key)
        self._marks.pop(key, None)
        self._alive.pop(key, None)
