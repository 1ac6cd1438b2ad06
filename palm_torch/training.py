"""Measuring a training run: what was delivered, what was stepped, what the weights were and became.

Batches count when the loop receives them. One delivered with gradients on waits until an optimizer has
stepped, and then was for training; one delivered with gradients off, or that no step followed, was for
evaluation. The weights are those of the modules that own what optimizers step: read in the first pre-step
hook, before anything moved, and again when the run ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

import torch
from torch import nn

from palm_torch import codec
from palm_torch.commit import coverage, weights_root
from palm_torch.data import dataset
from palm_torch.data.ledger import Ledger, LedgerSummary
from palm_torch.digest import TAGGED_SHA256, Digest, tagged_digest
from palm_torch.errors import CoverageError
from palm_torch.hooks import architecture, discovery, live, weights
from palm_torch.hooks.buffers import BufferSnapshot, Taken
from palm_torch.hooks.meter import StepMeter
from palm_torch.hooks.watch import ParameterWatch
from palm_torch.properties import Train
from palm_torch.roles import Artifact, Dataset, Source, Steps, Tensor, Value, Weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from torch.optim import Optimizer

    from palm_torch.encoding import Json
    from palm_torch.recorder import Reads
    from palm_torch.roles import Use

    Model: TypeAlias = nn.Module | Mapping[str, nn.Module] | Mapping[str, torch.Tensor]


@dataclasses.dataclass(frozen=True, slots=True)
class _Owned:
    """Owners found at one time, with the initial state of their tensors under their final names."""

    owners: discovery.Owners
    prefix: str
    initial: weights.WeightsMeasurement
    taken: Taken
    measured: dict[int, weakref.ref[torch.Tensor]]
    architecture: Digest

    def tensors(self) -> list[weights.NamedTensor]:
        return _prefixed(self.owners.tensors(), self.prefix)

    def knows(self, tensor: torch.Tensor) -> bool:
        """Returns whether this very tensor was measured before the first step."""
        reference = self.measured.get(id(tensor))
        return reference is not None and reference() is tensor


class Training:
    """Measures one training run; a recorder for the session that owns it.

    Args:
        record: Appends an event to the session's log.
    """

    def __init__(self, record: Callable[[str, dict[str, Json]], None]) -> None:
        self._record = record
        self._ledgers: dict[str, Ledger] = {}
        self._delivered: dict[str, dict[str, LedgerSummary]] = {}
        self._pending: list[Sequence[Reads]] = []
        self._with_gradients = 0
        self._unfed_steps = 0
        self._fed: weakref.WeakKeyDictionary[Optimizer, int] = weakref.WeakKeyDictionary()
        self._stepped: dict[int, weakref.ref[torch.Tensor]] = {}
        self._buffers: BufferSnapshot | None = None
        self._alive: list[weakref.ref[nn.Module]] = []
        self._watch = ParameterWatch()
        self._meter = StepMeter(before_first_step=self._before_first_step, after_step=self._after_step)
        self._owned: list[_Owned] = []
        self._declared: Model | None = None
        self._places: dict[torch.device, torch.Tensor] = {}
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
            CoverageError: If an optimizer has stepped already: its initial weights are gone. Or if it is
                neither a module nor a mapping from name to modules or tensors.
        """
        if self._owned:
            raise CoverageError(
                "run.output(model=...) comes after the first optimizer step: name the model before it"
            )
        if not isinstance(model, (nn.Module, Mapping)):
            raise CoverageError(
                f"run.output(model=...): expected a torch.nn.Module, or modules or tensors by name, got "
                f"{type(model).__name__}; a file goes under another role, e.g. run.output(checkpoint=path)"
            )
        discovery.declared(model).tensors()
        self._declared = model

    def deliver(self, reads: Sequence[Reads], *, grad_enabled: bool) -> None:
        """Counts a delivered batch; see `palm_torch.recorder.Recorder`."""
        with live.one_look() if self._buffers is None else contextlib.nullcontext():
            self._count_delivery(reads, grad_enabled=grad_enabled)

    def _count_delivery(self, reads: Sequence[Reads], *, grad_enabled: bool) -> None:
        if self._buffers is None:
            self._buffers = BufferSnapshot()
            self._alive = [weakref.ref(module) for module in live.modules()]
        self._meter.delivered()
        for item in reads:
            if item.dataset not in self._ledgers:  # now, for the dataset may be gone before the step
                self._ledgers[item.dataset] = Ledger(dataset.info_of(item.dataset))
        if not grad_enabled:
            self._count(reads, "eval")
            return
        self._with_gradients += 1
        self._pending.append(reads)
        if not self._meter.steps:
            self._watch.delivered()

    def finish(self, tokenizer: Artifact, configuration: Mapping[str, Any], seeds: Value) -> Train:
        """Measures the final state and returns the property; hooks must have been removed.

        Raises:
            CoverageError: If nothing was delivered, or nothing stepped.
        """
        for reads in self._pending:
            self._count(reads, "eval")
        self._pending.clear()
        if not self._ledgers:
            raise CoverageError("no record was delivered inside the session: " + _NO_DATA)
        if not self._meter.steps:
            raise CoverageError(
                f"{self._with_gradients} batches were delivered with gradients on, but no torch.optim "
                "optimizer stepped: a hand-written update cannot be measured; use torch.optim.SGD, or put "
                "the rule into the step() of a torch.optim.Optimizer subclass"
            )
        steps = self._meter.finish()
        final = weights.WeightsMeter().measure([named for owned in self._owned for named in owned.tensors()])
        self._require_stepped(final)
        model = _weights(final.tensors, taken="end")
        return Train(
            architecture=Artifact(
                source=Source.MEASURED,
                kind="architecture",
                digest=self._architecture(),
            ),
            data=self._data(),
            configuration=Value(
                source=Source.MEASURED,
                value={
                    "optimizers": codec.to_json(
                        [
                            {
                                "class": record.settings.class_name,
                                "groups": record.settings.groups,
                                "steps": record.steps,
                                "steps_inside": record.steps_inside,
                                "without_effect": record.without_effect,
                                "interrupted": record.interrupted,
                            }
                            for record in steps.optimizers
                        ]
                    ),
                    "scalers": codec.to_json(steps.scalers),
                    "steps_without_new_records": self._unfed_steps,
                    "writes_outside_steps": sum(record.written_outside for record in steps.optimizers),
                    "config": {"source": Source.REPORTED.value, "value": dict(configuration)},
                },
            ),
            tokenizer=tokenizer,
            initial=self._initial(),
            model=model,
            steps=Steps(source=Source.MEASURED, taken=steps.taken, skipped=steps.skipped),
            seeds=seeds,
        )

    def tensors(self) -> list[torch.Tensor]:
        """Returns the measured tensors, and an empty one of every device where some were when stepped."""
        return [*self._places.values(), *(named.tensor for owned in self._owned for named in owned.tensors())]

    def sidecars(self) -> dict[str, Callable[[Path], None]]:
        """Returns the coverage maps: file suffix → what writes the file."""
        return {
            f".{name}.{use}.coverage": partial(_write_coverage, summary)
            for name, uses in self._delivered.items()
            for use, summary in uses.items()
        }

    # Callbacks of the step hooks --------------------------------------------------------------------------

    def _before_first_step(self, optimizer: Optimizer, new: tuple[torch.Tensor, ...]) -> None:
        if not self._with_gradients:
            raise CoverageError(
                f"{type(optimizer).__name__}.step() before any record was delivered with gradients on: "
                + (_ONLY_EVALUATED if self._ledgers else _NO_DATA)
            )
        elsewhere = sorted({tensor.device.type for tensor in new} - {"cpu"})
        if elsewhere:
            raise CoverageError(
                f"{type(optimizer).__name__} steps tensors on {elsewhere[0]!r}, and this version collects no "
                "evidence of GPUs, so no verifier would accept the run: train on the CPU"
            )
        self._stepped.update((id(tensor), weakref.ref(tensor)) for tensor in new)
        missing = [tensor for tensor in new if not any(owned.knows(tensor) for owned in self._owned)]
        if not missing:
            return
        owners = self._find(missing)
        self._require_new(owners)
        prefix = "" if not self._owned else f"{'+'.join(owners.names) or 'tensors'}#{len(self._owned) + 1}."
        tensors, taken = (self._buffers or BufferSnapshot()).initial(owners)
        self._note_places(named.tensor for named in tensors)
        initial = weights.WeightsMeter().measure(_prefixed(tensors, prefix))
        measured = {id(item): weakref.ref(item) for item in _all_of(owners)}
        self._owned.append(
            _Owned(owners, prefix, initial, taken, measured, architecture.describe(owners).digest)
        )
        self._record(
            "initial weights",
            {
                "root": str(initial.root),
                "optimizer": type(optimizer).__name__,
                "owners": list(owners.names),
                "taken": taken,
            },
        )

    def _require_new(self, owners: discovery.Owners) -> None:
        known = {id(module) for owned in self._owned for module in owned.owners.modules}
        for name, module in zip(owners.names, owners.modules, strict=True):
            if id(module) in known:
                raise CoverageError(
                    f"an optimizer steps parameters of {name} that were not there at its first step, but "
                    "replaced or added since: what they were before is not measured; load or grow the model "
                    "before the first step, or begin another session for the next stage"
                )

    def _require_stepped(self, final: weights.WeightsMeasurement) -> None:
        """Checks that no trainable parameter changed but by an optimizer.

        Raises:
            CoverageError: Naming the first that did.
        """
        before = {spec.name: root for owned in self._owned for spec, root in owned.initial.tensors}
        after = {spec.name: root for spec, root in final.tensors}
        for named in (named for owned in self._owned for named in owned.tensors()):
            reference = self._stepped.get(id(named.tensor))
            stepped = reference is not None and reference() is named.tensor
            if named.trainable and not stepped and before.get(named.name) not in (None, after[named.name]):
                raise CoverageError(
                    f"parameter {named.name} changed, but no optimizer that was measured has stepped it: a "
                    "hand-written update, or weights loaded after the first step, cannot be attested; give "
                    "it to a torch.optim optimizer, or set requires_grad to False if it is not trained"
                )

    def _find(self, parameters: Sequence[torch.Tensor]) -> discovery.Owners:
        if self._declared is not None:
            return discovery.declared(self._declared, parameters)
        known = [module for reference in self._alive if (module := reference()) is not None]
        return discovery.find_owners(parameters, among=known)

    def _after_step(self, optimizer: Optimizer) -> None:
        fed = self._fed.get(optimizer, 0)
        self._unfed_steps += fed == self._with_gradients
        self._fed[optimizer] = self._with_gradients
        for reads in self._pending:
            self._count(reads, "train")
        self._pending.clear()
        self._note_places(group["params"][0] for group in optimizer.param_groups if group["params"])

    def _note_places(self, tensors: Iterable[torch.Tensor]) -> None:
        """Remembers the devices: a model that leaves one before the run ends was there all the same."""
        for tensor in tensors:
            if tensor.device not in self._places:
                self._places[tensor.device] = torch.empty(0, device=tensor.device)

    # ------------------------------------------------------------------------------------------------------

    def _count(self, batch: Sequence[Reads], use: Use) -> None:
        for reads in batch:
            self._ledgers[reads.dataset].add(reads, use)

    def _data(self) -> dict[str, Dataset]:
        """Names datasets by their order of first use, since paths are the machine's own business."""
        described = {}
        for number, ledger in enumerate(self._ledgers.values(), 1):
            name, info = f"dataset{number}", ledger.info
            self._delivered[name] = ledger.claim()
            described[name] = Dataset(
                source=Source.MEASURED,
                format=info.layout.format,
                manifest=info.manifest.digest if info.manifest else None,
                records=info.records,
                record_bytes=info.layout.record_bytes,
                uses={use: summary.claim for use, summary in self._delivered[name].items()},
            )
        return described

    def _architecture(self) -> Digest:
        digests = [owned.architecture for owned in self._owned]
        if len(digests) == 1:
            return digests[0]
        return tagged_digest("palm-torch/architectures/v1", *(digest.value for digest in digests))

    def _initial(self) -> Weights:
        exact = all(owned.taken == "first_delivery" for owned in self._owned)
        return _weights(
            [pair for owned in self._owned for pair in owned.initial.tensors],
            taken="first_delivery" if exact else "first_step",
        )


