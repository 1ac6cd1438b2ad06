"""One digest over the states of all global random number generators, in microseconds.

`palm_torch.hooks.rng` spells every generator out as JSON, once or twice in a session. An answer has less
time: here the words of each state are hashed as they lie. Specification: docs/spec/55-inference.md.
"""

from __future__ import annotations

import random
import struct
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from palm_torch.digest import Digest, tagged_digest
from palm_torch.encoding import length_prefixed
from palm_torch.errors import MeasurementError

if TYPE_CHECKING:
    from collections.abc import Iterator

_TAG: Final = "palm-torch/generators/v1"
_PYTHON: Final = struct.Struct(">625I")  # 624 words of the Mersenne Twister, and the position among them


@dataclass(frozen=True, slots=True, kw_only=True)
class Generators:
    """States of the global generators.

    Attributes:
        seed: `torch.initial_seed`, in decimal.
        torch: Torch's default generators, CPU first.
        python: Python's: version, words and kept normal number, each with its length.
        numpy: NumPy's by name, each part with its length; empty before it is imported.
    """

    seed: str
    torch: tuple[bytes, ...]
    python: bytes
    numpy: bytes


def generators_digest() -> Digest:
    """Returns the digest of torch's, Python's and NumPy's global generators; reading them draws nothing.

    Raises:
        MeasurementError: If NumPy's has a state of unknown form.
    """
    return digest_of(generators())


def digest_of(states: Generators) -> Digest:
    """Returns the digest of states, those of now or others."""
    joined = b"".join(map(length_prefixed, states.torch))
    return tagged_digest(_TAG, states.seed.encode("ascii"), joined, states.python, states.numpy)


def generators() -> Generators:
    """Returns the states themselves: whoever has them can draw again what is drawn from them.

    Raises:
        MeasurementError: If NumPy's has a state of unknown form.
    """
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
    return Generators(
        seed=str(torch.initial_seed()),
        torch=tuple(state.numpy().tobytes() for state in (torch.get_rng_state(), *cuda)),
        python=_python(),
        numpy=_numpy(),
    )


def _python() -> bytes:
    version, words, gauss = random.getstate()
    return b"".join(
        map(
            length_prefixed, (str(version).encode("ascii"), _PYTHON.pack(*words), repr(gauss).encode("ascii"))
        )
    )


def _numpy() -> bytes:
    """Returns NumPy's state as names and values, sorted by name; nothing before NumPy is imported."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is None:
        return b""
    return b"".join(map(length_prefixed, _spelled("", numpy_random.get_state(legacy=False))))


def _spelled(name: str, value: Any) -> Iterator[bytes]:  # noqa: ANN401 (NumPy's own)
    if isinstance(value, dict):
        for key in sorted(value):
            yield from _spelled(f"{name}.{key}", value[key])
        return
    yield name.encode("utf-8")
    if hasattr(value, "dtype") and getattr(value, "ndim", False):
        yield str(value.dtype.newbyteorder("<").str).encode("ascii")
        yield value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
    elif isinstance(value, (str, int, float)):
        yield str(value).encode("utf-8")
    else:
        raise MeasurementError(
            f"numpy.random{name}: expected numbers, text or an array, got {type(value).__name__}: a random "
            "number generator of a kind that has no digest"
        )
