"""An audit's answer: the openings that a request asks for, with weights and ids of tokens where they belong.

It says nothing that is not checked against the trace root, the weights root, or a fact of the trace.
Specification: docs/spec/57-audit.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from palm_torch import codec, files
from palm_torch.challenge import tokens
from palm_torch.commit.opening_file import WeightsOpening
from palm_torch.commit.salted import SaltedOpening
from palm_torch.commit.trace_opening import TraceOpening
from palm_torch.digest import TAGGED_SHA256, Digest, tagged_digest
from palm_torch.encoding import encode_json
from palm_torch.errors import BindingError, DataError, EvidenceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_torch.commit.trace import Context
    from palm_torch.commit.trace_rows import Question

MEDIA_TYPE: Final = "application/vnd.palm-torch.audit-answer+json;version=1"
SUFFIX: Final = ".palm-answer.json"

MAX_BYTES: Final = 256 << 20
"""Largest answer, in bytes."""

_TAG: Final = "palm-torch/audit-answer/v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditAnswer:
    """What a prover shows.

    Attributes:
        media_type: `MEDIA_TYPE`, which carries the version.
        request: Digest of the request.
        openings: One for each question of `challenge.questions`, in that order.
        weights: One for each block of weights that is asked for, in that order; none where nobody asks.
        tokens: The ids of the tokens; None where the trace has no such fact.
        decoding: How tokens were chosen, in the prover's words; None where it says nothing.

    Raises:
        EvidenceError: If it is of another version.
    """

    media_type: str
    request: Digest
    openings: tuple[TraceOpening, ...]
    weights: tuple[WeightsOpening, ...]
    tokens: SaltedOpening | None
    decoding: dict[str, Any] | None

    def __post_init__(self) -> None:
        """Refuses another version."""
        if self.media_type != MEDIA_TYPE:
            raise EvidenceError(f"media_type: expected {MEDIA_TYPE!r}, got {self.media_type[:80]!r}")
        if self.request.algorithm != TAGGED_SHA256:
            raise EvidenceError(f"request: expected a {TAGGED_SHA256} digest, got {self.request}")
        if self.tokens is not None and self.tokens.role != tokens.FACT:
            raise EvidenceError(f"tokens: role: expected {tokens.FACT!r}, got {self.tokens.role[:80]!r}")

    @property
    def digest(self) -> Digest:
        """The identity of the answer."""
        return tagged_digest(_TAG, self.encode())

    def encode(self) -> bytes:
        """Returns the file's bytes, canonical JSON.

        Raises:
            DataError: If they are more than `MAX_BYTES`.
        """
        data = encode_json(codec.to_json(self))
        if len(data) > MAX_BYTES:
            raise DataError(
                f"answer: expected at most {MAX_BYTES} bytes, got {len(data)}: ask for fewer places, whole "
                "blocks or coordinates"
            )
        return data

    def save(self, path: str | Path) -> None:
        """Writes the answer to a file, whole or not at all.

        Raises:
            DataError: If it cannot be written, or is too long.
        """
        files.write_atomically(Path(path), [self.encode()], error=DataError)


class Request(Protocol):
    """What an answer is held against: a request, of whatever kind."""

    @property
    def digest(self) -> Digest:
        """What an answer names it by."""

    @property
    def trace(self) -> Digest:
        """The trace root that it is about."""


def check_asked(
    answer: AuditAnswer, request: Request, questions: Sequence[Question], context: Context
) -> None:
    """Refuses an answer to something else: another request, or with other openings than were asked for.

    Args:
        answer: The answer, of which nothing was checked.
        request: The request.
        questions: What it asks, from `challenge.questions`.
        context: The context of the trace: ids of tokens that it commits to have to be shown.

    Raises:
        BindingError: If it answers something else.
    """
    if answer.request != (digest := request.digest):
        raise BindingError(f"answer: expected one to the request {digest}, got one to {answer.request}")
    if (answer.tokens is None) is (tokens.FACT in context.facts):
        expected = "the ids of the tokens, to which the trace commits" if answer.tokens is None else "no ids"
        raise BindingError(f"answer: tokens: expected {expected}")
    if len(answer.openings) != len(questions):
        raise BindingError(f"answer: expected {len(questions)} openings, got {len(answer.openings)}")
    for number, (opening, question) in enumerate(zip(answer.openings, questions, strict=True)):
        if opening.root != request.trace:
            raise BindingError(
                f"answer: opening {number}: expected the root {request.trace}, got {opening.root}"
            )
        if opening.question != question:
            raise BindingError(
                f"answer: opening {number}: expected an answer to {question}, it answers {opening.question}"
            )


def read(path: Path) -> AuditAnswer:
    """Reads an answer, without checking it against anything.

    Raises:
        EvidenceError: If the file cannot be read or is not exactly an answer.
    """
    return read_known(path)[0]


def read_known(path: Path) -> tuple[AuditAnswer, Digest]:
    """Reads an answer as `read` does, and returns its digest too, of the very bytes that were read.

    Raises:
        EvidenceError: As `read`.
    """
    data = files.read_bounded(path, what="the answer", max_bytes=MAX_BYTES, error=EvidenceError)
    return decode(data, what=str(path)), tagged_digest(_TAG, data)


def decode(data: bytes, *, what: str) -> AuditAnswer:
    """Parses an answer.

    Args:
        data: The file's bytes.
        what: Name of the file, for messages.

    Raises:
        EvidenceError: If they are not exactly an answer.
    """
    return codec.from_bytes(AuditAnswer, data, what=what, max_bytes=MAX_BYTES, error=EvidenceError)
