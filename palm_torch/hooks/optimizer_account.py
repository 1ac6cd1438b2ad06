"""The account of one optimizer: what it did, and what a checkpoint has to remember of it."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from operator import is_
from typing import TYPE_CHECKING

from palm_torch.digest import Digest
from palm_torch.hooks import optimizer_state, tensors
from palm_torch.hooks.settings import OptimizerSettings, SettingsHistory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor
    from torch.optim import Optimizer

    from palm_torch.hooks.deferred import DeferredReads


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerRecord:
    """What one optimizer did.

    Attributes:
        settings: Its class and hyper-parameters.
        steps: Finished steps that the script asked for.
        steps_inside: Finished steps made from within another optimizer's step.
        without_effect: Those of `steps` whose fused kernel found an infinite gradient and moved nothing.
        interrupted: Steps that raised.
        begun_with: Digest of the state that it had before its first step; None if it had none, or only what
            its constructor makes. See `palm_torch.hooks.optimizer_state`.
    """

    settings: OptimizerSettings
    steps: int
    steps_inside: int
    without_effect: int
    interrupted: int
    begun_with: Digest | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerCheckpoint:
    """One optimizer, as a checkpoint remembers it.

    Attributes:
        record: What it did until then.
        begun: Steps begun.
        state: Digest of its state; see `palm_torch.hooks.optimizer_state`.
        parameters: Names of the tensors it steps, by group; none if it was dropped.
    """

    record: OptimizerRecord
    begun: int
    state: Digest
    parameters: tuple[tuple[str, ...], ...]


class OptimizerAccount:
    """One optimizer; its tensors are held only as long as the optimizer lives.

    Args:
        settings: Follows its class and hyper-parameters.

    Attributes:
        settings: Likewise.
        begun: Steps begun.
        begun_with: As in `OptimizerRecord`.
        expected: Digest of the state that it has in the checkpoint; None if it began in this session.
        held: Names of the tensors that it steps in the checkpoint.
        tensors: The tensors that it steps, those without a version counter left out.
        on_cuda: Whether any of its tensors lives on such a device.
    """

    __slots__ = (
        "_tensors",
        "_watch",
        "begun",
        "begun_with",
        "expected",
        "held",
        "interrupted",
        "on_cuda",
        "settings",
        "steps",
        "steps_inside",
        "tensors",
        "without_effect",
    )

    def __init__(self, settings: SettingsHistory) -> None:
        self.settings = settings
        self.begun = self.steps = self.steps_inside = self.without_effect = self.interrupted = 0
        self.begun_with: Digest | None = None
        self.expected: Digest | None = None
        self.held: tuple[tuple[str, ...], ...] = ()
        self.on_cuda = False
        self.tensors: list[Tensor] = []
        self._tensors: list[list[Tensor]] = []
        self._watch: weakref.ref[Optimizer] | None = None

    @classmethod
    def resumed(cls, checkpoint: OptimizerCheckpoint, reads: DeferredReads) -> OptimizerAccount:
        """Goes on from a checkpoint; which optimizer it is shows at its first step."""
        record = checkpoint.record
        account = cls(SettingsHistory(record.settings, reads))
        account.begun, account.expected = checkpoint.begun, checkpoint.state
        account.held = checkpoint.parameters
        account.steps, account.steps_inside = record.steps, record.steps_inside
        account.without_effect, account.interrupted = record.without_effect, record.interrupted
        account.begun_with = record.begun_with
        return account

    def waits(self) -> bool:
        """Says whether it is of an optimizer that was there at the checkpoint and has not stepped since."""
        return self._watch is None and self.expected not in (None, optimizer_state.gone())

    def adopt(self, optimizer: Optimizer) -> None:
        """Belongs to this optimizer from now on."""
        self._watch = weakref.ref(optimizer, self._forget)
        self.on_cuda = any(tensor.is_cuda for group in optimizer.param_groups for tensor in group["params"])

    def state(self) -> Digest:
        """Returns the digest of the optimizer's state as it is now."""
        if self._watch is None and self.expected is not None:
            return self.expected  # has not stepped since
        optimizer = self._watch() if self._watch is not None else None
        return optimizer_state.gone() if optimizer is None else optimizer_state.digest_of(optimizer)

    def parameters(self, names: Mapping[int, str]) -> tuple[tuple[str, ...], ...]:
        """Returns the names of the tensors that it steps, by group."""
        if self._watch is None:
            return self.held  # has not stepped since
        optimizer = self._watch()
        return () if optimizer is None else names_of(optimizer, names)

    def is_unchanged(self, optimizer: Optimizer) -> bool:
        """Says whether the optimizer holds the very tensors it held when they were remembered."""
        groups = optimizer.param_groups
        return len(groups) == len(self._tensors) and all(
            len(group["params"]) == len(tensors) and all(map(is_, group["params"], tensors))
            for group, tensors in zip(groups, self._tensors, strict=True)
        )

    def remember(self, optimizer: Optimizer) -> None:
        """Remembers the tensors the optimizer holds."""
        self._tensors = [list(group["params"]) for group in optimizer.param_groups]
        self.tensors = [
            tensor for group in self._tensors for tensor in group if tensors.counts_writes(tensor)
        ]
        self.on_cuda = any(tensor.is_cuda for tensors in self._tensors for tensor in tensors)

    def count_without_effect(self, found_inf: float) -> None:
        """Counts a step of a fused kernel that found an infinite gradient."""
        self.without_effect += found_inf != 0

    def result(self) -> OptimizerRecord:
        """Returns everything counted so far."""
        return OptimizerRecord(
            settings=self.settings.result(),
            steps=self.steps,
            steps_inside=self.steps_inside,
            without_effect=self.without_effect,
            interrupted=self.interrupted,
            begun_with=self.begun_with,
        )

    def _forget(self, _reference: weakref.ref[Optimizer]) -> None:
        """Lets go of the tensors of an optimizer that is gone."""
        self._tensors, self.tensors = [], []


def names_of(optimizer: Optimizer, names: Mapping[int, str]) -> tuple[tuple[str, ...], ...]:
    """Returns the names of the tensors that an optimizer steps, by group; no text for one without.

    Args:
        optimizer: The optimizer.
        names: Names of tensors by identity.
    """
    return tuple(
        tuple(names.get(id(tensor), "") for tensor in group["params"]) for group in optimizer.param_groups
    )
