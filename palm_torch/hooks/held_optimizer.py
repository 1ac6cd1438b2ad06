"""Which optimizer of a checkpoint one is: the tensors that it steps and the state that it is in tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch.errors import CoverageError
from palm_torch.hooks import optimizer_state, wrappers
from palm_torch.hooks.optimizer_account import names_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch.optim import Optimizer

    from palm_torch.hooks.optimizer_account import OptimizerAccount


def among(
    waiting: Sequence[OptimizerAccount], optimizer: Optimizer, names: Mapping[int, str]
) -> OptimizerAccount | None:
    """Returns the checkpoint's account of an optimizer; None if it began after the checkpoint.

    Args:
        waiting: Accounts of optimizers that were there at the checkpoint and have not stepped since.
        optimizer: The optimizer, before its first step.
        names: Names of tensors by identity; the same before a checkpoint and after it.

    Raises:
        CoverageError: If it is of another class, steps other tensors or is in another state than the
            checkpoint's, or several could be it.
    """
    kind = wrappers.qualified_name(type(optimizer))
    what = type(optimizer).__name__
    own = names_of(optimizer, names)
    stepped = {name for group in own for name in group}
    before = [item for item in waiting if any(stepped.intersection(group) for group in item.held)]
    if not before:
        return None
    of_its_kind = [item for item in before if item.settings.class_name == kind]
    if not of_its_kind:
        raise CoverageError(
            f"{kind} steps tensors that at the checkpoint {before[0].settings.class_name} steps, which has "
            "not stepped since: go on with that optimizer and its state. To change the optimizer, drop the "
            "old one (`del optimizer`) before the checkpoint is saved, or begin a new run from its weights"
        )
    same = [item for item in of_its_kind if item.held == own]
    if not same:
        raise CoverageError(
            f"{what} steps other tensors than before the checkpoint, or in another order: expected "
            f"{_told(of_its_kind[0].held)}, got {_told(own)}: make the optimizer as it was made then"
        )
    state = optimizer_state.digest_of(optimizer)
    equal = [item for item in same if item.expected == state]
    if not equal:
        raise CoverageError(
            f"the state of {what} is not the checkpoint's: expected {same[0].expected}, got {state}: "
            "load it with optimizer.load_state_dict(...) from the checkpoint that resume= was taken "
            "from, before the first step"
        )
    if len(equal) > 1:
        raise CoverageError(
            f"{len(equal)} {what} of the checkpoint step the same tensors and are in the same state, so "
            "that none can tell which of them this is: keep one optimizer for them"
        )
    return equal[0]


def _told(groups: Sequence[Sequence[str]]) -> str:
    """Returns names of tensors for a message."""
    return repr([list(group) for group in groups])[:200]
