"""Digest of what an optimizer remembers between steps: moments, counters, histories.

Structure and tensors count, for each parameter in group order; options of the groups do not (a schedule may
set them before the next step, and their history is kept apart), nor does the device. A state of a kind that
has no canonical bytes is an error: a checkpoint of it could not be checked when it is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from blake3 import blake3
from torch import Tensor

from palm_torch.digest import Digest, tagged_digest
from palm_torch.encoding import Json, encode_json
from palm_torch.errors import CoverageError
from palm_torch.hooks import tensors

if TYPE_CHECKING:
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


def gone() -> Digest:
    """Returns what stands for an optimizer that was dropped: no optimizer's state is equal to it."""
    return tagged_digest(TAG, b"")


def _json(value: object, what: str, depth: int) -> Json:
    if depth > MAX_DEPTH:
        raise CoverageError(f"{what}.state: nested deeper than {MAX_DEPTH}")
    if isinstance(value, Tensor):
        content = tensors.tensor_bytes(value, what=f"{what}.state")
        return {
            "tensor": blake3(content).hexdigest(),
            "dtype": tensors.dtype_name(value),
            "shape": list(value.shape),
        }
    if value is None or isinstance(value, (bool, str)):
        return {"value": value}
    if isinstance(value, (int, float)):
        return {"number": repr(value)}
    if isinstance(value, (list, tuple)):
        return {"list": [_json(item, what, depth + 1) for item in value]}
    if isinstance(value, dict):
        return {"map": {_key(key, what): _json(item, what, depth + 1) for key, item in value.items()}}
    raise CoverageError(
        f"{what}.state: expected tensors, numbers and text, got {type(value).__name__}: a checkpoint of it "
        "could not be checked when it is loaded"
    )


def _key(key: object, what: str) -> str:
    if isinstance(key, (str, int)):
        return f"{type(key).__name__}:{key}"
    raise CoverageError(f"{what}.state: expected text or a number as a key, got {type(key).__name__}")
