"""Counting optimizer steps through torch's global step hooks, which see every optimizer unchanged.

A step counts for the outermost optimizer whose ``step`` is running: one that calls another from its own
``step`` (a look-ahead or sharding wrapper) makes one step, and the inner call is noted as ``steps_inside``.
A wrapper whose ``step`` torch does not hook is invisible, and the optimizer it calls counts. Evaluating the
closure several times (LBFGS) is still one step.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from contextlib import ExitStack
from dataclasses import dataclass
from operator import is_
from typing import TYPE_CHECKING, Any, Final, Self

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from palm_torch import recorder
from palm_torch.errors import CoverageError, SessionError
from palm_torch.hooks.deferred import DeferredReads
from palm_torch.hooks.scaler import ScalerCounts, ScalerWatch
from palm_torch.hooks.settings import OptimizerSettings, SettingsHistory

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

    from torch import Tensor
    from torch.optim import Optimizer

OPTIMIZER_MODULE: Final = register_optimizer_step_pre_hook.__module__
"""Where torch's function that calls the hooks around a step is defined."""


@dataclass(frozen=True, slots=True)
class OptimizerRecord:
    """What one optimizer did.

    Attributes:
        settings: Its class and hyper-parameters.
        steps: Finished steps that the script asked for.
        steps_inside: Finished steps made from within another optimizer's step.
        without_effect: Those of `steps` whose fused kernel found an infinite gradient and moved nothing.
        interrupted: Steps that raised.
        written_outside: How often its first or last parameter had been written to since its last step, as
            their version counters tell: a hint that something else trains or loads weights.
    """

    settings: OptimizerSettings
    steps: int
    steps_inside: int
    without_effect: int
    interrupted: int
    written_outside: int


@dataclass(frozen=True, slots=True)
class StepSummary:
    """All steps of a run.

    Attributes:
        optimizers: In the order of their first step.
        scalers: Gradient scalers, in the order found.
    """

    optimizers: tuple[OptimizerRecord, ...]
    scalers: tuple[ScalerCounts, ...]

    @property
    def taken(self) -> int:
        """Steps that moved parameters."""
        return sum(record.steps - record.without_effect for record in self.optimizers)

    @property
    def skipped(self) -> int:
        """Iterations in which a gradient scaler skipped an optimizer."""
        return sum(scaler.lowered for scaler in self.scalers)


