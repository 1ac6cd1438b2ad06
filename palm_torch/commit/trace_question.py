"""Asking about a trace as one indexes an array: what is left out is all, numbers may count from the end."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, SupportsIndex, TypeAlias

from palm_torch.commit import trace_rows
from palm_torch.commit.trace_groups import Group, Site
from palm_torch.commit.trace_rows import Question
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from palm_torch.commit.trace import Context

Range: TypeAlias = "slice | SupportsIndex | None"
"""``slice(first, past the last)``, one number, or None for all."""


def ask(
    context: Context,
    site: Site,
    *,
    tokens: Range = None,
    batch: Range = None,
    channels: Range = None,
    call: int | None = None,
) -> Question:
    """Returns the question that these ranges ask.

    Args:
        context: The trace's context.
        site: The site.
        tokens: Which tokens, counted through all calls, or within `call`.
        batch: Which sequences of the batch.
        channels: Which channels.
        call: One call, for tokens of it alone.

    Raises:
        DataError: If the trace has no such site, call or range, or the calls that have these tokens have
            different numbers of sequences and `batch` says nothing.
    """
    group, _ = trace_rows.find(context, site, call)
    span = _span("tokens", tokens, _tokens(group, call))
    wanted = _span("channels", channels, group.channels)
    widths = {part.batch for part in trace_rows.touched(group, call, span)}
    if batch is None and len(widths) > 1:
        raise DataError(
            f"batch: the calls with these tokens have {min(widths)} to {max(widths)} sequences: say which, "
            "or name one call"
        )
    return Question(
        site=site, call=call, batch=_span("batch", batch, min(widths)), tokens=span, channels=wanted
    )


def site_of(context: Context, module: str, output: str | None) -> Site:
    """Returns the site of a module's output.

    Args:
        context: The trace's context.
        module: Canonical path of the module.
        output: Path within what it returned; None where there is only one.

    Raises:
        DataError: If there is none, or there are several.
    """
    if output is not None:
        return Site(module, output)
    found = dict.fromkeys(site for group in context.groups for site in group.sites if site.module == module)
    if len(found) > 1:
        names = ", ".join(repr(site.output) for site in found)
        raise DataError(f"{module}: expected one of its outputs, which are {names}: say output=")
    return next(iter(found), Site(module))


def _tokens(group: Group, call: int | None) -> int:
    if call is not None:
        return next(run.tokens for run in group.schedule if run.first <= call < run.end)
    return sum(run.tokens * run.count for run in group.schedule)


def _span(what: str, part: Range, extent: int) -> tuple[int, int]:
    if isinstance(part, slice):
        if part.step not in (None, 1):
            raise DataError(f"{what}: expected a range without steps, got {part}")
        first = 0 if part.start is None else _number(what, part.start, part)
        last = extent if part.stop is None else _number(what, part.stop, part)
    elif part is None:
        first, last = 0, extent
    else:
        first = _number(what, part, part)
        last = first + 1 if first != -1 else extent
    first, last = (end + extent if end < 0 else end for end in (first, last))
    if not 0 <= first < last <= extent:
        raise DataError(f"{what}: expected a range within [0, {extent}), got {part}")
    return first, last


def _number(what: str, value: SupportsIndex, part: Range) -> int:
    try:
        return operator.index(value)
    except TypeError as error:
        raise DataError(f"{what}: expected a slice or a whole number, got {part!r}") from error
