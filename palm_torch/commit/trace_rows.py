"""From a question about a trace to the rows and tiles that answer it.

Of a tensor with leading shape (…, tokens), the last dimension counts tokens and those before it, multiplied,
sequences of a batch. Tokens count on through the calls of a site: a prefill of 17 tokens and then steps of
one are tokens 0 to 16, 17, 18 and so on. All of it is arithmetic on the schedule; nothing is listed that was
not asked for.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from palm_torch.commit.trace_groups import Group, Site
from palm_torch.commit.weights_root import ITEM_BYTES
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from palm_torch.commit.trace import Context

MAX_ROWS: Final = 2**20
MAX_TILES: Final = 2**16
MAX_BYTES: Final = 64 << 20
"""Most rows, tiles, and bytes of these tiles, in one opening."""

_ENDS: Final = 2
_SITES_SHOWN: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What to show of a trace; each range is a first number and the one after the last.

    Attributes:
        site: The site.
        call: Number of one call, in which tokens then count from 0; None to count them through all calls.
        batch: Which sequences of the batch.
        tokens: Which tokens.
        channels: Which channels.

    Raises:
        DataError: If a range is empty or malformed.
    """

    site: Site
    call: int | None
    batch: tuple[int, ...]
    tokens: tuple[int, ...]
    channels: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuses what asks for nothing."""
        if self.call is not None and self.call < 0:
            raise DataError(f"call: expected a number from 0, got {self.call}")
        for what, ends in (("batch", self.batch), ("tokens", self.tokens), ("channels", self.channels)):
            if len(ends) != _ENDS or not 0 <= ends[0] < ends[1]:
                raise DataError(f"{what}: expected a first number and a greater one, got {ends[:4]}")

    def __str__(self) -> str:
        """Returns the question in words, for messages."""
        call = "" if self.call is None else f" of call {self.call}"
        ranges = (f"{name} {a} to {b - 1}" for name, (a, b) in zip(_AXES, self._ranges(), strict=True))
        return f"{self.site}{call}, {', '.join(ranges)}"

    def _ranges(self) -> tuple[tuple[int, ...], ...]:
        return self.batch, self.tokens, self.channels


_AXES: Final = ("batch", "tokens", "channels")


@dataclass(frozen=True, slots=True)
class Tile:
    """A tile that a question touches.

    Attributes:
        position: Its leaf in the tree of the group.
        coordinates: Row and channel of it among the tiles of the site.
        channels: How many channels it has.
        start: Where it begins in the bytes of the site.
        nbytes: How many bytes it has.
    """

    position: int
    coordinates: tuple[int, int]
    channels: int
    start: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a trace the answer to a question lies.

    Attributes:
        group: The group.
        site: The site.
        rows: The rows, in the order of the answer: by sequence, then by token.
        channels: First channel, and the one after the last.
        shape: Sequences, tokens and channels.
        tiles: The tiles that they touch, by position.
    """

    group: Group
    site: Site
    rows: tuple[range, ...]
    channels: tuple[int, int]
    shape: tuple[int, int, int]
    tiles: tuple[Tile, ...]

    def cut(self, contents: Sequence[bytes]) -> bytes:
        """Returns the answer: exact bytes, row-major.

        Args:
            contents: The bytes of each of the `tiles`.
        """
        tile_rows, tile_channels = self.group.tile
        item_bytes = ITEM_BYTES[self.group.dtype]
        first, last = self.channels
        by_place = {
            tile.coordinates: (tile, content) for tile, content in zip(self.tiles, contents, strict=True)
        }
        parts: list[bytes] = []
        for row in itertools.chain.from_iterable(self.rows):
            above, within = divmod(row, tile_rows)
            for column in range(first // tile_channels, -(-last // tile_channels)):
                tile, content = by_place[above, column]
                left, start = column * tile_channels, within * tile.channels
                begin = start + max(first - left, 0)
                end = start + min(last - left, tile.channels)
                parts.append(content[begin * item_bytes : end * item_bytes])
        return b"".join(parts)


def locate(context: Context, question: Question, *, sites: Sites | None = None) -> Place:
    """Returns where the answer to a question lies.

    Args:
        context: The trace's context.
        question: The question.
        sites: Those of this context, for many questions; None looks through all of them.

    Raises:
        DataError: If there is nothing such in the trace, or it is too much for one opening.
    """
    group, index = (sites or Sites(context)).find(question.site, question.call)
    (batch, past_batch), (first, last) = question.batch, question.channels
    count = question.tokens[1] - question.tokens[0]
    if last > group.channels:
        raise DataError(
            f"channels: {question.site} has {group.channels}, expected a range within, got {last}"
        )
    if (rows := (past_batch - batch) * count) > MAX_ROWS:
        raise DataError(
            f"expected at most {MAX_ROWS} rows in one opening, got {rows}; ask for less at a time"
        )
    parts = list(touched(group, question.call, question.tokens))
    if any(past_batch > part.batch for part in parts):
        least = min(part.batch for part in parts)
        raise DataError(
            f"batch: these calls have {least} sequences, expected a range within, got {past_batch}"
        )
    spans = tuple(
        range(part.row + sequence * part.tokens + part.first, part.row + sequence * part.tokens + part.last)
        for sequence in range(batch, past_batch)
        for part in parts
    )
    return Place(
        group=group,
        site=question.site,
        rows=spans,
        channels=(first, last),
        shape=(past_batch - batch, count, last - first),
        tiles=tuple(_tiles(group, index, spans, (first, last))),
    )


class Sites:
    """Looks the sites of a trace up, without going through all of them each time.

    Args:
        context: The trace's context.
    """

    def __init__(self, context: Context) -> None:
        self._found: dict[tuple[str, str], list[tuple[Group, int]]] = {}
        self._numbers: dict[int, int] = {}
        for number, group in enumerate(context.groups):
            self._numbers[id(group)] = number
            for index, known in enumerate(group.sites):
                self._found.setdefault((known.module, known.output), []).append((group, index))

    def find(self, site: Site, call: int | None) -> tuple[Group, int]:
        """Returns the group with a site's tensors, and the place of the site in it; as the function `find`.

        Raises:
            DataError: If there is none, or there are several.
        """
        found = self._found.get((site.module, site.output), [])
        if not found:
            known = list(self._found)
            shown = ", ".join(str(Site(*pair)) for pair in known[:_SITES_SHOWN])
            shown += f", … {len(known)} in all" if known[_SITES_SHOWN:] else ""
            raise DataError(f"{site}: no tensor of it is in this trace; its sites are {shown or 'none'}")
        if call is not None:
            found = [item for item in found if any(run.first <= call < run.end for run in item[0].schedule)]
            if not found:
                raise DataError(f"{site}: the trace has no call {call} of it")
        if len(found) > 1:
            raise DataError(f"{site}: its calls had tensors of {len(found)} kinds; name one call")
        return found[0]

    def number(self, group: Group) -> int:
        """Returns the number of one of the context's own groups."""
        return self._numbers[id(group)]


def find(context: Context, site: Site, call: int | None) -> tuple[Group, int]:
    """Returns the group with a site's tensors, and the place of the site in it; for many, `Sites` is faster.

    Args:
        context: The trace's context.
        site: The site.
        call: Number of a call that the group has; None for any.

    Raises:
        DataError: If there is none, or there are several.
    """
    return Sites(context).find(site, call)


@dataclass(frozen=True, slots=True)
class Part:
    """What a question takes of one call.

    Attributes:
        row: First row of the call.
        batch: How many sequences the call had.
        tokens: How many tokens each.
        first: First token that is asked for, counted within the call.
        last: The token after the last.
    """

    row: int
    batch: int
    tokens: int
    first: int
    last: int


def touched(group: Group, call: int | None, tokens: tuple[int, ...]) -> Iterator[Part]:
    """Yields the calls that have some of the tokens.

    Args:
        group: The group.
        call: As in `Question`.
        tokens: As in `Question`.

    Raises:
        DataError: If there are not so many tokens.
    """
    start, stop = tokens
    row = token = 0
    for run in group.schedule:
        calls = range(run.count)
        if call is not None:
            calls = calls[call - run.first : call - run.first + 1] if call >= run.first else calls[:0]
        width, of_run = run.tokens, len(calls) * run.tokens
        if of_run and token < stop and start < token + of_run:
            for number in calls[max(start - token, 0) // width : -(-(stop - token) // width)]:
                begins = token + (number - calls[0]) * width
                yield Part(
                    row=row + number * run.rows,
                    batch=run.batch,
                    tokens=width,
                    first=max(start - begins, 0),
                    last=min(stop - begins, width),
                )
        row += run.rows * run.count
        token += of_run
    if stop > token:
        raise DataError(f"tokens: {group.sites[0]} has {token}, expected a range within, got {stop}")


def _tiles(group: Group, index: int, spans: Sequence[range], channels: tuple[int, int]) -> Iterator[Tile]:
    """Yields the tiles that rows and channels touch, by position."""
    (height, width), item_bytes, rows = group.tile, ITEM_BYTES[group.dtype], group.rows
    _, down, across = group.grid().counts
    columns = range(channels[0] // width, -(-channels[1] // width))
    above = sorted(
        {at for span in spans for at in range(span.start // height, (span.stop - 1) // height + 1)}
    )
    if (count := len(above) * len(columns)) > MAX_TILES:
        raise DataError(
            f"expected at most {MAX_TILES} tiles in one opening, got {count}; ask for less at a time"
        )
    if (size := count * height * width * item_bytes) > MAX_BYTES:
        raise DataError(
            f"expected at most {MAX_BYTES} bytes of tiles in one opening, got {size}; ask for less at a time"
        )
    for row in above:
        for column in columns:
            has = min(width, group.channels - column * width)
            yield Tile(
                position=(index * down + row) * across + column,
                coordinates=(row, column),
                channels=has,
                start=(row * height * group.channels + column * width) * item_bytes,
                nbytes=min(height, rows - row * height) * has * item_bytes,
            )
