"""Measuring a training run: what was delivered, what was stepped, what the weights were and became.

The data is the business of `training_data`, the model that of `training_model`; here they meet the hooks
around the optimizers' steps.
"""

from __future__ import annotations

import contextlib
from contextlib import ExitStack
from typing import TYPE_CHECKING, ClassVar, Final, Self

import torch

from palm_torch import codec
from palm_torch.attesting import sealing, training_claims
from palm_torch.attesting.gpus import SessionGpus
from palm_torch.attesting.measured import Finished
from palm_torch.attesting.ranks import Alone
from palm_torch.attesting.training_data import TrainingData
from palm_torch.attesting.training_model import TrainedModel
from palm_torch.attesting.training_state import Snapshot, TrainingState
from palm_torch.errors import CoverageError, EvidenceError
from palm_torch.hooks import environment, live, settings
from palm_torch.hooks.meter import StepMeter
from palm_torch.hooks.watch import ParameterWatch
from palm_torch.hooks.writes import WriteWatch
from palm_torch.properties import Train
from palm_torch.roles import EMPTY, Artifact, Source, Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from torch.optim import Optimizer

    from palm_torch.attesting.measured import Said
    from palm_torch.attesting.owned_model import Model
    from palm_torch.attesting.ranks import Company
    from palm_torch.data.shares import CountMap
    from palm_torch.digest import Digest
    from palm_torch.encoding import Json
    from palm_torch.hooks.meter import StepSummary
    from palm_torch.properties import Property
    from palm_torch.receipt import DatasetAccount
    from palm_torch.recorder import Reads
    from palm_torch.statement import Device

ABSENT: Final = Artifact(source=Source.DECLARED, kind=EMPTY, digest=None)


