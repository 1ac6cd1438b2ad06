"""An audit's request: what a verifier asks of a trace after it has the sealed evidence.

The nonce is drawn by the verifier when it holds evidence and context; nothing of the evidence but the claims
goes into the draw, since quotes can be made again until they suit. Specification: docs/spec/57-audit.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch import codec
from palm_torch.challenge import drawn, parts
from palm_torch.challenge.drawn import DrawnRequest
from palm_torch.challenge.geometry import Geometry
from palm_torch.commit import trace
from palm_torch.digest import Digest, tagged_digest
from palm_torch.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MEDIA_TYPE: Final = "application/vnd.palm-torch.audit-request+json;version=1"
SUFFIX: Final = ".palm-audit.json"

MAX_BYTES: Final = 1 << 20
MAX_QUERIES: Final = 4096
MAX_COORDINATES: Final = 64
MAX_WEIGHT: Final = 1 << 32

_TAG: Final = "palm-torch/audit-request/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRequest(DrawnRequest):
    """What a verifier asks of a trace.

    Attributes:
        media_type: `MEDIA_TYPE`, which carries the version.
        claims: What was sealed about the run: the claims root of the end of sealed evidence, or the SHA-256
            of a receipt's statement; None if nothing was sealed.
        trace: The trace root.
        nonce: 32 bytes in hex, drawn by the verifier when it had all of that, and used once.
        geometry: What the verifier says that the model is.
        queries: How many places are looked at, with repeats.
        whole: How many blocks are opened with all their rows.
        coordinates: How many output coordinates are checked of each linear layer at each place, with weights
            that the answer opens; 0 if the verifier has the weights.
        weights: How often each part is drawn, in proportion: one number from 1 to 2^32 for each.

    Raises:
        RequestError: If it asks for what no answer could show.
    """

    geometry: Geometry
    queries: int
    whole: int
    coordinates: int
    weights: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuses another version, and numbers out of range."""
        self.require_drawn(MEDIA_TYPE)
        bounds = {"queries": MAX_QUERIES, "whole": self.geometry.blocks, "coordinates": MAX_COORDINATES}
        for name, most in bounds.items():
            if not 0 <= (count := getattr(self, name)) <= most:
                raise RequestError(f"{name}: expected a number from 0 to {most}, got {count}")
        if not self.queries and not self.whole:
            raise RequestError("queries: expected at least one place, or one whole block, got none")
        if len(self.weights) != (expected := self.geometry.blocks + 2):
            raise RequestError(f"weights: expected {expected}, one for each part, got {len(self.weights)}")
        if wrong := [weight for weight in self.weights if not 1 <= weight <= MAX_WEIGHT]:
            raise RequestError(f"weights: expected numbers from 1 to 2^32, got {wrong[0]}")

    @property
    def digest(self) -> Digest:
        """What an answer names the request by."""
        return tagged_digest(_TAG, self.encode())


def draw(
    context: bytes,
    geometry: Geometry,
    *,
    claims: Digest | None,
    queries: int = 16,
    whole: int = 0,
    coordinates: int = 0,
    weights: Sequence[int] | None = None,
    nonce: bytes | None = None,
) -> AuditRequest:
    """Returns a request with a fresh nonce; call it when you hold the sealed evidence, and not before.

    Args:
        context: The bytes of the trace's context.
        geometry: What the model is, from your own copy of its config.
        claims: As in `AuditRequest`; None only if nothing was sealed.
        queries: As in `AuditRequest`.
        whole: As in `AuditRequest`.
        coordinates: As in `AuditRequest`.
        weights: As in `AuditRequest`; None draws all parts equally often.
        nonce: 32 bytes; None draws them.

    Raises:
        RequestError: If it asks for what no answer could show.
    """
    count = len(parts.parts(geometry))
    return AuditRequest(
        media_type=MEDIA_TYPE,
        claims=claims,
        trace=trace.root(context),
        nonce=drawn.fresh(nonce),
        geometry=geometry,
        queries=queries,
        whole=whole,
        coordinates=coordinates,
        weights=(1,) * count if weights is None else tuple(weights),
    )


def read(path: Path) -> AuditRequest:
    """Reads a request.

    Raises:
        RequestError: If the file cannot be read or is not exactly a request.
    """
    return codec.from_file(AuditRequest, path, what="the request", max_bytes=MAX_BYTES, error=RequestError)


def decode(data: bytes, *, what: str) -> AuditRequest:
    """Parses a request.

    Args:
        data: The file's bytes.
        what: Name of the file, for messages.

    Raises:
        RequestError: If they are not exactly a request.
    """
    return codec.from_bytes(AuditRequest, data, what=what, max_bytes=MAX_BYTES, error=RequestError)
