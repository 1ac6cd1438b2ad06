"""What a training run says of itself, put into the roles of its property."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from palm_torch import codec
from palm_torch.commit import weights_root
from palm_torch.digest import TAGGED_SHA256, Digest
from palm_torch.roles import Source, Tensor, Value, Weights

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from palm_torch.hooks.meter import StepSummary


def tensors_of(pairs: Iterable[tuple[weights_root.TensorSpec, bytes]]) -> tuple[Tensor, ...]:
    """Returns measured tensors as evidence lists them, sorted by name."""
    return tuple(
        Tensor(
            name=spec.name,
            aliases=spec.aliases,
            dtype=spec.dtype,
            shape=spec.shape,
            root=Digest(TAGGED_SHA256, root),
        )
        for spec, root in sorted(pairs, key=lambda pair: pair[0].name.encode("utf-8"))
    )


def weights(tensors: Iterable[Tensor], *, taken: Literal["first_delivery", "first_step", "end"]) -> Weights:
    """Returns tensors, in any order, as a model's weights."""
    ordered = tuple(sorted(tensors, key=lambda tensor: tensor.name.encode("utf-8")))
    return Weights(
        source=Source.MEASURED, digest=weights_root.claimed_root(ordered), tensors=ordered, taken=taken
    )


def configuration(
    steps: StepSummary,
    *,
    unfed_steps: int,
    carried: int,
    unstepped: int,
    extra_state: Sequence[str],
    reported: Mapping[str, Any],
) -> Value:
    """Returns optimizers, scalers and settings of a run.

    Args:
        steps: What the step hooks counted.
        unfed_steps: Steps that no new record preceded.
        carried: Batches whose gradients were due when the run was resumed.
        unstepped: Parameters that changed although no optimizer steps them.
        extra_state: Modules that keep state which is not measured.
        reported: What the script named with `run.config`.
    """
    return Value(
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
                        "begun_with": record.begun_with,
                    }
                    for record in steps.optimizers
                ]
            ),
            "scalers": codec.to_json(steps.scalers),
            "steps_without_new_records": unfed_steps,
            "writes_outside_steps": steps.writes,
            "parameters_changed_without_steps": unstepped,
            "optimizers_begun_with_state": sum(item.begun_with is not None for item in steps.optimizers),
            "batches_carried_over": carried,
            "extra_state": list(extra_state),
            "config": {"source": Source.REPORTED.value, "value": dict(reported)},
        },
    )