class StepMeter:
    """Counts steps while its ``with`` block is open.

    Args:
        before_first_step: Called with an optimizer and those of its tensors that no optimizer has stepped
            before, in group order, before anything moved; again when it gains tensors.
        after_step: Called after every finished step that the script asked for.

    What the callbacks raise leaves ``optimizer.step`` as it is.
    """

    def __init__(
        self,
        *,
        before_first_step: Callable[[Optimizer, tuple[Tensor, ...]], None],
        after_step: Callable[[Optimizer], None],
    ) -> None:
        self._before_first_step = before_first_step
        self._after_step = after_step
        self._reads = DeferredReads()
        self._scalers = ScalerWatch(self._reads)
        self._known: weakref.WeakKeyDictionary[Optimizer, _Stepped] = weakref.WeakKeyDictionary()
        self._records: list[_Stepped] = []
        self._introduced: dict[int, weakref.ref[Tensor]] = {}
        self._running: list[_Stepped] = []
        self._found_inf: Tensor | None = None
        self._deliveries = 0
        self._owner = (os.getpid(), threading.get_ident())
        self._hooks = ExitStack()

    def __enter__(self) -> Self:
        """Registers the hooks; what scalers did until now is not of this run."""
        self._owner = (os.getpid(), threading.get_ident())
        self._scalers.find(at_begin=True)
        uncompiled: Any = torch.compiler.disable  # or a compiled step would trace into the hooks
        for handle in (
            register_optimizer_step_pre_hook(uncompiled(self._before)),
            register_optimizer_step_post_hook(uncompiled(self._after)),
        ):
            self._hooks.callback(handle.remove)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Removes the hooks."""
        self._hooks.close()

    @property
    def steps(self) -> int:
        """Finished steps that the script asked for, those without effect included."""
        return sum(record.steps for record in self._records)

    def delivered(self) -> None:
        """Polls the gradient scalers; to be called for every batch delivered.

        Raises:
            CoverageError: If this version of torch keeps the scale elsewhere.
        """
        self._deliveries += 1
        if self._deliveries == 1:
            self._scalers.find()
        else:
            self._scalers.poll()

    def finish(self) -> StepSummary:
        """Reads what still waits on devices and returns all counts; to be called when the run ends.

        Raises:
            CoverageError: If a gradient scaler cannot be read.
        """
        self._drop_interrupted(running=0)
        scalers = self._scalers.finish()
        return StepSummary(tuple(record.result() for record in self._records), scalers)

    def _before(self, optimizer: Optimizer, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
        try:
            self._begin_step(optimizer)
        except BaseException as error:
            recorder.failed(error)  # a script that swallows it gets no evidence
            raise

    def _after(self, optimizer: Optimizer, _args: tuple[Any, ...], _kwargs: dict[str, Any]) -> None:
        try:
            self._end_step(optimizer)
        except BaseException as error:
            recorder.failed(error)
            raise

    def _begin_step(self, optimizer: Optimizer) -> None:
        self._require_owner(optimizer)
        if self._running:
            self._drop_interrupted(running=_outer_calls(len(self._running)))
        record = self._known.get(optimizer)
        if record is None:
            record = self._known[optimizer] = _Stepped(optimizer, self._reads)
            self._records.append(record)
        self._scalers.poll()
        if record not in self._running:  # otherwise it is super().step()
            self._introduce(optimizer, record)
            record.settings.observe(optimizer, record.begun)
            record.note_writes(optimizer)
            record.begun += 1
        self._running.append(record)

    def _end_step(self, optimizer: Optimizer) -> None:
        record = self._known.get(optimizer)
        if not self._running or self._running[-1] is not record:
            return  # this step had begun before the block was entered
        self._running.pop()
        if record not in self._running:  # hooks of others and the step itself may have set options
            record.settings.observe(optimizer, record.begun - 1)
            record.remember_writes(optimizer)
        if (found_inf := getattr(optimizer, "found_inf", None)) is not None:
            self._found_inf = found_inf  # set by GradScaler for the duration of a fused step
        if self._running:
            record.steps_inside += record not in self._running
            return
        record.steps += 1
        if self._found_inf is not None:
            self._reads.read(self._found_inf, record.count_without_effect)
            self._found_inf = None
        self._after_step(optimizer)

    def _introduce(self, optimizer: Optimizer, record: _Stepped) -> None:
        if record.on_cuda and torch.cuda.is_current_stream_capturing():
            raise CoverageError(
                f"{type(optimizer).__name__}.step() is being captured into a CUDA graph, whose replays call "
                "no hook and cannot be counted: leave optimizer.step() outside of the graph"
            )
        if record.is_unchanged(optimizer):
            return
        new = [
            tensor
            for group in optimizer.param_groups
            for tensor in group["params"]
            if (known := self._introduced.get(id(tensor))) is None or known() is not tensor
        ]
        if new:
            self._before_first_step(optimizer, tuple(new))
            self._introduced.update((id(tensor), weakref.ref(tensor)) for tensor in new)
        record.remember(optimizer)

    def _drop_interrupted(self, running: int) -> None:
        """Forgets steps that raised while somebody went on: they have no end to wait for."""
        for record in self._running[running:]:
            record.interrupted += 1
        del self._running[running:]
        self._found_inf = None

    def _require_owner(self, optimizer: Optimizer) -> None:
        process, thread = self._owner
        if process == os.getpid() and thread == threading.get_ident():
            return
        where = "in another thread" if process == os.getpid() else f"in a process forked from {process}"
        raise SessionError(
            f"{type(optimizer).__name__}.step() was called {where}, where no session is open: expected all "
            "steps in the thread that opened it; open the session where the training loop runs"
        )


class _Stepped:
    """One optimizer; its tensors are held only as long as the optimizer lives."""

    __slots__ = (
        "_tensors",
        "_versions",
        "_watch",
        "begun",
        "interrupted",
        "on_cuda",
        "settings",
        "steps",
        "steps_inside",
        "without_effect",
        "written_outside",
    )

    def __init__(self, optimizer: Optimizer, reads: DeferredReads) -> None:
        self.settings = SettingsHistory(optimizer, reads)
        self.begun = self.steps = self.steps_inside = self.without_effect = self.interrupted = 0
        self.written_outside = 0
        self._versions: tuple[int, ...] | None = None
        self.on_cuda = any(tensor.is_cuda for group in optimizer.param_groups for tensor in group["params"])
        self._tensors: list[list[Tensor]] = []
        self._watch = weakref.ref(optimizer, self._forget)

    def is_unchanged(self, optimizer: Optimizer) -> bool:
        """Says whether the optimizer holds the very tensors it held when they were remembered."""
        groups = optimizer.param_groups
        return len(groups) == len(self._tensors) and all(
            len(group["params"]) == len(tensors) and all(map(is_, group["params"], tensors))
            for group, tensors in zip(groups, self._tensors, strict=True)
        )

    def remember(self, optimizer: Optimizer) -> None:
        self._tensors = [list(group["params"]) for group in optimizer.param_groups]
        self.on_cuda = any(tensor.is_cuda for tensors in self._tensors for tensor in tensors)

    def note_writes(self, optimizer: Optimizer) -> None:
        if self._versions is not None:
            self.written_outside += self._versions != _versions_of(optimizer)

    def remember_writes(self, optimizer: Optimizer) -> None:
        self._versions = _versions_of(optimizer)

    def count_without_effect(self, found_inf: float) -> None:
        self.without_effect += found_inf != 0

    def result(self) -> OptimizerRecord:
        return OptimizerRecord(
            self.settings.result(),
            self.steps,
            self.steps_inside,
            self.without_effect,
            self.interrupted,
            self.written_outside,
        )

    def _forget(self, _reference: weakref.ref[Optimizer]) -> None:
        self._tensors = []


def _versions_of(optimizer: Optimizer) -> tuple[int, ...]:
    """Returns identity and version of the first and the last parameter of each group."""
    ends = (group["params"][at] for group in optimizer.param_groups if group["params"] for at in (0, -1))
    return tuple(
        number
        for tensor in ends
        for number in (id(tensor), 0 if tensor.is_inference() else tensor._version)  # noqa: SLF001 (no public name)
    )


def _outer_calls(known: int) -> int:
    """Counts the hooked ``step`` calls around the one whose hook asks; torch wraps all in one function.

    Args:
        known: Calls that have begun and not ended; returned if no such function is on the stack, because
            a compiled step has inlined it.
    """
    frame: FrameType | None = sys._getframe()  # noqa: SLF001 (documented, and as fast as it gets)
    while frame is not None and frame.f_globals.get("__name__") != OPTIMIZER_MODULE:
        frame = frame.f_back
    if frame is None:
        return known
    hooked = frame.f_code
    count = 0
    while (frame := frame.f_back) is not None:
        count += frame.f_code is hooked
    return count