_NO_DATA = (
    "read the data through palm_torch.AttestedMmapDataset and palm_torch.DataLoader, and iterate the loader "
    "inside the session"
)

_ONLY_EVALUATED = (
    "what was delivered under torch.no_grad() counts as evaluation; fetch training batches outside of it"
)


def _all_of(owners: discovery.Owners) -> Iterator[torch.Tensor]:
    for module in owners.modules:
        yield from module.parameters()
    yield from owners.loose.values()


def _prefixed(tensors: Sequence[weights.NamedTensor], prefix: str) -> list[weights.NamedTensor]:
    return [
        dataclasses.replace(
            named, name=prefix + named.name, aliases=tuple(prefix + alias for alias in named.aliases)
        )
        for named in tensors
    ]


def _weights(
    pairs: Sequence[tuple[weights_root.TensorSpec, bytes]],
    *,
    taken: Literal["first_delivery", "first_step", "end"],
) -> Weights:
    return Weights(
        source=Source.MEASURED,
        digest=weights_root.weights_root(pairs),
        tensors=tuple(
            Tensor(
                name=spec.name,
                aliases=spec.aliases,
                dtype=spec.dtype,
                shape=spec.shape,
                root=Digest(TAGGED_SHA256, root),
            )
            for spec, root in sorted(pairs, key=lambda pair: pair[0].name.encode("utf-8"))
        ),
        taken=taken,
    )


def _write_coverage(summary: LedgerSummary, path: Path) -> None:
    coverage.write_sidecar(path, summary.counts, summary.itemsize)
