"""One digest over the states of all global random number generators, in microseconds.

`palm_torch.hooks.rng` spells every generator out as JSON, once or twice in a session. An answer has less
time: here the words of each state are hashed as they lie. Specification: docs/spec/55-inference.md.
"""

from __future__ import annotations

import random
import struct
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import torch

from palm_torch.digest import Digest, tagged_digest
from palm_torch.encoding import length_prefixed
from palm_torch.errors import MeasurementError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TAG: Final = "palm-torch/generators/v1"
_PYTHON: Final = struct.Struct(">625I")  # 624 words of the Mersenne Twister, and the position among them


@dataclass(frozen=True, slots=True, kw_only=True)
class Generators:
    """States of the global generators, as bytes.

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

    def digest(self) -> Digest:
        """Returns the digest of the states."""
        joined = b"".join(map(length_prefixed, self.torch))
        return tagged_digest(_TAG, self.seed.encode("ascii"), joined, self.python, self.numpy)


class Taken(NamedTuple):
    """States of the global generators, much as torch, Python and NumPy return them: copies.

    Attributes:
        seed: `torch.initial_seed`.
        torch: Torch's default generators, CPU first.
        python: Version, words as bytes, and kept normal number.
        numpy: NumPy's by name; None before it is imported.
    """

    seed: int
    torch: tuple[torch.Tensor, ...]
    python: tuple[int, bytes, float | None]
    numpy: Mapping[str, Any] | None

    def spelled(self) -> Generators:
        """Returns the states as bytes: whoever has them can draw again what was drawn from them.

        Raises:
            MeasurementError: If NumPy's has a state of unknown form.
        """
        version, words, gauss = self.python
        python = (str(version).encode("ascii"), words, repr(gauss).encode("ascii"))
        return Generators(
            seed=str(self.seed),
            torch=tuple([state.numpy().tobytes() for state in self.torch]),
            python=b"".join(map(length_prefixed, python)),
            numpy=b"" if self.numpy is None else b"".join(map(length_prefixed, _spelled("", self.numpy))),
        )

    def digest(self) -> Digest:
        """Returns the digest of the states.

        Raises:
            MeasurementError: As `spelled`.
        """
        return self.spelled().digest()


def take() -> Taken:
    """Returns the states of torch's, Python's and NumPy's global generators; reading them draws nothing."""
    default = torch.default_generator
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else ()  # type: ignore[no-untyped-call]
    version, words, gauss = random.getstate()
    numpy_random = sys.modules.get("numpy.random")
    return Taken(
        default.initial_seed(),
        (default.get_state(), *cuda),
        (version, _PYTHON.pack(*words), gauss),
        None if numpy_random is None else numpy_random.get_state(legacy=False),
    )


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
