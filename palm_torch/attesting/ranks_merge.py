"""One statement from those of all ranks of a machine.

What has to be the same in all ranks is checked (`ranks_agreement`) and stated once; what each rank has of its
own is put together: records are counted together, code and packages listed together, and what a script says
in another rank than the first keeps the number of that rank in its name.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final, TypeVar

from palm_torch import together
from palm_torch.attesting import ranks_agreement
from palm_torch.data import shares as data_shares
from palm_torch.data.carrier import NUMBER
from palm_torch.data.shares import CountMap
from palm_torch.digest import tagged_digest
from palm_torch.encoding import encode_json
from palm_torch.errors import CoverageError, EvidenceError
from palm_torch.roles import Artifact, Value
from palm_torch.statement import Statement

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from palm_torch.attesting.ranks_share import RankShare
    from palm_torch.statement import Device, Run

T = TypeVar("T")

STATE_TAG: Final = "palm-torch/optimizer-parts/v1"

SUMMED: Final = ("steps_without_new_records", "writes_outside_steps", "batches_carried_over")
"""Counts of a configuration that ranks have of their own."""

MOST: Final = ("parameters_changed_without_steps", "optimizers_begun_with_state")
"""Counts of a configuration that are about the one model and its optimizers."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """What all ranks of a machine say.

    Attributes:
        end: Their statement; the ranks themselves are not in it yet.
        maps: How often each record was delivered, by dataset and use.
        differing: Buffers that are not the same in all of them.
    """

    end: Statement
    maps: dict[tuple[str, str], CountMap]
    differing: tuple[str, ...]


def merge(shares: Sequence[RankShare], *, why_unattested: Callable[[Device], str | None]) -> Together:
    """Returns what all ranks say together.

    Args:
        shares: What each measured, the leader's first, in the order of ranks.
        why_unattested: As in `palm_torch.attesting.training.Training`, of the leader.

    Raises:
        CoverageError: If they do not agree, naming a rank; or a rank computed on a device without evidence.
    """
    ranks_agreement.check(shares)
    differing = ranks_agreement.differing(shares)
    for share in shares:
        for device in share.end.run.devices:
            if (why := why_unattested(device)) is not None:
                raise CoverageError(
                    f"rank {share.rank}: steps tensors on {device.type!r}, of which there is no evidence: "
                    f"{why}"
                )
    try:
        data = data_shares.merge([share.data() for share in shares], number=NUMBER)
    except EvidenceError as error:
        raise CoverageError(f"what ranks tell of their data does not fit together: {error}") from error
    first = shares[0].train
    claims = dataclasses.replace(
        first,
        data=data.data,
        configuration=_configuration(shares),
        tokenizer=_tokenizer(shares),
        initial=together.initial([share.train.initial for share in shares]),
        seeds=Value(
            source=first.seeds.source,
            value={**first.seeds.value, "ranks": [share.train.seeds.value for share in shares[1:]]},
        ),
    )
    return Together(end=Statement(run=_run(shares), claims=claims), maps=data.maps, differing=differing)


def _run(shares: Sequence[RankShare]) -> Run:
    first = shares[0].end.run
    return dataclasses.replace(
        first,
        code=together.union([share.end.run.code for share in shares]),
        environment=_environment([share.end.run.environment for share in shares]),
        devices=tuple(dict.fromkeys(device for share in shares for device in share.end.run.devices)),
        inputs=together.beside((share.rank, share.end.run.inputs) for share in shares),
        outputs=together.beside((share.rank, share.end.run.outputs) for share in shares),
        reported=_of_each((share.rank, share.end.run.reported) for share in shares),
    )


def _environment(values: Sequence[Value]) -> Value:
    first = values[0].value
    listed: list[Any] = [*first[ranks_agreement.PACKAGES]]
    for value in values[1:]:
        listed += [item for item in value.value[ranks_agreement.PACKAGES] if item not in listed]
    return Value(source=values[0].source, value={**first, ranks_agreement.PACKAGES: listed})


def _configuration(shares: Sequence[RankShare]) -> Value:
    values = [share.train.configuration.value for share in shares]
    first = values[0]
    said = [(share.rank, value["config"]["value"]) for share, value in zip(shares, values, strict=True)]
    optimizers = [
        {**item, ranks_agreement.BEGUN_WITH: _state([value["optimizers"][place] for value in values])}
        for place, item in enumerate(first["optimizers"])
    ]
    return Value(
        source=shares[0].train.configuration.source,
        value={
            **first,
            **{name: sum(value[name] for value in values) for name in SUMMED},
            **{name: max(value[name] for value in values) for name in MOST},
            "optimizers": optimizers,
            "config": {**first["config"], "value": together.beside(said)},
        },
    )


def _state(optimizers: Sequence[Mapping[str, Any]]) -> str | None:
    """Returns the state that an optimizer began with: that of all ranks, or what their parts are together."""
    states = [item[ranks_agreement.BEGUN_WITH] for item in optimizers]
    if all(state == states[0] for state in states):
        return states[0]  # type: ignore[no-any-return]  # text or None, as the codec wrote it
    return str(tagged_digest(STATE_TAG, *(encode_json(state) for state in states)))


def _tokenizer(shares: Sequence[RankShare]) -> Artifact:
    """Returns the tokenizer that ranks named, all of them or some.

    Raises:
        CoverageError: If they named different ones.
    """
    given = [share.train.tokenizer for share in shares]
    found = together.clash(map(together.named, given))
    if found is not None:
        raise CoverageError(
            f"rank {shares[found.place].rank}: run.input(tokenizer=...): expected {found.expected.digest}, "
            f"as in rank {shares[found.first].rank}, got {found.got.digest}: use one tokenizer in all ranks"
        )
    return together.tokenizer(given)


def _of_each(said: Iterable[tuple[int, Mapping[str, T]]]) -> dict[str, T]:
    """Returns what each rank says of itself: the first under its own names, the others with their numbers."""
    listed: dict[str, T] = {}
    for place, (rank, items) in enumerate(said):
        for name, item in items.items():
            listed[f"{name}{together.MARK}{rank}" if place else name] = item
    return listed
