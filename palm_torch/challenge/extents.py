"""How many sequences and tokens each part of a model has in a trace, and which tokens have logits.

The calls of a trace are one forward pass or one generation: a prefill and then steps. Every block has a row
for every token that was fed. The head may have rows for the last tokens of each call alone, as `generate`
asks for. All of it is arithmetic on runs of calls; nothing is listed.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch.challenge.modules import Modules
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from palm_torch.challenge.parts import Part
    from palm_torch.commit.trace import Calls, Context

MAX_TOKENS: Final = 1 << 20
MAX_SEQUENCES: Final = 1 << 12
"""Most tokens of a sequence, and most sequences, in a trace that is audited."""

ONE_RUN: Final = "expected one forward pass, or one generation of one batch"
"""What a trace has to be of, for messages."""
_ONE_RUN: Final = f"{ONE_RUN}, in a trace with layers='audit'"


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of calls that were alike.

    Attributes:
        row: First row of logits of the first of them, in one sequence.
        token: First token that was fed to it.
        count: How many calls.
        fed: Tokens that each was fed.
        shown: Tokens at the end of each that have logits.
    """

    row: int
    token: int
    count: int
    fed: int
    shown: int


@dataclass(frozen=True, slots=True)
class Extents:
    """What there is to draw from.

    Attributes:
        batch: How many sequences.
        tokens: How many tokens of each were fed.
        logits: Which of them have logits, by runs of calls.
    """

    batch: int
    tokens: int
    logits: tuple[Segment, ...]

    @property
    def shown(self) -> int:
        """How many tokens of each sequence have logits."""
        last = self.logits[-1]
        return last.row + last.count * last.shown

    @property
    def given(self) -> int:
        """How many tokens may have been given, and not chosen from logits: a prompt, perhaps in pieces.

        All that were fed up to the last call with several of them; of pieces, the last may have one token.
        """
        several = [one for one in self.logits if one.fed > 1]
        if not several:
            return 1
        last = several[-1]
        pieces = sum(one.count for one in several)
        return min(last.token + last.count * last.fed + (pieces > 1), self.tokens)

    def token_of(self, row: int) -> int:
        """Returns the token that a row of logits is of.

        Args:
            row: Number of the row in its sequence, below `shown`.
        """
        segment = self.logits[bisect.bisect_right(self.logits, row, key=lambda one: one.row) - 1]
        call, within = divmod(row - segment.row, segment.shown)
        return segment.token + call * segment.fed + segment.fed - segment.shown + within

    def row_of(self, token: int) -> int:
        """Returns the row of logits that a token has.

        Args:
            token: Number of the token.

        Raises:
            DataError: If it has none.
        """
        segment = self.logits[bisect.bisect_right(self.logits, token, key=lambda one: one.token) - 1]
        call, within = divmod(token - segment.token, segment.fed)
        if token >= self.tokens or (skipped := segment.fed - segment.shown) > within:
            raise DataError(f"token {token}: the trace has no logits of it")
        return segment.row + call * segment.shown + within - skipped


def extents(context: Context, asked: Sequence[Part]) -> Extents:
    """Returns what there is to draw from.

    Args:
        context: The trace's context.
        asked: The parts of the model.

    Raises:
        DataError: If a module is missing, or the calls are not those of one forward pass or one generation.
    """
    *others, head = asked
    modules = Modules(context)
    schedule = schedule_of(modules, others[0].anchor)
    alike: set[int] = set()  # groups whose calls were gone through: once, however many modules they have
    alone: set[int] = set()
    for part in others:
        for module in part.modules:
            group = id(modules.find(module)[1])
            if group in alike or (group in alone and module != part.anchor):
                continue
            if module != part.anchor and _is_alone(modules, module, schedule):
                alone.add(group)
                continue
            if schedule_of(modules, module) != schedule:
                raise DataError(f"{module}: {_ONE_RUN}: its calls are not those of {others[0].anchor}")
            alike.add(group)
    if schedule_of(modules, head.rows["norm"]) != schedule:
        raise DataError(f"{head.rows['norm']}: {_ONE_RUN}: its calls are not those of {others[0].anchor}")
    logits = tuple(_segments(schedule, schedule_of(modules, head.anchor), head.anchor))
    batch, tokens = size_of(schedule)
    return Extents(batch=batch, tokens=tokens, logits=logits)