class Training:
    """Measures one training run; a recorder for the session that owns it.

    Args:
        record: Appends an event to the session's log.
        counts_data: Whether a run that delivers no record is an error; without, a script may read all its
            data by itself, and the claim lists none.
        why_unattested: Returns why no evidence vouches for a device, None if some does or none is needed; by
            default for any other than the CPU.
        company: The other ranks, if there are any.
    """

    PROPERTY: ClassVar[type[Property]] = Train
    NAMED: ClassVar[tuple[str, ...]] = ("tokenizer",)

    def __init__(
        self,
        record: Callable[[str, dict[str, Json]], None],
        *,
        counts_data: bool = True,
        why_unattested: Callable[[Device], str | None] | None = None,
        company: Company | None = None,
    ) -> None:
        self._company = company or Alone()
        self._counts_data = counts_data
        self._why_unattested = why_unattested or SessionGpus().why_unattested
        written = WriteWatch()
        self._model = TrainedModel(record, written, self._company)
        self._data = TrainingData()
        self._batches_with_gradients = 0
        self._unfed_steps = 0
        self._fed: dict[int, int] = {}
        self._watch = ParameterWatch()
        self._meter = StepMeter(
            before_first_step=self._before_first_step,
            after_step=self._after_step,
            names=self._model.names,
            watch=written,
        )
        self._places: dict[torch.device, torch.Tensor] = {}
        self._devices: tuple[Device, ...] = ()
        self._compared = False
        self._hooks = ExitStack()

    def __enter__(self) -> Self:
        """Registers the step hooks."""
        self._hooks.enter_context(self._meter)
        return self

    def __exit__(self, *_: object) -> None:
        """Removes the step hooks."""
        self._hooks.close()

    def declare_model(self, model: Model) -> None:
        """Takes the model the script names itself instead of looking for the owner of what is stepped.

        Raises:
            CoverageError: As `TrainedModel.declare`.
        """
        self._model.declare(model)

    def deliver(self, reads: Sequence[Reads], *, grad_enabled: bool) -> None:
        """Counts a delivered batch; see `palm_torch.recorder.Recorder`."""
        with contextlib.nullcontext() if self._model.looked else live.one_look():
            self._count_delivery(reads, grad_enabled=grad_enabled)

    def _count_delivery(self, reads: Sequence[Reads], *, grad_enabled: bool) -> None:
        if not self._model.looked:
            self._model.look()
            self._data.look()
        self._meter.delivered()
        if self._meter.steps and not self._data.any:
            raise CoverageError(
                "the first records are delivered after steps that were fed otherwise: read all training data "
                "through palm_torch, or none of it"
            )
        self._data.open(reads)
        if not grad_enabled:
            self._data.count(reads, "eval")
            return
        self._batches_with_gradients += 1
        self._data.wait(reads)
        if not self._meter.steps:
            self._watch.delivered()

    def snapshot(self) -> Snapshot:
        """Measures the run as it is between two steps; the run goes on.

        Raises:
            CoverageError: If nothing has stepped yet, or something cannot be measured.
            SessionError: If a step is under way.
        """
        with live.one_look():
            counts = self._meter.counts()
            if not self._meter.steps:
                raise CoverageError(
                    "no optimizer has stepped yet, so there is nothing to go on from: save the first "
                    "checkpoint after the first step"
                )
            now = self._model.measure()
        optimizers = self._meter.held(counts)
        data, multiplicities, pending = self._data.held()
        return Snapshot(
            state=TrainingState(
                owned=self._model.state(now),
                optimizers=optimizers,
                fed=tuple(self._fed.get(place, 0) for place in range(len(optimizers))),
                scalers=counts.scalers,
                pending=pending,
                with_gradients=self._batches_with_gradients,
                unfed_steps=self._unfed_steps,
                writes=counts.writes,
                unstepped=self._model.changed_without_steps(),
                carried=self._data.carried,
                devices=self.devices(),
            ),
            data=data,
            counts=multiplicities,
            architecture=self._model.architecture(),
            initial=self._model.initial().digest,
            model=training_claims.weights(now, taken="end").digest,
            steps=_steps(counts),
        )

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
        if len(state.fed) != len(state.optimizers):
            raise EvidenceError(
                f"checkpoint: expected {len(state.optimizers)} numbers of batches fed, got {len(state.fed)}"
            )
        self._data.resume(data, counts, state.pending, state.carried)
        self._batches_with_gradients, self._unfed_steps = state.with_gradients, state.unfed_steps
        self._fed = dict(enumerate(state.fed))
        self._devices = state.devices
        self._model.resume(state.owned, state.unstepped, event)
        self._meter.resume(state.optimizers, state.scalers, writes=state.writes)

    def finish(self, said: Said) -> Finished:
        """Measures the final state and returns the property; hooks must have been removed.

        Raises:
            CoverageError: If nothing was delivered, or nothing stepped.
        """
        self._company.check(stepping=False)
        self._data.settle("eval")
        if not self._data.any and self._counts_data:
            raise CoverageError("no record was delivered inside the session: " + _NO_DATA)
        if not self._meter.steps:
            raise CoverageError("no torch.optim optimizer stepped inside the session: " + self._why_no_step())
        steps = self._meter.counts()
        model = training_claims.weights(self._model.measure(), taken="end")
        claims = Train(
            architecture=Artifact(
                source=Source.MEASURED,
                kind="architecture",
                digest=self._model.architecture(),
            ),
            data=self._data.claim(),
            configuration=training_claims.configuration(
                steps,
                unfed_steps=self._unfed_steps,
                carried=self._data.carried,
                unstepped=len(self._model.changed_without_steps()),
                extra_state=self._model.extra_state(),
                reported=said.configuration,
            ),
            tokenizer=said.inputs.get("tokenizer", ABSENT),
            initial=self._model.initial(),
            model=model,
            steps=_steps(steps),
            seeds=said.seeds,
        )
        return Finished(claims=claims, kind=sealing.FINAL_WEIGHTS, event={"root": str(claims.model.digest)})

    def tensors(self) -> list[torch.Tensor]:
        """Returns the measured tensors, and an empty one of every device where some were when stepped."""
        return [*self._places.values(), *self._model.tensors()]

    def devices(self) -> tuple[Device, ...]:
        """Returns every device on which measured tensors have lived in the run."""
        now = environment.devices(self.tensors())
        return (*(device for device in self._devices if device not in now), *now)

    def sidecars(self) -> dict[str, Callable[[Path], None]]:
        """Returns the coverage maps: file suffix → what writes the file."""
        return self._data.sidecars()

    def maps(self) -> dict[tuple[str, str], CountMap]:
        """Returns how often each record was delivered, by dataset and use; after `finish`."""
        return self._data.maps()

    def same(self) -> dict[str, Digest]:
        """Returns what proves to other ranks of this machine that datasets are of the same files, by name."""
        return self._data.same()

    def buffers(self) -> list[str]:
        """Returns the names of the model's tensors that are buffers, sorted."""
        return self._model.buffers()

    def parted(self) -> bool:
        """Returns whether this rank has only a part of some parameter."""
        return self._model.parted()

    def _why_no_step(self) -> str:
        """Says what happened instead of a step, and what to do."""
        if self._batches_with_gradients:
            return (
                f"{self._batches_with_gradients} batches were delivered with gradients on, and a "
                "hand-written update cannot be measured; use torch.optim.SGD, or put the rule into the "
                "step() of a torch.optim.Optimizer subclass"
            )
        if self._data.any:
            return "no batch was delivered with gradients on; " + _ONLY_EVALUATED
        return (
            "no record was delivered either, so nothing is known to have been trained; run the whole "
            "training loop inside the session, and let a torch.optim optimizer make the updates"
        )

    # Callbacks of the step hooks --------------------------------------------------------------------------

    def _before_first_step(self, optimizer: Optimizer, new: tuple[torch.Tensor, ...]) -> None:
        self._company.check(stepping=True)
        if not self._batches_with_gradients and (self._counts_data or self._data.any):
            raise CoverageError(
                f"{type(optimizer).__name__}.step() before any record was delivered with gradients on: "
                + (_ONLY_EVALUATED if self._data.any else _NO_DATA)
            )
        for device in environment.devices(new):
            if (why := self._why_unattested(device)) is not None:
                raise CoverageError(
                    f"{type(optimizer).__name__} steps tensors on {device.type!r}, of which there is no "
                    f"evidence, so that no verifier would accept the run: {why}; a run on the CPU needs none"
                )
        self._note_places(self._model.introduce(optimizer, new))
        if not self._compared:
            self._compared = True
            self._company.compare(lambda: self._facts(optimizer))

    def _facts(self, optimizer: Optimizer) -> dict[str, Json]:
        """Returns what has to be the same in all ranks before anything is stepped."""
        return {
            "architecture": str(self._model.architecture()),
            "parts of parameters": "some" if self._model.parted() else "none",
            "parameters": self._model.initial_parameters(),
            "optimizer": codec.to_json(settings.now(optimizer)),
        }

    def _after_step(self, optimizer: Optimizer) -> None:
        self._company.check(stepping=True)
        place = self._meter.place_of(optimizer)
        self._unfed_steps += self._fed.get(place, 0) == self._batches_with_gradients
        self._fed[place] = self._batches_with_gradients
        self._data.settle("train")
        self._note_places(group["params"][0] for group in optimizer.param_groups if group["params"])

    def _note_places(self, tensors: Iterable[torch.Tensor]) -> None:
        """Remembers the devices: a model that leaves one before the run ends was there all the same."""
        for tensor in tensors:
            if tensor.device not in self._places:
                self._places[tensor.device] = torch.empty(0, device=tensor.device)


_NO_DATA = (
    "read the data through palm_torch.AttestedMmapDataset and palm_torch.DataLoader, and iterate the loader "
    "inside the session"
)

_ONLY_EVALUATED = (
    "what was delivered under torch.no_grad() counts as evaluation; fetch training batches outside of it"
)


def _steps(counts: StepSummary) -> Steps:
    return Steps(source=Source.MEASURED, taken=counts.taken, skipped=counts.skipped)
