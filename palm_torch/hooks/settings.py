"""An optimizer's class and hyper-parameters, and how they changed over its steps.

Each option of each parameter group is looked at before every step. Unchanged options cost an identity
comparison; a change extends a hash chain, so that the whole schedule is bound by 32 bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from torch import Tensor

from palm_torch.digest import TAGGED_SHA256, Digest, tagged_hash
from palm_torch.encoding import MAX_INTEGER, Json, encode_json
from palm_torch.hooks.deferred import BATCH, DeferredReads
from palm_torch.hooks.wrappers import qualified_name

if TYPE_CHECKING:
    from torch.optim import Optimizer


TAG: Final = "palm-torch/option-chain/v1"

NOT_OPTIONS: Final = frozenset({"params", "param_names"})
"""Keys of a parameter group that say what is stepped, not how."""

_U64_BYTES: Final = 8
_IMMUTABLE: Final = (type(None), bool, int, float, str)


@dataclass(frozen=True, slots=True)
class OptionHistory:
    """One option over all steps of one optimizer.

    Attributes:
        first: Value at the first step.
        last: Value at the last step.
        least: Least number it was; None if at some step it was none, or was infinite or NaN.
        greatest: Greatest number it was; None likewise.
        changes: How often it differed from the step before.
        chain: h ← SHA-256(tag ‖ LP(h) ‖ LP(u64 step) ‖ LP(canonical JSON)) at the first step and at each
            change, from 32 zero bytes; steps count from 0.
    """

    first: Any
    last: Any
    least: int | float | None
    greatest: int | float | None
    changes: int
    chain: Digest


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """One parameter group.

    Attributes:
        parameters: How many tensors it has.
        elements: How many numbers these tensors hold.
        options: History of every option that has a JSON form, by name.
        unrecorded: Names of options that have none, e.g. functions.
    """

    parameters: int
    elements: int
    options: dict[str, OptionHistory]
    unrecorded: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OptimizerSettings:
    """An optimizer: qualified class name and parameter groups in order."""

    class_name: str
    groups: tuple[GroupSettings, ...]


class SettingsHistory:
    """Follows the settings of one optimizer; holds values only, never the optimizer.

    Args:
        before: The optimizer, or what `result` returned before a checkpoint.
        reads: Fetches numbers from devices.

    Attributes:
        class_name: Qualified name of the optimizer's class.
    """

    __slots__ = ("_groups", "_reads", "class_name")

    def __init__(self, before: Optimizer | OptimizerSettings, reads: DeferredReads) -> None:
        self._reads = reads
        self._groups: list[_Group] = []
        if isinstance(before, OptimizerSettings):
            self.class_name = before.class_name
            self._groups += map(_Group.resumed, before.groups)
        else:
            self.class_name = qualified_name(type(before))

    def observe(self, optimizer: Optimizer, step: int) -> None:
        """Looks at all options, before a step and after it.

        Args:
            optimizer: The optimizer.
            step: Number of the step, from 0.
        """
        groups = optimizer.param_groups
        while len(self._groups) < len(groups):
            self._groups.append(_Group())
        for group, history in zip(groups, self._groups, strict=False):
            history.observe(group, step, self._reads)

    def result(self) -> OptimizerSettings:
        """Returns what was observed; numbers still on a device have to be read before."""
        return OptimizerSettings(self.class_name, tuple(group.result() for group in self._groups))


def now(optimizer: Optimizer) -> OptimizerSettings:
    """Returns the settings of an optimizer as they are at this moment."""
    reads = DeferredReads()
    history = SettingsHistory(optimizer, reads)
    history.observe(optimizer, 0)
    reads.finish()
    return history.result()


class _Group:
    __slots__ = ("_elements", "_options", "_parameters", "_unrecorded")

    def __init__(self) -> None:
        self._parameters = self._elements = 0
        self._options: dict[str, _Option] = {}
        self._unrecorded: set[str] = set()

    @classmethod
    def resumed(cls, settings: GroupSettings) -> _Group:
        group = cls()
        group._parameters, group._elements = settings.parameters, settings.elements
        group._options = {name: _Option.resumed(history) for name, history in settings.options.items()}
        group._unrecorded = set(settings.unrecorded)
        return group

    def observe(self, group: dict[str, Any], step: int, reads: DeferredReads) -> None:
        parameters = group["params"]
        if len(parameters) != self._parameters:
            self._parameters = len(parameters)
            self._elements = sum(parameter.numel() for parameter in parameters)
        options = self._options
        for name, value in group.items():
            option = options.get(name)
            if option is not None and value is option.seen:
                continue
            if name in NOT_OPTIONS or name in self._unrecorded:
                continue
            if option is None:
                option = options[name] = _Option()
            if not option.observe(value, step, reads):
                del options[name]
                self._unrecorded.add(name)

    def result(self) -> GroupSettings:
        return GroupSettings(
            self._parameters,
            self._elements,
            {name: option.result() for name, option in sorted(self._options.items())},
            tuple(sorted(self._unrecorded)),
        )


class _Option:
    """One option; `seen` is the object seen last if it cannot change in place, else a unique mark."""

    __slots__ = (
        "_changes",
        "_encoded",
        "_first",
        "_greatest",
        "_head",
        "_hint",
        "_last",
        "_least",
        "_ordered",
        "_waiting",
        "seen",
    )

    def __init__(self) -> None:
        self.seen: object = self
        self._hint: tuple[int, int] | None = None
        self._encoded = b""
        self._first: Json = None
        self._last: Json = None
        self._least: int | float | None = None
        self._greatest: int | float | None = None
        self._ordered = True
        self._waiting: list[tuple[int, Json]] = []
        self._changes = -1
        self._head = bytes(32)

    @classmethod
    def resumed(cls, history: OptionHistory) -> _Option:
        option = cls()
        option._first, option._last = history.first, history.last
        option._encoded = encode_json(history.last)
        option._least, option._greatest = history.least, history.greatest
        option._ordered = history.least is not None
        option._changes = history.changes
        option._head = history.chain.value
        return option

    def observe(self, value: object, step: int, reads: DeferredReads) -> bool:
        """Notes the value before a step; says whether it has a JSON form."""
        if isinstance(value, Tensor):
            return self._tensor(value, step, reads)
        try:
            plain = _plain(value)
        except TypeError:
            return False
        self.seen = value if isinstance(value, _IMMUTABLE) else self
        self._waiting.append((step, plain))
        if len(self._waiting) >= BATCH:
            self._settle()
        return True

    def _tensor(self, value: Tensor, step: int, reads: DeferredReads) -> bool:
        if value.numel() != 1 or value.is_complex():
            return False
        if value.device.type != "cpu":  # copying it at every step would cost a kernel: its version is a hint
            hint = (id(value), -1 if value.is_inference() else value._version)  # noqa: SLF001 (no public name)
            if hint == self._hint:
                return True
            self._hint = hint
        self._settle()
        reads.read(value, partial(self._number, step))
        return True

    def _settle(self) -> None:
        """Records what waits: many at once, because each alone would find the processor's caches cold."""
        for step, plain in self._waiting:
            self._record(step, plain)
        self._waiting.clear()

    def _number(self, step: int, value: float) -> None:
        self._record(step, _plain(value))

    def _record(self, step: int, plain: Json) -> None:
        encoded = encode_json(plain)
        if encoded == self._encoded:
            return
        if not self._encoded:
            self._first = plain
        self._encoded, self._last = encoded, plain
        self._changes += 1
        self._head = tagged_hash(TAG, self._head, step.to_bytes(_U64_BYTES, "big"), encoded)
        if isinstance(plain, bool) or not isinstance(plain, (int, float)):
            self._ordered = False  # infinity and NaN included: there is no range to speak of any more
        else:
            self._least = plain if self._least is None else min(self._least, plain)
            self._greatest = plain if self._greatest is None else max(self._greatest, plain)

    def result(self) -> OptionHistory:
        self._settle()
        return OptionHistory(
            self._first,
            self._last,
            self._least if self._ordered else None,
            self._greatest if self._ordered else None,
            max(self._changes, 0),
            Digest(TAGGED_SHA256, self._head),
        )


def _plain(value: object) -> Json:
    """Returns the JSON form of an option: numbers JSON has no word for become text.

    Raises:
        TypeError: If the value has no such form.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value) if abs(value) <= MAX_INTEGER else str(int(value))
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else repr(float(value))
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Tensor) and value.numel() == 1 and value.device.type == "cpu":
        return _plain(value.item())
    if isinstance(value, (torch.dtype, torch.device)):
        return str(value)
    raise TypeError(type(value).__name__)
