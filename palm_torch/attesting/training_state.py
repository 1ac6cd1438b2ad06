"""What a checkpoint remembers of a training run, and what its receipt says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from palm_torch.attesting.owned_model import OwnedState
from palm_torch.digest import Digest
from palm_torch.errors import EvidenceError
from palm_torch.hooks.optimizer_account import OptimizerCheckpoint
from palm_torch.hooks.scaler import ScalerCounts
from palm_torch.receipt import DatasetAccount
from palm_torch.recorder import Reads
from palm_torch.roles import Steps
from palm_torch.statement import Device

DATASET: Final = "dataset"
"""Datasets are called ``dataset1``, ``dataset2`` … in the order of their first use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """Everything of a training run that its receipt has no place for.

    Attributes:
        owned: The model, in the order of the owners' first step.
        optimizers: In the order of their first step.
        fed: For each optimizer, how many batches had been delivered with gradients on when it last stepped.
        scalers: Gradient scalers, in the order found.
        pending: Batches delivered with gradients on that no step has followed yet; datasets by name.
        with_gradients: Batches delivered with gradients on.
        unfed_steps: Steps that no new record preceded.
        writes: Times that parameters were written to between steps; see `palm_torch.hooks.writes`.
        unstepped: Names of parameters that changed although no optimizer steps them.
        carried: Batches that waited for their step at an earlier checkpoint, and whose step came after it.
        devices: Where measured tensors have lived.
    """

    owned: tuple[OwnedState, ...]
    optimizers: tuple[OptimizerCheckpoint, ...]
    fed: tuple[int, ...]
    scalers: tuple[ScalerCounts, ...]
    pending: tuple[tuple[Reads, ...], ...]
    with_gradients: int
    unfed_steps: int
    writes: int
    unstepped: tuple[str, ...]
    carried: int
    devices: tuple[Device, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A training run between two steps.

    Attributes:
        state: What the receipt has no place for.
        data: Datasets by name.
        counts: Multiplicities of records by dataset and use, little endian.
        architecture: Digest of the architecture.
        initial: Weights root before the first step.
        model: Weights root now.
        steps: Steps until now.
    """

    state: TrainingState
    data: dict[str, DatasetAccount]
    counts: dict[str, dict[str, bytes]]
    architecture: Digest
    initial: Digest
    model: Digest
    steps: Steps


def name_of(number: int) -> str:
    """Returns the name of the n-th dataset, from 1."""
    return f"{DATASET}{number}"


def in_order(data: dict[str, DatasetAccount]) -> list[tuple[str, DatasetAccount]]:
    """Returns datasets in the order of their first use.

    Raises:
        EvidenceError: If they are not called as they should be.
    """
    names = [name_of(number) for number in range(1, len(data) + 1)]
    if data.keys() != set(names):
        raise EvidenceError(f"checkpoint: expected datasets {names}, got {sorted(data)}")
    return [(name, data[name]) for name in names]
