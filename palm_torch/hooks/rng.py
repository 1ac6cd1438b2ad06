"""State of every random number generator a run may draw from; reading it draws nothing."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass

import torch

from palm_torch.digest import Digest, tagged_digest
from palm_torch.encoding import Json, encode_json
from palm_torch.hooks.tensors import copied_bytes


@dataclass(frozen=True, slots=True)
class RngState:
    """Seeds and digests of generator states.

    Attributes:
        torch_seed: `torch.initial_seed` in decimal; up to 64 bits, more than a JSON number holds.
        torch: State of torch's default CPU generator.
        cuda: State of the default generator of each GPU, in device order; empty before CUDA is in use.
        python: State of the generator behind the functions of `random`.
        numpy: State of the generator behind the functions of `numpy.random`; None before it is imported.
    """

    torch_seed: str
    torch: Digest
    cuda: tuple[Digest, ...]
    python: Digest
    numpy: Digest | None


def rng_digests() -> RngState:
    """Reads the state of all global generators.

    Generators that the script makes itself (`torch.Generator`, `numpy.random.default_rng`) are not global
    and not read.
    """
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    return RngState(
        torch_seed=str(torch.initial_seed()),
        torch=_torch_digest(torch.get_rng_state()),
        cuda=tuple(_torch_digest(state) for state in cuda),
        python=_python_digest(),
        numpy=_numpy_digest(),
    )


def _torch_digest(state: torch.Tensor) -> Digest:
    return tagged_digest("palm-torch/rng-torch/v1", copied_bytes(state))


def _python_digest() -> Digest:
    return tagged_digest("palm-torch/rng-python/v1", encode_json(_json(random.getstate())))


def _numpy_digest() -> Digest | None:
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is None:
        return None
    state = numpy_random.get_state(legacy=False)
    return tagged_digest("palm-torch/rng-numpy/v1", encode_json(_json(state)))


def _json(state: object) -> Json:
    """Returns a generator's state as JSON: numbers as text, for they may have 128 bits."""
    if isinstance(state, dict):
        return {str(key): _json(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [_json(item) for item in state]
    if isinstance(state, (str, int, float)):
        return str(state)
    return None if state is None else _json(state.tolist())  # type: ignore[attr-defined] # a NumPy array
