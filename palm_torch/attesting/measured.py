"""What a session measures: one strategy for each operation, behind one protocol.

A session seals what is known before its block, hands on what is delivered inside it, and seals what the
strategy says came of it. How a run is measured, and what it may be asked for, is the strategy's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

from palm_torch.encoding import Json
from palm_torch.properties import Property
from palm_torch.roles import Artifact, Value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from palm_torch.attesting.owned_model import Model
    from palm_torch.attesting.training_state import Snapshot, TrainingState
    from palm_torch.receipt import DatasetAccount
    from palm_torch.recorder import Reads
    from palm_torch.statement import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What the block's surroundings add to the property.

    Attributes:
        inputs: Those of `Measured.NAMED` that the script named with ``run.input``.
        configuration: What it named with ``run.config``.
        seeds: States of the random number generators at begin and end.
    """

    inputs: Mapping[str, Artifact]
    configuration: Mapping[str, Any]
    seeds: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """What came of a run.

    Attributes:
        claims: The property.
        kind: Type of the event log's last entry, one of `palm_torch.attesting.sealing.LAST`.
        event: The rest of that entry.
    """

    claims: Property
    kind: str
    event: dict[str, Json]


class Measured(Protocol):
    """How one operation is measured.

    Its ``with`` block is that of the session; what it raises inside makes evidence impossible.

    Attributes:
        PROPERTY: What it makes.
        NAMED: Roles of the property that the script fills itself, with ``run.input``.
    """

    PROPERTY: ClassVar[type[Property]]
    NAMED: ClassVar[tuple[str, ...]]

    def __enter__(self) -> Self:
        """Begins to measure; the begin statement is sealed already."""

    def __exit__(self, *_: object) -> None:
        """Stops measuring, whether the block ended well or not."""

    def deliver(self, reads: Sequence[Reads], *, grad_enabled: bool) -> None:
        """Counts a delivered batch; see `palm_torch.recorder.Recorder`.

        Raises:
            MeasurementError: If it cannot be accounted for.
        """

    def finish(self, said: Said) -> Finished:
        """Measures what the block left and returns the property; the block has ended.

        Raises:
            MeasurementError: If a role of the property stays empty, or something cannot be measured.
        """

    def devices(self) -> tuple[Device, ...]:
        """Returns every device on which measured tensors have lived in the run."""

    def sidecars(self) -> dict[str, Callable[[Path], None]]:
        """Returns the files beside the evidence: suffix → what writes the file; after `finish`."""


@runtime_checkable
class Resumable(Measured, Protocol):
    """An operation that can go on from a checkpoint in another session."""

    def snapshot(self) -> Snapshot:
        """Measures the run as it is between two steps; the run goes on.

        Raises:
            CoverageError: If nothing has stepped yet, or something cannot be measured.
            SessionError: If a step is under way.
        """

    def resume(
        self,
        state: TrainingState,
        data: dict[str, DatasetAccount],
        counts: Mapping[str, Mapping[str, bytes]],
        event: dict[str, Json],
    ) -> None:
        """Goes on from a checkpoint; to be called before the ``with`` block is entered.

        Args:
            state: What `snapshot` returned.
            data: Likewise.
            counts: Likewise.
            event: What to log once the loaded model has been found equal to the checkpoint's.

        Raises:
            EvidenceError: If these do not belong together.
            DataError: If a multiset hash is out of range.
        """


@runtime_checkable
class HasModel(Measured, Protocol):
    """An operation whose result is a model that the script may name."""

    def declare_model(self, model: Model) -> None:
        """Takes the model that the script names instead of looking for it.

        Raises:
            CoverageError: If it comes too late, or is no model.
        """
