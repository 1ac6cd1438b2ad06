"""How datasets and loaders reach the running session without knowing it.

A session installs its `Recorder` when it begins and takes it away when it ends. Lower floors ask
`current()`: None means that nobody is recording, an error means that somebody is, but not here (another
thread, or a forked child that inherited the session's memory).
"""

from __future__ import annotations

import contextlib
import contextvars
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from palm_torch.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from palm_torch.roles import Written


@dataclass(frozen=True, slots=True)
class Reads:
    """The records of one dataset that were read for one batch.

    Attributes:
        dataset: The dataset's uid: unique in the process that opened it, kept by its copies in workers.
        indices: Record indices in the order read, int64 little endian, 8 bytes each.
        digests: Record digests in the same order, 32 bytes each.
        product: Product of the multiset elements, 384 bytes; empty when a manifest authenticates.
        exact: Whether the batch consists of these very records: no code stood between the dataset and
            torch's own collate function that could have dropped some or read others.
        padded: How many of the records, the last ones, a sampler repeated so that every rank gets as many;
            None if that is not known.
    """

    dataset: str
    indices: bytes
    digests: bytes
    product: bytes
    exact: bool = False
    padded: int | None = 0


class Recorder(Protocol):
    """What a session offers to the data that is delivered inside it."""

    def deliver(self, reads: Sequence[Reads], *, grad_enabled: bool) -> None:
        """Counts one batch that the loop has just received.

        Args:
            reads: What was read for the batch; never empty.
            grad_enabled: Whether gradients were on in the loop at that moment, and it was none that is known
                to evaluate only.

        Raises:
            MeasurementError: If the session cannot account for the batch.
        """


@runtime_checkable
class Keeper(Protocol):
    """What a session offers to datasets that are written inside it."""

    def begin_output(self, name: str) -> None:
        """Takes notice that a dataset is being written: it has to be finished before the session ends.

        Raises:
            SessionError: If the session's operation writes none, or one of that name was begun.
        """

    def end_output(self, name: str, written: Written) -> None:
        """Takes what was written, once all of it is on its way to the disk."""


class Observer(Protocol):
    """What knows the code and the files of a run, and has to be told of those that worker processes meet.

    What is told are plain tuples, the whole of it every time: a batch on the way may never arrive.
    """

    def begin_here(self) -> None:
        """Begins to look at this process, which was forked from the run's own."""

    def seen_here(self) -> tuple[Any, ...]:
        """Returns everything seen in this process since `begin_here`; empty if nothing was."""

    def take(self, seen: tuple[Any, ...]) -> None:
        """Takes what `seen_here` returned in a worker process, once its batch is delivered."""


@dataclass(frozen=True, slots=True)
class _Installed:
    recorder: Recorder
    session_id: str
    process_id: int
    thread_id: int
    forks: bool
    failures: list[BaseException] = field(default_factory=list)


_in_context: contextvars.ContextVar[_Installed | None] = contextvars.ContextVar(
    "palm_torch_recorder", default=None
)
_in_process: list[_Installed] = []
"""At most one: the session of this process, whichever thread or context asks."""


_observers: list[Observer] = []
"""At most one: that of a script under ``palm-torch run``."""


def observer() -> Observer | None:
    """Returns what has to be told of the code and the files of worker processes; None if nothing has."""
    return _observers[0] if _observers else None


@contextlib.contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """Makes an observer the one that `observer` returns, for the duration of a ``with`` block."""
    before = _observers.copy()
    _observers[:] = [observer]
    try:
        yield
    finally:
        _observers[:] = before


def current() -> Recorder | None:
    """Returns the recorder of the session this code runs in, or None when there is no session.

    Raises:
        SessionError: If a session is open, but in another thread or in the process this one was
            forked from.
    """
    installed = _installed()
    if installed is None:
        return None
    if installed.process_id != os.getpid():
        raise SessionError(
            f"this process ({os.getpid()}) was forked inside a session of process {installed.process_id}: "
            "what happens here is not measured; end the session first, or read data through "
            "palm_torch.DataLoader workers"
        )
    if _in_context.get() is not installed or threading.get_ident() != installed.thread_id:
        error = SessionError(
            "a session is open in another thread or context: run the loop in the thread that opened it"
        )
        failed(error)
        raise error
    return installed.recorder


def failed(error: BaseException) -> None:
    """Tells the session of this process, if there is one, that its account has a hole.

    Whoever raises such an error says so first: the session makes no evidence then, even if the script
    swallows the error.
    """
    installed = _installed()
    if installed is not None and installed.process_id == os.getpid() and not installed.failures:
        installed.failures.append(error)


def session_id() -> str | None:
    """Returns the id of the session open in this process, or None; never raises."""
    installed = _installed()
    return installed.session_id if installed else None


def workers_must_fork() -> bool:
    """Returns whether worker processes have to be forked, so that they run the code that was hashed."""
    installed = _installed()
    return installed is not None and installed.forks


@contextlib.contextmanager
def install(recorder: Recorder, session_id: str, *, forks: bool = False) -> Iterator[list[BaseException]]:
    """Makes a recorder the current one for the duration of a ``with`` block.

    Args:
        recorder: What `current` returns.
        session_id: What `session_id` returns.
        forks: What `workers_must_fork` returns.

    Yields:
        A list that gets the first error that `failed` is told of.

    Raises:
        SessionError: If a session is already open in this process.
    """
    if _in_process:
        raise SessionError(
            f"session {_in_process[0].session_id} is still open: end it before beginning another"
        )
    installed = _Installed(recorder, session_id, os.getpid(), threading.get_ident(), forks)
    _in_process.append(installed)
    _in_context.set(installed)
    try:
        yield installed.failures
    finally:
        _in_process.clear()
        _in_context.set(None)


def _installed() -> _Installed | None:
    return _in_process[0] if _in_process else None
