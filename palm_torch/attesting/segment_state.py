"""The state of a run at a checkpoint: canonical JSON whose SHA-256 the segment receipt signs.

Everything that the session which goes on has to begin with, beside what the receipt itself says and the
maps of multiplicities, which follow as raw bytes and whose roots the receipt names. The session key is not
in it: it exists in the memory of the session that had it, and dies with that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from palm_torch import codec
from palm_torch.attesting.training_state import TrainingState
from palm_torch.encoding import encode_json
from palm_torch.errors import EncodingError, EvidenceError
from palm_torch.evidence import MAX_BUNDLE_BYTES, Opening, Segment
from palm_torch.roles import Artifact
from palm_torch.statement import Series

TYPE: Final = "palm-torch/segment-state/v1"
MAX_STATE_BYTES: Final = 2 * MAX_BUNDLE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentState:
    """A session at a checkpoint.

    Attributes:
        type: Always `TYPE`.
        session: What opened it.
        log: Its event log.
        segments: The sessions before it.
        seeds: The random number generators when the run began.
        restored: For each time the run was resumed, their states in the receipt (``receipt``) and when the
            session that went on began (``begin``).
        inputs: Inputs that the script named.
        outputs: Outputs that the script named.
        config: Settings that the script named.
        reported: Quantities that the script logged.
        training: The training run.
    """

    type: str
    session: Opening
    log: tuple[bytes, ...]
    segments: tuple[Segment, ...]
    seeds: dict[str, Any]
    restored: tuple[dict[str, Any], ...]
    inputs: dict[str, Artifact]
    outputs: dict[str, Artifact]
    config: dict[str, Any]
    reported: dict[str, Series]
    training: TrainingState

    def __post_init__(self) -> None:
        """Refuses another type of document."""
        if self.type != TYPE:
            raise EncodingError(f"expected type {TYPE!r}, got {self.type[:80]!r}")

    def encode(self) -> bytes:
        """Returns the canonical JSON bytes."""
        return encode_json(codec.to_json(self))


def decode(data: bytes, *, what: str = "checkpoint: state") -> SegmentState:
    """Decodes a state, accepting exactly what `SegmentState.encode` makes.

    Raises:
        EvidenceError: If the bytes are anything else.
    """
    return codec.from_bytes(SegmentState, data, what=what, max_bytes=MAX_STATE_BYTES, error=EvidenceError)
