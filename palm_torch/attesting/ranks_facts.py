"""What ranks compare when the first step begins, before a run of days and not after it.

Each tells what it trains, how, with which code and where. The same is compared once more when the session
ends (`palm_torch.attesting.ranks_agreement`), with what came of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from palm_torch import codec, together
from palm_torch.attesting import ranks_agreement
from palm_torch.digest import sha256_digest
from palm_torch.encoding import encode_json
from palm_torch.errors import CoverageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from palm_torch.encoding import Json
    from palm_torch.roles import Value
    from palm_torch.statement import Code

MAX_FACTS_BYTES: Final = 64 << 20
MAX_DIGESTS_BYTES: Final = 8 << 20

POINT: Final = "the first step"

_CODE: Final = "code"
_ENVIRONMENT: Final = "environment"


def of(facts: Mapping[str, Json], *, code: Code, environment: Value) -> dict[str, Any]:
    """Returns what a rank tells.

    Args:
        facts: What it trains, and how, by name.
        code: The code loaded so far.
        environment: Packages, interpreter, torch settings.
    """
    where = ranks_agreement.compared(environment.value)
    return {**facts, _CODE: together.by_module(code), _ENVIRONMENT: where}


def read(rank: int, parts: Sequence[bytes]) -> dict[str, Any]:
    """Reads what another rank of the machine tells.

    Raises:
        CoverageError: If it cannot be read, naming the rank.
    """
    return _object(b"".join(parts), f"rank {rank}, at {POINT}", MAX_FACTS_BYTES)


def check(told: Mapping[int, Mapping[str, Any]]) -> None:
    """Checks that all ranks of a machine say the same.

    Args:
        told: What each tells, by rank, the leader first.

    Raises:
        CoverageError: Naming the rank, and the first thing in which it differs.
    """
    ranks_agreement.require_one_code({rank: _texts(rank, facts.get(_CODE)) for rank, facts in told.items()})
    first, *others = told
    for rank in others:
        for name in sorted(told[first].keys() | told[rank].keys()):
            if name == _CODE:
                continue
            found = ranks_agreement.difference(told[first].get(name), told[rank].get(name), name)
            if found is not None:
                raise CoverageError(
                    f"rank {rank}, at {POINT}: {found[0]}: expected {found[1]}, as in rank {first}, got "
                    f"{found[2]}: begin alike in every rank: the same seed or state for the model (what "
                    "DistributedDataParallel and fully_shard see to), one optimizer with the same settings, "
                    "one interpreter with the same variables"
                )


def digests(facts: Mapping[str, Any]) -> str:
    """Returns what a machine tells the others: digests of all but its environment, and its code."""
    told: dict[str, Json] = {
        name: str(sha256_digest(encode_json(item)))
        for name, item in facts.items()
        if name not in (_CODE, _ENVIRONMENT)
    }
    return encode_json({**told, _CODE: facts[_CODE]}).decode("utf-8")


def check_machines(told: Sequence[bytes]) -> None:
    """Checks that all machines say the same.

    Args:
        told: What `digests` returned on each, by the number of the machine.

    Raises:
        CoverageError: Naming the machine, and what is another there.
    """
    read_here = [
        _object(item, f"machine {machine}, at {POINT}", MAX_DIGESTS_BYTES)
        for machine, item in enumerate(told)
    ]
    texts = [
        {
            **{f"module {name!r}": text for name, text in _texts(machine, found.get(_CODE)).items()},
            **{name: str(item) for name, item in found.items() if name != _CODE},
        }
        for machine, found in enumerate(read_here)
    ]
    found = together.clash(texts)
    if found is not None:
        raise CoverageError(
            f"machine {found.place}, at {POINT}: {found.name}: expected {found.expected}, as on machine "
            f"{found.first}, got {found.got}: start one script alike on all machines"
        )


def _object(data: bytes, what: str, limit: int) -> dict[str, Any]:
    found = codec.parse(data, what=what, max_bytes=limit, error=CoverageError)
    if not isinstance(found, dict):
        raise CoverageError(f"{what}: expected an object")
    return found


def _texts(place: int, value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
        raise CoverageError(f"{place}, at {POINT}: expected digests of modules by name")
    return value
