"""The states of the generators that an answer was drawn from: kept by the prover, shown to a verifier.

A trace binds their digest as the fact ``generators.before``. Taking them draws nothing. Whoever has them can
draw whatever was drawn from them later: they go to the verifier alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from palm_torch import codec, files
from palm_torch.encoding import encode_json
from palm_torch.errors import EvidenceError, SealError
from palm_torch.hooks import rng_watch
from palm_torch.hooks.rng_watch import Generators

if TYPE_CHECKING:
    from palm_torch.digest import Digest

MEDIA_TYPE: Final = "application/vnd.palm-torch.generators+json;version=1"
SUFFIX: Final = ".palm-generators.json"
MAX_BYTES: Final = 4 << 20

_OWN_FILE: Final = 0o600


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorStates:
    """States of all global generators at one moment.

    Attributes:
        media_type: `MEDIA_TYPE`, which carries the version.
        states: The states.

    Raises:
        EvidenceError: If it is of another version, or has no generator.
    """

    media_type: str
    states: Generators

    def __post_init__(self) -> None:
        """Refuses another version."""
        if self.media_type != MEDIA_TYPE:
            raise EvidenceError(f"media_type: expected {MEDIA_TYPE!r}, got {self.media_type[:80]!r}")
        if not self.states.torch:
            raise EvidenceError("states: torch: expected the state of the CPU's generator, got none")

    @property
    def digest(self) -> Digest:
        """What receipts and traces name them by."""
        return self.states.digest()

    def save(self, path: str | Path) -> None:
        """Writes the states to a file that only its owner may read, whole or not at all.

        Raises:
            SealError: If it cannot be written.
        """
        data = encode_json(codec.to_json(self))
        files.write_atomically(Path(path), [data], error=SealError, mode=_OWN_FILE)


def taken() -> GeneratorStates:
    """Returns the states as they are now: call it where the answer begins, beside `run.begin_answer`.

    Raises:
        MeasurementError: If NumPy's has a state of unknown form.
    """
    return GeneratorStates(media_type=MEDIA_TYPE, states=rng_watch.take().spelled())


def read(path: Path) -> GeneratorStates:
    """Reads states.

    Raises:
        EvidenceError: If the file cannot be read or is not exactly that.
    """
    data = files.read_bounded(path, what="the generators' states", max_bytes=MAX_BYTES, error=EvidenceError)
    return codec.from_bytes(GeneratorStates, data, what=str(path), max_bytes=MAX_BYTES, error=EvidenceError)
