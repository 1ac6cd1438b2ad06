"""The model of a training run: who owns what is stepped, its weights before the first step, and now.

The weights are those of the modules that own what optimizers step: read in the first pre-step hook, before
anything moved. In a run that goes on from a checkpoint the same hook compares what was loaded with what the
checkpoint's receipt says, tensor by tensor, and the initial weights stay those of the whole run.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import nn

from palm_torch.attesting import loaded_model, owned_model, training_claims, unstepped
from palm_torch.attesting.owned_model import Owned, OwnedState
from palm_torch.attesting.ranks import Alone
from palm_torch.digest import Digest, tagged_digest
from palm_torch.errors import CoverageError
from palm_torch.hooks import architecture, discovery, extra_state, live, weights, wrappers
from palm_torch.hooks import tensors as hooked
from palm_torch.hooks.buffers import BufferSnapshot, Taken

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch.optim import Optimizer

    from palm_torch.attesting.owned_model import Model
    from palm_torch.attesting.ranks import Company
    from palm_torch.encoding import Json
    from palm_torch.hooks.writes import WriteWatch
    from palm_torch.roles import Tensor, Weights


class TrainedModel:
    """The model that one run trains.

    Args:
        record: Appends an event to the session's log.
        watch: Tells who writes to parameters.
        company: The other ranks, if there are any.
    """

    def __init__(
        self,
        record: Callable[[str, dict[str, Json]], None],
        watch: WriteWatch,
        company: Company | None = None,
    ) -> None:
        self._record = record
        self._company = company or Alone()
        self._watch = watch
        self._unstepped: set[str] = set()
        self._stepped: dict[int, weakref.ref[torch.Tensor]] = {}
        self._buffers: BufferSnapshot | None = None
        self._alive: list[weakref.ref[nn.Module]] = []
        self._owned: list[Owned] = []
        self._held: list[OwnedState] = []
        self._order: list[OwnedState] = []
        self._resumed: dict[str, Json] | None = None
        self._declared: Model | None = None

    @property
    def looked(self) -> bool:
        """Whether live modules and their buffers have been looked at."""
        return self._buffers is not None

    def look(self) -> None:
        """Remembers live modules and copies their buffers; to be called when the first batch arrives."""
        self._buffers = BufferSnapshot()
        self._alive = [weakref.ref(module) for module in live.modules()]

    def declare(self, model: Model) -> None:
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

    def resume(self, held: Sequence[OwnedState], changed: Iterable[str], event: dict[str, Json]) -> None:
        """Goes on from a checkpoint.

        Args:
            held: What the checkpoint says of the model.
            changed: What `changed_without_steps` returned.
            event: What to log once everything that was loaded has been found equal to it.
        """
        self._held, self._order = list(held), list(held)
        self._unstepped.update(changed)
        self._resumed = event

    def introduce(self, optimizer: Optimizer, new: tuple[torch.Tensor, ...]) -> Iterable[torch.Tensor]:
        """Finds the owners of tensors that are about to be stepped for the first time; returns what it read.

        Raises:
            CoverageError: If they have no owner, several could be it, what was loaded is not the
                checkpoint's model, or a tensor lies in a mapped file.
        """
        self._stepped.update((id(tensor), weakref.ref(tensor)) for tensor in new)
        missing = [tensor for tensor in new if not any(owned.knows(tensor) for owned in self._owned)]
        if not missing:
            return ()
        owners = self._find(missing)
        self._require_new(owners)
        owned_model.require_own_memory([owners])
        tensors, taken = self._initial_tensors(owners)
        held = loaded_model.part_of(self._held, owners, tensors, all_left=len(self._held) == len(self._order))
        if held is None:
            self._begin(optimizer, owners, tensors, taken)
        else:
            self._go_on(owners, held)
        return [named.tensor for named in tensors]

    def measure(self) -> tuple[Tensor, ...]:
        """Reads the whole model as it is now.

        Raises:
            CoverageError: If a trainable parameter changed but by an optimizer, a model of the checkpoint is
                nowhere to be found, or a tensor lies in a mapped file.
        """
        self._go_on_unstepped()
        for owned in self._owned:
            wrappers.reshard(module for _, module in owned.owners.named_modules())
        owned_model.require_own_memory([owned.owners for owned in self._owned])
        measured = self._read([named for owned in self._owned for named in owned.tensors()], "the end")
        self._unstepped.update(
            unstepped.changed(self._owned, measured, stepped=self._is_stepped, watch=self._watch)
        )
        return training_claims.tensors_of(measured.tensors)

    def changed_without_steps(self) -> tuple[str, ...]:
        """Returns the names of parameters that `measure` found changed although no optimizer steps them."""
        return tuple(sorted(self._unstepped))

    def state(self, now: tuple[Tensor, ...]) -> tuple[OwnedState, ...]:
        """Returns what a checkpoint has to remember.

        Args:
            now: What `measure` returned.
        """
        by_name = {tensor.name: tensor for tensor in now}
        return tuple(
            OwnedState(
                names=owned.owners.names,
                prefix=owned.prefix,
                taken=owned.taken,
                architecture=owned.architecture,
                initial=owned.initial,
                model=tuple(by_name[named.name] for named in owned.tensors()),
            )
            for owned in self._in_order()
        )

    def tensors(self) -> list[torch.Tensor]:
        """Returns the measured tensors."""
        return [named.tensor for owned in self._owned for named in owned.tensors()]

    def names(self) -> dict[int, str]:
        """Returns the names of the measured tensors, by identity."""
        return {id(named.tensor): named.name for owned in self._owned for named in owned.tensors()}

    def buffers(self) -> list[str]:
        """Returns the names of the measured tensors that are buffers, sorted."""
        return sorted(
            named.name for owned in self._owned for named in owned.tensors() if named.kind == "buffer"
        )

    def initial_parameters(self) -> dict[str, Json]:
        """Returns the root of every parameter before the first step, by name."""
        buffers = set(self.buffers())
        return {
            tensor.name: str(tensor.root) for tensor in self.initial().tensors if tensor.name not in buffers
        }

    def parted(self) -> bool:
        """Returns whether each rank has only a part of some parameter."""
        return any(
            hooked.is_distributed(named.tensor) for owned in self._owned for named in owned.parameters()
        )

    def extra_state(self) -> list[str]:
        """Returns the modules of the model that keep state which is not measured."""
        return extra_state.keepers(owned.owners for owned in self._owned)

    def architecture(self) -> Digest:
        """Returns the digest of the architecture."""
        digests = [owned.architecture for owned in self._in_order()]
        if len(digests) == 1:
            return digests[0]
        return tagged_digest("palm-torch/architectures/v1", *(digest.value for digest in digests))

    def initial(self) -> Weights:
        """Returns the weights before the first step."""
        exact = all(owned.taken == "first_delivery" for owned in self._owned)
        return training_claims.weights(
            (tensor for owned in self._owned for tensor in owned.initial),
            taken="first_delivery" if exact else "first_step",
        )

    # ------------------------------------------------------------------------------------------------------

    def _initial_tensors(self, owners: discovery.Owners) -> tuple[list[weights.NamedTensor], Taken]:
        return (self._buffers or BufferSnapshot()).initial(owners)

    def _begin(
        self,
        optimizer: Optimizer,
        owners: discovery.Owners,
        tensors: Sequence[weights.NamedTensor],
        taken: Taken,
    ) -> None:
        """Reads the initial weights of a model that begins to be trained."""
        number = len(self._owned) + len(self._held) + 1
        prefix = "" if number == 1 else f"{'+'.join(owners.names) or 'tensors'}#{number}."
        measured = self._read(owned_model.prefixed(tensors, prefix), f"the first step of model {number}")
        initial = training_claims.tensors_of(measured.tensors)
        described = architecture.describe(owners).digest
        self._own(Owned.of(owners, prefix, initial, initial, taken, described))
        self._record(
            "initial weights",
            {
                "root": str(measured.root),
                "optimizer": type(optimizer).__name__,
                "owners": list(owners.names),
                "taken": taken,
            },
        )

    def _read(self, tensors: Sequence[weights.NamedTensor], point: str) -> weights.WeightsMeasurement:
        """Measures tensors; where each rank has a part of them, all ranks do so together.

        Raises:
            CoverageError: If a rank is not there, or this process is alone with its part.
        """
        if not any(hooked.is_distributed(named.tensor) for named in tensors):
            return weights.WeightsMeter().measure(tensors)
        self._company.agree(point)
        try:
            return weights.WeightsMeter().measure(tensors)
        except (RuntimeError, ValueError) as error:  # what torch raises where a collective fails
            raise CoverageError(
                f"the parameters could not be gathered from all ranks at {point}: {error}; the session "
                "has to end before the process group is destroyed: leave the block of "
                "palm_torch.attested(...) first, and under palm-torch run, whose session is open until the "
                "script ends, open such a block in the script"
            ) from error

    def _own(self, owned: Owned) -> None:
        self._owned.append(owned)
        self._watch.watch(named.tensor for named in owned.parameters())

    def _in_order(self) -> list[Owned]:
        """Returns the owners in the order of their first step in the run, whatever it was in this session."""
        places = {held.prefix: place for place, held in enumerate(self._order)}
        return sorted(self._owned, key=lambda owned: places.get(owned.prefix, len(places)))

    def _go_on(self, owners: discovery.Owners, held: OwnedState) -> None:
        described = loaded_model.architecture_of(owners, held)
        self._held.remove(held)
        self._own(Owned.of(owners, held.prefix, held.initial, held.model, held.taken, described))
        if self._resumed is not None and not self._held:
            event, self._resumed = self._resumed, None
            self._record("resumed", event)

    def _go_on_unstepped(self) -> None:
        """Finds what the checkpoint holds and nothing has stepped since: it has to be there, unchanged."""
        for held in tuple(self._held):
            with live.one_look():
                found = next(
                    (
                        owners
                        for owners in owned_model.candidates(held, self._declared, self._owners())
                        if self._is(owners, held)
                    ),
                    None,
                )
            if found is None:
                raise CoverageError(
                    f"no optimizer has stepped {'+'.join(held.names) or 'the tensors'} of the checkpoint "
                    "since it was loaded, and no live module has these weights: load it and keep the "
                    "model, or name it with run.output(model=...)"
                )
            self._go_on(found, held)

    def _owners(self) -> set[int]:
        return {id(module) for owned in self._owned for module in owned.owners.modules}

    def _is(self, owners: discovery.Owners, held: OwnedState) -> bool:
        return owned_model.difference(owners, self._initial_tensors(owners)[0], held) is None

    def _require_new(self, owners: discovery.Owners) -> None:
        known = self._owners()
        for name, module in zip(owners.names, owners.modules, strict=True):
            if id(module) in known:
                raise CoverageError(
                    f"an optimizer steps parameters of {name} that were not there at its first step, but "
                    "replaced or added since: what they were before is not measured; load or grow the model "
                    "before the first step, or begin another session for the next stage"
                )

    def _is_stepped(self, tensor: torch.Tensor) -> bool:
        reference = self._stepped.get(id(tensor))
        return reference is not None and reference() is tensor

    def _find(self, parameters: Sequence[torch.Tensor]) -> discovery.Owners:
        if self._declared is not None:
            return discovery.declared(self._declared, parameters)
        known = [module for reference in self._alive if (module := reference()) is not None]
        return discovery.find_owners(parameters, among=known)
