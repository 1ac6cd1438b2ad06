"""Measuring held weights again and again while answers are given: a thread of low priority.

The thread sleeps until so many answers were given or so much time has passed, then hashes all weights in
slices of at most 1 MiB, and rests several times as long after each as it took. It logs and decides nothing:
whoever gives the answers collects what it found.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from palm_torch.errors import CoverageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_torch.hooks.held_weights import HeldWeights

REST: Final = 4.0
"""Seconds of rest for each second of hashing."""

LOWEST_PRIORITY: Final = 19

ATTEMPTS: Final = 3
"""How often in a row a measurement may break off: whoever adds a module meanwhile writes what it reads."""


@dataclass(frozen=True, slots=True)
class Looked:
    """One measurement of all weights that has ended.

    Attributes:
        answers: Answers that had been given when it began.
        moment: When it began, on the monotonic clock, in seconds.
        changed: Name of a tensor that was not what it was; None if all were.
    """

    answers: int
    moment: float
    changed: str | None


class Vigil:
    """Measures held weights in a thread between `__enter__` and `__exit__`.

    Args:
        held: The weights.
        every_answers: After how many answers to measure again.
        every_s: After how many seconds, if there was an answer since.
    """

    def __init__(self, held: HeldWeights, *, every_answers: int, every_s: float) -> None:
        self._held = held
        self._every_answers = every_answers
        self._every_s = every_s
        self._answers = 0
        self._begun_at = 0
        self._begun = time.monotonic()
        self._done: deque[Looked] = deque()
        self._failure: CoverageError | None = None
        self._broken_off = 0
        self._wake = threading.Condition()
        self._stopping = threading.Event()
        self._measuring = threading.Lock()
        self._hurry = False
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._run, name="palm-torch weights", daemon=True)

    def __enter__(self) -> Self:
        """Starts the thread."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stops the thread; a measurement under way is dropped."""
        self._stopping.set()
        with self._wake:
            self._wake.notify()
        if os.getpid() == self._process:
            self._thread.join()

    def answered(self, answers: int) -> None:
        """Takes notice of the number of answers given."""
        self._answers = answers
        if answers - self._begun_at >= self._every_answers:
            with self._wake:
                self._wake.notify()

    def collect(self) -> list[Looked]:
        """Returns the measurements that have ended since the last call, oldest first.

        Raises:
            CoverageError: If one could not be made.
        """
        if self._failure is not None:
            raise CoverageError(
                f"the weights could not be measured again: {self._failure}"
            ) from self._failure
        found = []
        while self._done:
            found.append(self._done.popleft())
        return found

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Keeps the thread from measuring inside the block; a measurement under way is dropped.

        Nobody waits for it: at its priority it may take long.
        """
        self._hurry = True
        with self._measuring:
            self._hurry = False
            yield

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # a system that knows no priority of a thread
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOWEST_PRIORITY)
        while not self._stopping.is_set():
            with self._wake:
                self._wake.wait_for(self._due, timeout=self._every_s)
            if self._stopping.is_set():
                return
            if self._answers > self._begun_at:
                with self._measuring:
                    if not self._look():
                        return

    def _due(self) -> bool:
        return self._stopping.is_set() or self._answers - self._begun_at >= self._every_answers

    def _look(self) -> bool:
        """Measures everything; returns whether to go on watching."""
        before, answers, moment = self._begun_at, self._answers, time.monotonic()
        self._begun_at = answers
        changed: str | None = None
        begun = time.thread_time()
        try:
            for changed in self._held.slices():
                now = time.thread_time()
                if changed is not None:
                    break
                if self._hurry or self._stopping.wait((now - begun) * REST):
                    return not self._stopping.is_set()
                begun = time.thread_time()
        except CoverageError as error:
            self._failure = error
            return False
        except RuntimeError as error:  # a tensor that cannot be read, or a table that changed its size
            self._broken_off += 1
            if self._broken_off < ATTEMPTS:
                self._begun_at = before
                return True
            self._failure = CoverageError(str(error))
            return False
        self._broken_off = 0
        self._done.append(Looked(answers, moment, changed))
        return changed is None
