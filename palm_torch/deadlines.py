"""Waiting that ends: one moment for a whole piece of work, however many steps it takes."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment after which nobody waits any longer.

    Attributes:
        allowed_s: Seconds that were allowed in all, for messages.
        ends: The moment, in seconds of the monotonic clock.
    """

    allowed_s: float
    ends: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Returns the deadline that lies so many seconds from now."""
        return cls(seconds, time.monotonic() + seconds)

    def remaining(self) -> float:
        """Returns the seconds that are left, more than 0.

        Raises:
            TimeoutError: If none are.
        """
        left = self.ends - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"not done after {self.allowed_s:g} seconds")
        return left


def within(deadline: Deadline, work: Callable[[], T]) -> T:
    """Does work that knows no time limit of its own, and stops waiting for it at a deadline.

    The work goes on in a thread of its own, whose outcome is then dropped; it keeps no process alive.

    Args:
        deadline: When to stop waiting.
        work: What to do; what it raises is raised here.

    Raises:
        TimeoutError: If the deadline came first.
    """
    outcome: Future[T] = Future()

    def do() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:  # noqa: BLE001 (handed to whoever waits, not handled)
            outcome.set_exception(error)

    threading.Thread(target=do, daemon=True).start()
    try:
        return outcome.result(timeout=deadline.remaining())
    except TimeoutError as error:
        raise TimeoutError(f"not done after {deadline.allowed_s:g} seconds") from error
