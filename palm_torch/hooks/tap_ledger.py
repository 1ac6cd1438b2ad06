"""What all taps of one block share: the sink, the thread, and the first thing that went wrong."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final, NoReturn, Protocol

from palm_torch.errors import SessionError

if TYPE_CHECKING:
    from torch import Tensor

    from palm_torch.commit.trace import NotCaptured, Site
    from palm_torch.errors import MeasurementError


class Sink(Protocol):
    """What takes the outputs."""

    def capture(self, site: Site, tensor: Tensor, call: int) -> None:
        """Takes an output; it may be overwritten once this returns.

        Args:
            site: Which output of which module; the same object for each of its calls.
            tensor: Its values now. The first of a site was found to be dense; later ones may be anything.
            call: Number of the module's call, from 0.

        Raises:
            MeasurementError: If the tensor has no bytes of its own, such as one inside of a transform.
        """


class Ledger:
    """What the accounts of one block share.

    Args:
        sink: What takes the outputs.

    Attributes:
        sink: The same.
        thread: Identity of the thread on which the model runs; None before it ran.
        problem: The first thing that went wrong; whatever runs afterwards fails with it.
        not_captured: Parts of outputs that were left out.
    """

    __slots__ = ("not_captured", "problem", "sink", "thread")

    def __init__(self, sink: Sink) -> None:
        self.sink: Final = sink
        self.thread: int | None = None
        self.problem: MeasurementError | None = None
        self.not_captured: set[NotCaptured] = set()

    def require(self) -> None:
        """Checks that nothing went wrong, and that this is the thread on which the model ran before.

        Raises:
            CoverageError: If something was missed before.
            SessionError: If it is another thread or a forked process.
        """
        if self.problem is not None:
            raise self.problem
        thread = threading.get_ident()
        if self.thread is None:
            self.thread = thread
        elif self.thread != thread:
            self.fail(
                SessionError(
                    "tapped modules ran on two threads: expected all calls inside of one block on one, since "
                    "their order is part of what is recorded; open a block for each thread"
                )
            )

    def fail(self, error: MeasurementError) -> NoReturn:
        """Raises an error, now and whenever a tapped module runs again."""
        if self.problem is None:
            self.problem = error
        raise error
