"""What ranks have to agree on: code, environment, model, optimizers, steps. One that does not is named.

Every rank measured by itself. Replicas of one model that are stepped alike have the same weights to the bit;
where they have not, one rank did something else than the others, and a statement about all of them would be
wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from palm_torch import codec, together
from palm_torch.errors import CoverageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from palm_torch.attesting.ranks_share import RankShare
    from palm_torch.encoding import Json
    from palm_torch.roles import Weights

PACKAGES: Final = "packages"
"""The part of an environment that is put together, not compared: a rank may import what others do not."""

OWN_VARIABLES: Final = frozenset({"CUDA_VISIBLE_DEVICES"})
"""Variables that launchers give each rank another value of; devices are listed by their identifiers."""

BEGUN_WITH: Final = "begun_with"
"""The part of an optimizer's account that is put together where each rank has a part of the state."""

_SHOWN: Final = 120


def check(shares: Sequence[RankShare]) -> None:
    """Checks that all ranks agree with the first one given.

    Raises:
        CoverageError: Naming the rank, and the first thing in which it differs.
    """
    first, *others = shares
    _check_code(shares)
    for share in others:
        for what, pick, advice in _COMPARED:
            found = difference(pick(first), pick(share))
            if found is not None:
                raise CoverageError(
                    f"rank {share.rank}: {what}{found[0]}: expected {found[1]}, as in rank {first.rank}, got "
                    f"{found[2]}; {advice}"
                )


def differing(shares: Sequence[RankShare]) -> tuple[str, ...]:
    """Returns the names of buffers that are not the same in all ranks, sorted.

    Running statistics are such: each rank computes them from its own batches. Which tensors are buffers is
    what all ranks agree on (`check`): none can excuse a parameter by calling it one.

    Raises:
        CoverageError: If a parameter is not the same, naming the rank and the tensor.
    """
    first, *others = shares
    buffers = set(first.buffers)
    found: set[str] = set()
    for share in others:
        pairs = ((first.train.initial, share.train.initial), (first.train.model, share.train.model))
        for when, (expected, got) in zip(("before the first step", "at the end"), pairs, strict=True):
            for name, says in _unequal(expected, got):
                if name not in buffers:
                    raise CoverageError(
                        f"rank {share.rank}: tensor {name} {when}: {says}, as in rank {first.rank}: the "
                        "replicas "
                        "of a model have to be the same in every rank: wrap it in DistributedDataParallel or "
                        "fully_shard before the first step, and change it in all ranks alike"
                    )
                found.add(name)
    return tuple(sorted(found))


def difference(expected: Json, got: Json, path: str = "") -> tuple[str, str, str] | None:
    """Returns where two JSON values first differ, and the two values there; None if they are equal."""
    if isinstance(expected, dict) and isinstance(got, dict):
        for key in sorted(expected.keys() | got.keys()):
            absent = key not in expected or key not in got
            inner = difference(expected.get(key), got.get(key), f"{path}.{key}")
            if inner is not None or absent:
                return inner or (f"{path}.{key}", _told(expected.get(key)), _told(got.get(key)))
        return None
    if isinstance(expected, list) and isinstance(got, list):
        if len(expected) != len(got):
            return path, f"{len(expected)} of them", f"{len(got)}"
        for number, (one, other) in enumerate(zip(expected, got, strict=True)):
            if (inner := difference(one, other, f"{path}[{number}]")) is not None:
                return inner
        return None
    return None if expected == got else (path, _told(expected), _told(got))


def _check_code(shares: Sequence[RankShare]) -> None:
    """Checks that no module is another in two ranks; one that a rank alone has loaded is listed.

    Raises:
        CoverageError: Naming the module.
    """
    first = shares[0]
    for share in shares:
        if share.end.run.code.source is not first.end.run.code.source:
            raise CoverageError(
                f"rank {share.rank}: its code was {share.end.run.code.source.value}, that of rank "
                f"{first.rank} {first.end.run.code.source.value}: start all ranks alike"
            )
    require_one_code({share.rank: together.by_module(share.end.run.code) for share in shares})


def require_one_code(modules: Mapping[int, Mapping[str, str]]) -> None:
    """Checks that no module is another in two ranks.

    Args:
        modules: By rank: digest of each module, or why it has none.

    Raises:
        CoverageError: Naming the module and the ranks.
    """
    numbers, found = list(modules), together.clash(modules.values())
    if found is not None:
        raise CoverageError(
            f"rank {numbers[found.place]}: the code of module {found.name!r} is another than in rank "
            f"{numbers[found.first]}: expected {found.expected}, got {found.got}; run one script in all "
            "ranks, and do not edit it while they start"
        )


def _environment(share: RankShare) -> Json:
    return compared(share.end.run.environment.value)


def compared(environment: Mapping[str, Json]) -> dict[str, Json]:
    """Returns what has to be the same in all ranks of an environment."""
    value = dict(environment)
    value.pop(PACKAGES, None)
    variables = value.get("variables")
    if isinstance(variables, dict):
        value["variables"] = {name: text for name, text in variables.items() if name not in OWN_VARIABLES}
    return value


def optimizers(share: RankShare) -> list[Any]:
    """Returns the optimizers of a rank, without what each rank may have a part of."""
    listed: list[Mapping[str, Any]] = share.train.configuration.value["optimizers"]
    return [{name: value for name, value in item.items() if name != BEGUN_WITH} for item in listed]


def _begun_with(share: RankShare) -> Json:
    listed: list[Mapping[str, Any]] = share.train.configuration.value["optimizers"]
    return [None if share.parted else item[BEGUN_WITH] for item in listed]


_COMPARED: Final = (
    (
        "architecture",
        lambda share: str(share.train.architecture.digest),
        "build the same model in every rank",
    ),
    ("buffers", lambda share: list(share.buffers), "build the same model in every rank"),
    (
        "parts of parameters",
        lambda share: "some" if share.parted else "none",
        "apply fully_shard in all ranks, or in none",
    ),
    (
        "optimizers",
        optimizers,
        "give the optimizer the same settings in every rank, and step it as often",
    ),
    ("optimizer state before the first step", _begun_with, "load the same state in every rank"),
    (
        "scalers",
        lambda share: share.train.configuration.value["scalers"],
        "scale the loss alike in every rank",
    ),
    ("steps", lambda share: codec.to_json(share.train.steps), "step as often in every rank"),
    ("environment", _environment, "start all ranks with the same interpreter, switches and variables"),
    (
        "modules that keep state of their own",
        lambda share: share.train.configuration.value["extra_state"],
        "build the same model in every rank",
    ),
)


def _unequal(expected: Weights, got: Weights) -> Iterator[tuple[str, str]]:
    by_name = {tensor.name: tensor for tensor in got.tensors}
    for tensor in expected.tensors:
        other = by_name.pop(tensor.name, None)
        if other is None:
            yield tensor.name, "expected it to be there"
        elif other != tensor:
            yield tensor.name, f"expected {tensor.dtype} {list(tensor.shape)} {tensor.root}, got {other.root}"
    for name in by_name:
        yield name, "expected none of this name"


def _told(value: Json) -> str:
    text = "none" if value is None else repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
