"""Digest of what an optimizer remembers between steps: moments, counters, histories.

Structure and tensors count, for each parameter in group order; options of the groups do not (a schedule may
set them before the next step, and their history is kept apart), nor does the device. A state of a kind that
has no canonical bytes is an error: a checkpoint of it could not be checked when it is loaded.

Of a distributed tensor the digest is over what this rank holds, with its place among the others: each rank
has a digest of its own, and nothing is gathered.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from blake3 import blake3
from torch import Tensor
from torch.optim import Adagrad

from palm_torch.digest import Digest, tagged_digest
from palm_torch.encoding import Json, encode_json
from palm_torch.errors import CoverageError
from palm_torch.hooks import mapped, tensors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch.optim import Optimizer

TAG: Final = "palm-torch/optimizer-state/v1"
MAX_DEPTH: Final = 8
"""Containers within containers of an optimizer's state."""


def digest_of(optimizer: Optimizer) -> Digest:
    """Returns the digest of an optimizer's state.

    Raises:
        CoverageError: If something in it is neither a tensor nor a number, text, list or mapping of these.
    """
    what = type(optimizer).__name__
    parameters = [list(group["params"]) for group in optimizer.param_groups]
    held = {id(tensor) for group in parameters for tensor in group}
    value: Json = {
        "groups": [
            [
                {
                    "shape": list(tensor.shape),
                    "dtype": tensors.dtype_name(tensor),
                    "state": _json(dict(optimizer.state.get(tensor, {})), what, 0),
                }
                for tensor in group
            ]
            for group in parameters
        ],
        "others": {
            _key(key, what): _json(item, what, 0)
            for key, item in optimizer.state.items()
            if id(key) not in held
        },
    }
    return tagged_digest(TAG, encode_json(value))


def begun_with(optimizer: Optimizer) -> Digest | None:
    """Returns the digest of the state that an optimizer has before its first step; None if it is as made.

    Raises:
        CoverageError: As `digest_of`, or if a tensor of it lies in a mapped file.
    """
    if _as_made(optimizer):
        return None
    require_own_memory(optimizer)
    return digest_of(optimizer)


def require_own_memory(optimizer: Optimizer) -> None:
    """Checks that no tensor of a state lies in a mapped file.

    Raises:
        CoverageError: As `palm_torch.hooks.mapped.require_own_memory`.
    """
    found = list(_tensors_of(dict(optimizer.state), "state"))
    if found:
        mapped.require_own_memory(found, what=f"{type(optimizer).__name__}: ")


def gone() -> Digest:
    """Returns what stands for an optimizer that was dropped: no optimizer's state is equal to it."""
    return tagged_digest(TAG, b"")


def _as_made(optimizer: Optimizer) -> bool:
    """Says whether an optimizer remembers nothing, or what its constructor writes there (Adagrad alone)."""
    if all(isinstance(item, dict) and not item for item in optimizer.state.values()):
        return True
    if type(optimizer) is not Adagrad or any(not isinstance(key, Tensor) for key in optimizer.state):
        return False
    initial = {
        id(tensor): group["initial_accumulator_value"]
        for group in optimizer.param_groups
        for tensor in group["params"]
    }
    return all(
        state.keys() == {"step", "sum"}
        and not bool(state["step"])
        and bool(tensors.local(state["sum"]).eq(initial.get(id(tensor), math.nan)).all())
        for tensor, state in optimizer.state.items()
    )


def _tensors_of(value: object, where: str, depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield where, value
    elif depth <= MAX_DEPTH and isinstance(value, (dict, list, tuple)):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            name = where if isinstance(key, Tensor) else f"{where}.{key}"
            yield from _tensors_of(item, name, depth + 1)


def _json(value: object, what: str, depth: int) -> Json:
    if depth > MAX_DEPTH:
        raise CoverageError(f"{what}.state: nested deeper than {MAX_DEPTH}")
    if isinstance(value, Tensor):
        return _tensor(value, f"{what}.state")
    if value is None or isinstance(value, (bool, str)):
        return {"value": value}
    if isinstance(value, (int, float)):
        return {"number": repr(value)}
    if isinstance(value, (list, tuple)):
        return {"list": [_json(item, what, depth + 1) for item in value]}
    if isinstance(value, dict):
        return {"map": {_key(key, what): _json(item, what, depth + 1) for key, item in value.items()}}
    raise CoverageError(
        f"{what}.state: expected tensors, numbers and text, got {type(value).__name__}: it cannot be "
        "measured, nor a checkpoint of it checked when it is loaded"
    )


def _tensor(value: Tensor, what: str) -> dict[str, Json]:
    part = tensors.local(value)
    described: dict[str, Json] = {
        "tensor": blake3(tensors.tensor_bytes(part, what=what)).hexdigest(),
        "dtype": tensors.dtype_name(value),
        "shape": list(value.shape),
    }
    if tensors.is_distributed(value):
        described["part"] = {
            "shape": list(part.shape),
            "placements": [str(placement) for placement in value.placements],
            "at": list(value.device_mesh.get_coordinate() or ()),
        }
    return described


def _key(key: object, what: str) -> str:
    if isinstance(key, (str, int)):
        return f"{type(key).__name__}:{key}"
    raise CoverageError(f"{what}.state: expected text or a number as a key, got {type(key).__name__}")
