"""Counting optimizer steps through torch's global step hooks, which see every optimizer unchanged.

A step counts for the outermost optimizer whose ``step`` is running: one that calls another from its own
``step`` (a look-ahead or sharding wrapper) makes one step, and the inner call is noted as ``steps_inside``.
A wrapper whose ``step`` torch does not hook is invisible, and the optimizer it calls counts. Evaluating the
closure several times (LBFGS) is still one step.
"""

from __future__ import annotations

import os
import threading
import weakref
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from palm_torch import recorder
from palm_torch.errors import CoverageError, SessionError
from palm_torch.hooks import held_optimizer, optimizer_state, step_frames
from palm_torch.hooks.deferred import DeferredReads
from palm_torch.hooks.optimizer_account import OptimizerAccount, OptimizerCheckpoint, OptimizerRecord
from palm_torch.hooks.scaler import ScalerCounts, ScalerWatch
from palm_torch.hooks.settings import SettingsHistory
from palm_torch.hooks.writes import WriteWatch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from torch import Tensor
    from torch.optim import Optimizer


@dataclass(frozen=True, slots=True)
class StepSummary:
    """All steps of a run.

    Attributes:
        optimizers: In the order of their first step.
        scalers: Gradient scalers, in the order found.
        writes: How often parameters were found written to since they were last stepped, by other code than an
            optimizer: before a step, and when the counts are read; see `palm_torch.hooks.writes`.
    """

    optimizers: tuple[OptimizerRecord, ...]
    scalers: tuple[ScalerCounts, ...]
    writes: int

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
        names: Returns names of the tensors that are stepped, by identity; the same before a checkpoint and
            after it.
        watch: Tells who writes to parameters; others may have it watch more of them.

    What the callbacks raise leaves ``optimizer.step`` as it is.
    """

    def __init__(
        self,
        *,
        before_first_step: Callable[[Optimizer, tuple[Tensor, ...]], None],
        after_step: Callable[[Optimizer], None],
        names: Callable[[], Mapping[int, str]] = dict,
        watch: WriteWatch | None = None,
    ) -> None:
        self._before_first_step = before_first_step
        self._after_step = after_step
        self._names = names
        self._watch = watch or WriteWatch()
        self._writes = 0
        self._reads = DeferredReads()
        self._scalers = ScalerWatch(self._reads)
        self._known: weakref.WeakKeyDictionary[Optimizer, OptimizerAccount] = weakref.WeakKeyDictionary()
        self._accounts: list[OptimizerAccount] = []
        self._introduced: dict[int, weakref.ref[Tensor]] = {}
        self._running: list[OptimizerAccount] = []
        self._found_inf: Tensor | None = None
        self._resumed = False
        self._deliveries = 0
        self._owner = (os.getpid(), threading.get_ident())
        self._hooks = ExitStack()

    def __enter__(self) -> Self:
        """Registers the hooks; what scalers did until now is not of this run."""
        self._owner = (os.getpid(), threading.get_ident())
        if not self._resumed:  # then their states are yet to be loaded
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
        return sum(account.steps for account in self._accounts)

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

    def counts(self) -> StepSummary:
        """Reads what still waits on devices and returns all counts.

        Raises:
            CoverageError: If a gradient scaler cannot be read.
            SessionError: If a step is under way.
        """
        self._require_between_steps()
        self._drop_interrupted(running=0)
        scalers = self._scalers.counts()
        return StepSummary(
            tuple(account.result() for account in self._accounts),
            scalers,
            writes=self._writes + self._watch.written_since_a_step(),
        )

    def held(self, counts: StepSummary) -> tuple[OptimizerCheckpoint, ...]:
        """Returns what a checkpoint has to remember of each optimizer.

        Args:
            counts: What `counts` returned.

        Raises:
            CoverageError: If an optimizer's state has no canonical bytes.
        """
        names = self._names()
        return tuple(
            OptimizerCheckpoint(
                record=result,
                begun=account.begun,
                state=account.state(),
                parameters=account.parameters(names),
            )
            for account, result in zip(self._accounts, counts.optimizers, strict=True)
        )

    def resume(
        self, optimizers: Sequence[OptimizerCheckpoint], scalers: Sequence[ScalerCounts], *, writes: int
    ) -> None:
        """Goes on from a checkpoint; to be called before the ``with`` block is entered.

        At its first step each optimizer has to have the state of the one that stepped the same tensors.
        """
        self._accounts = [OptimizerAccount.resumed(item, self._reads) for item in optimizers]
        self._scalers.resume(scalers)
        self._writes = writes
        self._resumed = True

    def place_of(self, optimizer: Optimizer) -> int:
        """Returns the number of an optimizer that has stepped, in the order of their first step."""
        return self._accounts.index(self._known[optimizer])

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
            self._drop_interrupted(running=step_frames.outer_calls(len(self._running)))
        account = self._known.get(optimizer) or self._take_up(optimizer)
        self._scalers.poll()
        if account not in self._running:  # otherwise it is super().step()
            self._introduce(optimizer, account)
            account.settings.observe(optimizer, account.begun)
            self._writes += not self._running and self._watch.written(account.tensors)
            account.begun += 1
        self._running.append(account)

    def _take_up(self, optimizer: Optimizer) -> OptimizerAccount:
        """Finds the checkpoint's account of an optimizer at its first step, or begins one.

        Raises:
            CoverageError: If its state is not what the checkpoint's was, several could be it, its state
                cannot be measured, or lies in a mapped file.
        """
        account = OptimizerAccount(SettingsHistory(optimizer, self._reads))
        account.adopt(optimizer)
        self._introduce(optimizer, account)  # the model first: a wrong one makes for a wrong optimizer
        waiting = [item for item in self._accounts if item.waits()]
        found = held_optimizer.among(waiting, optimizer, self._names()) if waiting else None
        if found is not None:
            optimizer_state.require_own_memory(optimizer)
            account = found
            account.adopt(optimizer)
        else:
            account.begun_with = optimizer_state.begun_with(optimizer)
            self._accounts.append(account)
        self._known[optimizer] = account
        return account

    def _end_step(self, optimizer: Optimizer) -> None:
        account = self._known.get(optimizer)
        if not self._running or self._running[-1] is not account:
            return  # this step had begun before the block was entered
        self._running.pop()
        if account not in self._running:  # hooks of others and the step itself may have set options
            account.settings.observe(optimizer, account.begun - 1)
            self._watch.stepped(account.tensors)
        if (found_inf := getattr(optimizer, "found_inf", None)) is not None:
            self._found_inf = found_inf  # set by GradScaler for the duration of a fused step
        if self._running:
            account.steps_inside += account not in self._running
            return
        account.steps += 1
        if self._found_inf is not None:
            self._reads.read(self._found_inf, account.count_without_effect)
            self._found_inf = None
        self._after_step(optimizer)

    def _introduce(self, optimizer: Optimizer, account: OptimizerAccount) -> None:
        if account.on_cuda and torch.cuda.is_current_stream_capturing():
            raise CoverageError(
                f"{type(optimizer).__name__}.step() is being captured into a CUDA graph, whose replays call "
                "no hook and cannot be counted: leave optimizer.step() outside of the graph"
            )
        if account.is_unchanged(optimizer):
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
            self._watch.watch(new)
        account.remember(optimizer)

    def _drop_interrupted(self, running: int) -> None:
        """Forgets steps that raised while somebody went on: they have no end to wait for."""
        for account in self._running[running:]:
            account.interrupted += 1
        del self._running[running:]
        self._found_inf = None

    def _require_between_steps(self) -> None:
        if self._running and step_frames.inside():
            raise SessionError("called inside optimizer.step(): expected to be called between two steps")

    def _require_owner(self, optimizer: Optimizer) -> None:
        process, thread = self._owner
        if process == os.getpid() and thread == threading.get_ident():
            return
        where = "in another thread" if process == os.getpid() else f"in a process forked from {process}"
        raise SessionError(
            f"{type(optimizer).__name__}.step() was called {where}, where no session is open: expected all "
            "steps in the thread that opened it; open the session where the training loop runs"
        )