def schedule_of(modules: Modules, module: str, *, expected: str = _ONE_RUN) -> tuple[Calls, ...]:
    """Returns the calls of a module: all of them, of one batch, with tokens.

    Args:
        modules: The modules of the trace.
        module: Canonical path of the module.
        expected: What the message says was expected.

    Raises:
        DataError: If the module is missing, or its calls are others.
    """
    schedule = modules.find(module)[1].schedule
    call = 0
    for run in schedule:
        if run.first != call or run.batch != schedule[0].batch or not run.rows:
            raise DataError(
                f"{module}: {expected}: calls {run.first} to {run.end - 1} have {run.batch} sequences of "
                f"{run.tokens} tokens"
            )
        call = run.end
    return schedule


def of_calls(schedule: tuple[Calls, ...]) -> Extents:
    """Returns what there is to draw from where every token that was fed has a row.

    Args:
        schedule: The calls, from `schedule_of`.

    Raises:
        DataError: If they are more than a trace that is audited has.
    """
    batch, tokens = size_of(schedule)
    return Extents(batch=batch, tokens=tokens, logits=tuple(_segments(schedule, schedule, "")))


def size_of(schedule: tuple[Calls, ...]) -> tuple[int, int]:
    """Returns how many sequences calls have, and how many tokens of each were fed.

    Raises:
        DataError: If they are more than a trace that is audited has.
    """
    batch, tokens = schedule[0].batch, sum(run.count * run.tokens for run in schedule)
    if tokens > MAX_TOKENS or batch > MAX_SEQUENCES:
        raise DataError(
            f"trace: expected at most {MAX_SEQUENCES} sequences of {MAX_TOKENS} tokens, got {batch} of "
            f"{tokens}"
        )
    return batch, tokens


def _is_alone(modules: Modules, module: str, schedule: tuple[Calls, ...]) -> bool:
    """Says whether one sequence of a module stands for all, as that of positions does."""
    own = modules.find(module)[1].schedule
    return len(own) == len(schedule) and all(
        one.batch == 1 and (one.first, one.count, one.tokens) == (run.first, run.count, run.tokens)
        for one, run in zip(own, schedule, strict=True)
    )


def _segments(fed: tuple[Calls, ...], shown: tuple[Calls, ...], module: str) -> Iterator[Segment]:
    """Yields runs of calls in which both the tokens fed and those with logits are equally many."""
    row = token = 0
    if fed[-1].end != shown[-1].end:
        raise DataError(f"{module}: expected {fed[-1].end} calls, as of the blocks, got {shown[-1].end}")
    cuts = sorted({run.end for run in (*fed, *shown)})
    call = 0
    for end in cuts:
        of_fed, of_shown = _run_at(fed, call), _run_at(shown, call)
        if of_fed.batch != of_shown.batch or of_shown.tokens > of_fed.tokens:
            raise DataError(
                f"{module}: call {call}: expected {of_fed.batch} sequences of at most {of_fed.tokens} "
                f"tokens, got {of_shown.batch} of {of_shown.tokens}"
            )
        yield Segment(row, token, end - call, of_fed.tokens, of_shown.tokens)
        row += (end - call) * of_shown.tokens
        token += (end - call) * of_fed.tokens
        call = end


def _run_at(schedule: tuple[Calls, ...], call: int) -> Calls:
    return schedule[bisect.bisect_right(schedule, call, key=lambda run: run.first) - 1]
