"""A replay's request: which rows of which blocks a prover has to open, for models that no audit describes.

It is drawn as an audit's request is, from the sealed claims, the trace root and a nonce of the verifier's.
Specification: docs/spec/59-audit-results.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch import codec
from palm_torch.challenge import drawing, drawn, extents, questions
from palm_torch.challenge.drawn import DrawnRequest
from palm_torch.challenge.modules import Modules
from palm_torch.challenge.places import Place
from palm_torch.commit import trace
from palm_torch.commit.trace_rows import Question
from palm_torch.digest import Digest, tagged_digest
from palm_torch.errors import DataError, RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from palm_torch.challenge.extents import Extents
    from palm_torch.commit.trace import Context

MEDIA_TYPE: Final = "application/vnd.palm-torch.replay-request+json;version=1"
SUFFIX: Final = ".palm-replay.json"

MAX_BYTES: Final = 1 << 20
MAX_BLOCKS: Final = 1 << 12
MAX_QUERIES: Final = 256
"""Most places of one request: each costs the verifier a forward pass."""

_TAG: Final = "palm-torch/replay-request/v1"
_LABEL: Final = "replay/places"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRequest(DrawnRequest):
    """What a verifier asks of a trace.

    Attributes:
        media_type: `MEDIA_TYPE`, which carries the version.
        claims: What was sealed about the run, as in an audit's request; None if nothing was.
        trace: The trace root.
        nonce: 32 bytes in hex, drawn by the verifier when it had all of that, and used once.
        blocks: Paths of the model's blocks, each fed with what the one before returned; the first one is that
            of the model.
        queries: How many places are looked at, with repeats.

    Raises:
        RequestError: If it asks for what no answer could show.
    """

    blocks: tuple[str, ...]
    queries: int

    def __post_init__(self) -> None:
        """Refuses another version, and numbers out of range."""
        self.require_drawn(MEDIA_TYPE)
        if not 1 <= len(self.blocks) <= MAX_BLOCKS or len(set(self.blocks)) != len(self.blocks):
            raise RequestError(f"blocks: expected 1 to {MAX_BLOCKS} different paths, got {len(self.blocks)}")
        if not 1 <= self.queries <= MAX_QUERIES:
            raise RequestError(f"queries: expected a number from 1 to {MAX_QUERIES}, got {self.queries}")

    @property
    def digest(self) -> Digest:
        """What an answer names the request by."""
        return tagged_digest(_TAG, self.encode())


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks of a trace.

    Attributes:
        batch: How many sequences the trace has.
        tokens: How many tokens of each were fed.
        given: How many of them may have been given, and not generated.
        places: The places, in the order of the draw; `part` counts the request's blocks from 0.
        questions: The openings that answer the request, in this order.
    """

    batch: int
    tokens: int
    given: int
    places: tuple[Place, ...]
    questions: tuple[Question, ...]


def draw(
    context: bytes,
    blocks: Sequence[str],
    *,
    claims: Digest | None,
    queries: int = 8,
    nonce: bytes | None = None,
) -> ReplayRequest:
    """Returns a request with a fresh nonce; call it when you hold the sealed evidence, and not before.

    Args:
        context: The bytes of the trace's context.
        blocks: As in `ReplayRequest`, from your own copy of the model.
        claims: As in `ReplayRequest`; None only if nothing was sealed.
        queries: As in `ReplayRequest`.
        nonce: 32 bytes; None draws them.

    Raises:
        RequestError: If it asks for what no answer could show.
    """
    return ReplayRequest(
        media_type=MEDIA_TYPE,
        claims=claims,
        trace=trace.root(context),
        nonce=drawn.fresh(nonce),
        blocks=tuple(blocks),
        queries=queries,
    )


def asked(request: ReplayRequest, context: Context) -> Asked:
    """Returns what a request asks of a trace; prover and verifier compute the same.

    Args:
        request: The request.
        context: The context of the trace that it names; whoever calls has compared the root.

    Raises:
        DataError: If the trace lacks a block, or is of more than one forward pass or generation.
    """
    there = _extents(request, context)
    stream = drawing.Stream(request.seed, _LABEL)
    places = tuple(
        Place(stream.below(len(request.blocks)), stream.below(there.batch), stream.below(there.tokens))
        for _ in range(request.queries)
    )
    wanted = questions.of_runs(context, there.batch, _needed(request, places))
    return Asked(there.batch, there.tokens, there.given, places, tuple(wanted))


def read(path: Path) -> ReplayRequest:
    """Reads a request.

    Raises:
        RequestError: If the file cannot be read or is not exactly a request.
    """
    return codec.from_file(ReplayRequest, path, what="the request", max_bytes=MAX_BYTES, error=RequestError)


def _extents(request: ReplayRequest, context: Context) -> Extents:
    """Returns how many sequences all blocks have, and of how many tokens."""
    modules, first = Modules(context), request.blocks[0]
    schedule = modules.find(first)[1].schedule
    for block in request.blocks[1:]:
        if modules.find(block)[1].schedule != schedule:
            raise DataError(f"{block}: expected the calls of {first}, got others: name blocks of one chain")
    return extents.of_calls(extents.schedule_of(modules, first, expected=extents.ONE_RUN))


def _needed(request: ReplayRequest, places: Sequence[Place]) -> Iterator[tuple[str, int, tuple[int, int]]]:
    """Yields the rows that each place takes: all up to the token of what went in, one of what came out."""
    for place in places:
        if place.part:
            yield request.blocks[place.part - 1], place.sequence, (0, place.token + 1)
        yield request.blocks[place.part], place.sequence, (place.token, place.token + 1)
