"""Torch's own loaders while a session is open: they deliver as `palm_torch.DataLoader` does.

Frameworks build their loaders themselves, of the user's dataset. So while a session is open, and not a
moment longer, the two methods with which a stock loader begins a pass are replaced: its iterator carries the
account of what is read, and hands it to the session with each batch. The loader itself is left as it is.

A loader that no attested dataset has part in is none of the session's business: its batches and its errors
pass as they come.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import weakref
from typing import TYPE_CHECKING, Any, Final

import torch.utils.data

from palm_torch.data import carrier
from palm_torch.data.loader import Delivering, DeliveringIterator, carrying, unhashed_workers
from palm_torch.data.lookahead import Lookahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch.utils.data.dataloader import _BaseDataLoaderIter

    from palm_torch.recorder import Reads

_STATEFUL: Final = "torchdata.stateful_dataloader.stateful_dataloader"
"""Module of torchdata's loader, which begins its passes in methods of its own."""


class AdoptedIterator(DeliveringIterator):
    """One pass over a stock loader; it counts what it carries, and has nothing to say of anything else."""

    def __init__(
        self, loader: torch.utils.data.DataLoader[Any], inner: _BaseDataLoaderIter, ahead: Lookahead | None
    ) -> None:
        super().__init__(loader, inner)
        self._ahead = ahead
        self._unhashed = unhashed_workers(loader)
        self._accounts = False

    def __next__(self) -> Any:  # noqa: ANN401 (whatever the collate function makes)
        """Fetches the next batch and tells the session of the one that the loop is about to receive.

        Raises:
            SessionError: If there are attested records in it, and a session began or ended since the pass
                began.
            CoverageError: If there are attested records in the pass, and a worker died or loaded its code
                unhashed, the pass broke before, or the generator around it is not understood.
        """
        ahead = self._ahead
        if ahead is not None:
            ahead.look(sys._getframe(1))  # noqa: SLF001 (the generator that asks)
        try:
            item = self._fetch(loses=self._accounts)
        except StopIteration:
            if ahead is not None:
                self._settle(ahead.end)
            raise
        batch, reads = self._opened(item)
        if reads:
            self._require_sound()
            reads = self._marked(reads)
        if ahead is not None:
            self._settle(functools.partial(ahead.take, reads))
        elif reads:
            self._count(reads)
        return batch

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (whatever torch's iterator has)
        """Returns what torch's own iterator has under a name."""
        if name == "_inner":
            raise AttributeError(name)
        return getattr(self._inner, name)

    def _settle(self, due: Callable[[], Sequence[Reads]]) -> None:
        try:
            reads = due()
        except BaseException as error:
            self._break(error)
            raise
        if reads:
            self._count(reads)

    def _require_sound(self) -> None:
        """Checks, once there is something to account for, what an attested loader checks beforehand."""
        self._accounts = True
        self._require_whole()
        self._check_session()
        if self._unhashed is not None:
            raise self._break(self._unhashed)


@contextlib.contextmanager
def adopting() -> Iterator[None]:
    """Adopts torch's loaders for the duration of a ``with`` block: that of a session."""
    with contextlib.ExitStack() as undo:
        adoption = _Adoption(undo)
        undo.callback(adoption.end)
        adoption.adopt(torch.utils.data.DataLoader)
        stateful = sys.modules.get(_STATEFUL)
        if stateful is None:
            adoption.await_stateful()
        else:
            adoption.adopt(stateful.StatefulDataLoader)
        yield


class _Adoption:
    """The replaced methods of one session, and the loaders that it gave workers to."""

    def __init__(self, undo: contextlib.ExitStack) -> None:
        self._undo = undo
        self._process = os.getpid()
        self._open = True
        self._persistent: weakref.WeakSet[torch.utils.data.DataLoader[Any]] = weakref.WeakSet()

    def adopt(self, kind: type[torch.utils.data.DataLoader[Any]]) -> None:
        """Replaces the methods of a loader class, until the session ends."""
        self._replace(kind, "_get_iterator", self._making(kind._get_iterator))  # noqa: SLF001 (torch's seam)
        self._replace(kind, "__iter__", self._beginning(kind.__iter__))
        if "state_dict" in vars(kind):
            self._replace(kind, "state_dict", self._looking(vars(kind)["state_dict"]))

    def await_stateful(self) -> None:
        """Adopts torchdata's loader once it is defined: that class derives from torch's."""
        kind = torch.utils.data.DataLoader

        def defined(cls: type[torch.utils.data.DataLoader[Any]], /, **options: Any) -> None:  # noqa: ANN401
            super(kind, cls).__init_subclass__(**options)
            if self._open and (cls.__module__, cls.__qualname__) == (_STATEFUL, "StatefulDataLoader"):
                self.adopt(cls)

        kind.__init_subclass__ = classmethod(defined)  # type: ignore[assignment]  # as a class statement makes it
        self._undo.callback(delattr, kind, "__init_subclass__")

    def end(self) -> None:
        """Ends the session's hold on loaders: persistent workers go on making carriers, and must not."""
        self._open = False
        for loader in list(self._persistent):
            loader._iterator = None  # noqa: SLF001 (where torch's loader keeps them)

    def _takes(self, loader: object) -> bool:
        """Tells whether a loader is the session's to adopt: not our own, and in the session's process."""
        return self._open and not isinstance(loader, Delivering) and os.getpid() == self._process

    def _making(self, make: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @functools.wraps(make)
        def _get_iterator(loader: torch.utils.data.DataLoader[Any]) -> Any:  # noqa: ANN401 (as torch's)
            if not self._takes(loader):
                return make(loader)
            if loader.persistent_workers:
                self._persistent.add(loader)
            with carrying(loader):
                return make(loader)

        return _get_iterator

    def _beginning(self, begin: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @functools.wraps(begin)
        def __iter__(loader: torch.utils.data.DataLoader[Any]) -> Any:  # noqa: ANN401, N807 (as torch's)
            if not self._takes(loader):
                return begin(loader)
            before = carrier.gather()  # what a restored pass skips on the way to its position
            try:
                inner = begin(loader)
            finally:
                carrier.restore(before)
            return AdoptedIterator(loader, inner, Lookahead.of(sys._getframe(1)))  # noqa: SLF001 (who iterates)

        return __iter__

    def _looking(self, look: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @functools.wraps(look)
        def state_dict(loader: torch.utils.data.DataLoader[Any]) -> Any:  # noqa: ANN401 (as torchdata's)
            if not self._takes(loader):
                return look(loader)
            before = carrier.gather()
            try:
                return look(loader)
            finally:
                carrier.restore(before)

        return state_dict

    def _replace(self, kind: type, name: str, function: Callable[..., Any]) -> None:
        original = vars(kind)[name]

        def put_back() -> None:
            if (
                vars(kind).get(name) is function
            ):  # else somebody has replaced it since, and calls it: it is inert
                setattr(kind, name, original)

        setattr(kind, name, function)
        self._undo.callback(put_back)
