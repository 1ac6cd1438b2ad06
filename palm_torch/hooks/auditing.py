"""Listening to the audit events of the interpreter, through one hook for all who listen.

Of several that listen to the same event the innermost hears it. Python takes no audit hook away: it stays
in the process, and does nothing while nobody listens. A listener hears all events, those too that come up
while it attends to another: a signal handler or a finalizer can run then, and is the script's own doing.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class Listener:
    """Hears audit events in the process that made it, or in the one that it was moved to.

    Args:
        handlers: Name of an event → what takes its arguments; the frame three above that one is where the
            event was raised.
    """

    def __init__(self, handlers: Mapping[str, Callable[..., None]]) -> None:
        self.handlers: Final = handlers
        self._process = os.getpid()
        self._lock = threading.RLock()

    def move_here(self) -> None:
        """Makes a copy that came into this process by a fork hear what happens here."""
        self._process = os.getpid()
        self._lock = threading.RLock()  # another thread may have held the old one when the process forked

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        """Takes an event that it has a handler for."""
        if os.getpid() == self._process:
            self.handlers[event](*args)


_listening: dict[str, list[Listener]] = {}
"""Event → who listens to it, the innermost last."""

_hooked: list[bool] = []


@contextlib.contextmanager
def listen(listener: Listener) -> Iterator[None]:
    """Lets a listener hear its events in the ``with`` block."""
    if not _hooked:
        sys.addaudithook(_audit)
        _hooked.append(True)
    for event in listener.handlers:
        _listening.setdefault(event, []).append(listener)
    try:
        yield
    finally:
        for event in listener.handlers:
            _listening[event].remove(listener)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    for listener in _listening.get(event, ())[-1:]:
        listener.hear(event, args)
