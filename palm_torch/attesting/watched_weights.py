"""The weights of a session of inference: measured once, watched, and what their changing revokes.

For every answer cheap hints are looked at; a thread measures everything again from time to time, and once
more it is done when the block has ended. A measurement that finds a tensor changed revokes all answers since
the one before began, for nobody knows which of them came from which weights.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Self

from palm_torch import codec
from palm_torch.commit import answers
from palm_torch.commit.answers import Look, Revoked
from palm_torch.errors import SessionError
from palm_torch.hooks.held_weights import HeldWeights
from palm_torch.hooks.vigil import Looked, Vigil
from palm_torch.receipt import RestsOn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from torch import nn

    from palm_torch.attesting.sealing import Sealer
    from palm_torch.commit.weights_root import TensorSpec
    from palm_torch.digest import Digest


class WatchedWeights:
    """The weights of one model, from the moment the script names it until the block has ended.

    Args:
        model: The model, or tensors by name.
        sealer: Logs the measurements.
        every_answers: After how many answers to measure all weights again.
        every_s: After how many seconds.

    Raises:
        SessionError: If a number is none.
        CoverageError: If the model cannot be measured.
        SealError: If the measurement cannot be logged.
    """

    def __init__(
        self,
        model: nn.Module | Mapping[str, torch.Tensor],
        *,
        sealer: Sealer,
        every_answers: int,
        every_s: float,
    ) -> None:
        if every_answers < 1 or not 0 < every_s < threading.TIMEOUT_MAX:
            raise SessionError(
                f"run.model: expected to measure again after 1 or more answers and above 0 seconds, got "
                f"{every_answers!r} and {every_s!r}"
            )
        self._sealer = sealer
        self._answers = 0
        self._looks = 0
        self._revoked: tuple[Revoked, ...] = ()
        self._changed: str | None = None
        self._held = HeldWeights(model)
        self._last = Looked(0, self._held.moment, None)
        self._note(self._last)
        self._vigil = Vigil(self._held, every_answers=every_answers, every_s=every_s)

    def __enter__(self) -> Self:
        """Starts the thread that measures."""
        self._vigil.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Stops it."""
        self._vigil.__exit__(*error)

    @property
    def root(self) -> Digest:
        """The weights root."""
        return self._held.root

    @property
    def tensors(self) -> Sequence[tuple[TensorSpec, bytes]]:
        """Every tensor with its root (32 bytes), sorted by name."""
        return self._held.tensors

    @property
    def looks(self) -> int:
        """How many times all weights were measured, the first time included."""
        return self._looks

    @property
    def revoked(self) -> tuple[Revoked, ...]:
        """The answers that a change has revoked."""
        return self._revoked

    def holds(self, module: nn.Module) -> bool:
        """Says whether a module has tensors that are watched, and no parameter that is not."""
        held = {id(tensor) for tensor in self._held.parameters()}
        parameters = list(map(id, module.parameters()))
        return held.issuperset(parameters) and not held.isdisjoint((*parameters, *map(id, module.buffers())))

    def rests_on(self) -> RestsOn:
        """Returns what an answer that is given now rests on."""
        return RestsOn(answers=self._last.answers, age_s=int(time.monotonic() - self._last.moment))

    def answered(self, answers_given: int) -> None:
        """Takes notice of the number of answers given."""
        self._answers = answers_given
        self._vigil.answered(answers_given)

    def require_unchanged(self) -> None:
        """Checks that the weights are what they were, as far as the thread and the hints say.

        Raises:
            SessionError: If they are not.
            CoverageError: If they cannot be measured.
        """
        self._collect()
        self._refuse_changed()
        changed = self._held.settle()
        if changed is not None:
            with self._vigil.quiet():
                self._collect()
                self._note(Looked(self._answers, time.monotonic(), changed))
            self._refuse_changed()

    def remeasure(self) -> None:
        """Measures all weights here and now: the answers given so far rest on it.

        Raises:
            SessionError: If they are not what they were.
            CoverageError: If they cannot be measured.
        """
        self.measure()
        self._refuse_changed()

    def measure(self) -> None:
        """Measures all weights here and now, once the thread is done with what it is at.

        Raises:
            CoverageError: If they cannot be measured.
            SealError: If the measurement cannot be logged.
        """
        with self._vigil.quiet():
            self._collect()
            if self._changed is None:
                moment = time.monotonic()
                self._note(Looked(self._answers, moment, self._held.measure()))

    def _collect(self) -> None:
        """Takes what the thread has found since."""
        for look in self._vigil.collect():
            self._note(look)

    def _note(self, look: Looked) -> None:
        """Logs a measurement, and revokes the answers since the one before if something had changed."""
        if self._changed is not None:
            return
        kind = answers.MEASURED if look.changed is None else answers.CHANGED
        event: Any = codec.to_json(Look(answers=look.answers, root=self._held.root, tensor=look.changed))
        self._sealer.record(kind, event)
        self._looks += 1
        if look.changed is None:
            self._last = look
            return
        self._changed = look.changed
        first, last = self._last.answers, self._answers - 1
        if first <= last:
            self._revoked = (Revoked(first=first, last=last, tensor=look.changed),)

    def _refuse_changed(self) -> None:
        if self._changed is not None:
            spans = ", ".join(f"{span.first} to {span.last}" for span in self._revoked)
            raise SessionError(
                f"the weights are not those that were measured: {self._changed!r:.200} has changed; "
                f"{f'answers {spans} are revoked' if spans else 'no answer is revoked'}. A session is about "
                "one model: leave this block and open another"
            )
