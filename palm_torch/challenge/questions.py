"""Which openings answer a request: one for each module, sequence and run of tokens, each once.

Prover and verifier compute the same list; an answer with another one is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from palm_torch.challenge.modules import Modules
from palm_torch.commit.trace_rows import Question
from palm_torch.commit.weights_root import ITEM_BYTES
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from palm_torch.challenge.challenge import Asked
    from palm_torch.challenge.request import AuditRequest
    from palm_torch.commit.trace import Context

MAX_PIECE_BYTES: Final = 16 << 20
MAX_PIECE_ROWS: Final = 1 << 14
"""Most bytes and rows of one opening: longer runs of tokens are cut, from their first token on."""

MAX_QUESTIONS: Final = 1 << 16
"""Most openings of one answer."""

_TOO_MUCH: Final = (
    f"request: it asks for more than {MAX_QUESTIONS} openings of this trace: ask for fewer places or whole "
    "blocks, or cut the batch"
)


def questions(
    request: AuditRequest,  # noqa: ARG001 (as everything of the protocol, it is about request and context)
    context: Context,
    asked: Asked,
) -> list[Question]:
    """Returns the questions that an answer has to answer, in this order.

    By module in the order in which it is first needed, whole blocks first and then places; by sequence; by
    token.

    Args:
        request: The request.
        context: The context of the trace.
        asked: What the request asks of this trace.

    Raises:
        DataError: If they are too many for one answer.
    """
    return of_runs(context, asked.extents.batch, _needed(asked))


def of_runs(
    context: Context, batch: int, needed: Iterable[tuple[str, int, tuple[int, int]]]
) -> list[Question]:
    """Returns the questions for runs of tokens, each asked once, by module in the order of the first need.

    Args:
        context: The context of the trace.
        batch: How many sequences it has.
        needed: Modules, each with a sequence, a first token and the one after the last; repeats count once.

    Raises:
        DataError: If they are too many for one answer, or the trace lacks a module.
    """
    wanted: dict[str, dict[int, set[tuple[int, int]]]] = {}
    for number, (module, sequence, span) in enumerate(needed):
        if number == MAX_QUESTIONS:
            raise DataError(_TOO_MUCH)
        wanted.setdefault(module, {}).setdefault(sequence, set()).add(span)
    modules = Modules(context)
    found: list[Question] = []
    for module, sequences in wanted.items():
        for question in _of_module(modules, batch, module, sequences):
            if len(found) == MAX_QUESTIONS:
                raise DataError(_TOO_MUCH)
            found.append(question)
    return found


def _needed(asked: Asked) -> Iterator[tuple[str, int, tuple[int, int]]]:
    """Yields modules with a sequence and a run of tokens of it."""
    there = asked.extents
    for number in asked.whole:
        for module in asked.parts[number].modules:
            for sequence in range(there.batch):
                yield module, sequence, (0, there.tokens)
    for place in asked.places:
        part, after = asked.parts[place.part], place.token + 1
        for role, module in part.rows.items():
            if role == "logits":
                row = there.row_of(place.token)
                yield module, place.sequence, (row, row + 1)
            else:
                yield module, place.sequence, (place.token, after)
        for module in part.history.values():
            yield module, place.sequence, (0, after)


def _of_module(
    modules: Modules, batch: int, module: str, sequences: dict[int, set[tuple[int, int]]]
) -> Iterator[Question]:
    site, group = modules.find(module)
    if group.schedule[0].batch == 1 < batch:  # one sequence stands for all: positions
        sequences = {0: set().union(*sequences.values())}
    row_bytes = group.channels * ITEM_BYTES[group.dtype]
    step = max(1, min(MAX_PIECE_ROWS, MAX_PIECE_BYTES // max(row_bytes, 1)))
    for sequence, spans in sorted(sequences.items()):
        for start, stop in _merged(spans):
            for first in range(start, stop, step):
                yield Question(
                    site=site,
                    call=None,
                    batch=(sequence, sequence + 1),
                    tokens=(first, min(first + step, stop)),
                    channels=(0, group.channels),
                )


def _merged(spans: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Returns runs of tokens, of which none touches another, ascending."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], stop)
        else:
            merged.append((start, stop))
    return merged
