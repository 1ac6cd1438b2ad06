"""`palm-torch inspect` of a trace's context, or of an opening of a trace: what it says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from palm_torch.commands import printing, trace_words
from palm_torch.escaping import printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from palm_torch.commit.trace import Context, Group
    from palm_torch.commit.trace_opening import TraceOpening


def max_bytes() -> int:
    """Returns the size of the largest such file, in bytes."""
    from palm_torch.commit import trace, trace_opening

    return max(trace.MAX_CONTEXT_BYTES, trace_opening.MAX_BYTES)


def document(data: bytes, *, what: str) -> Context | TraceOpening | None:
    """Parses a context or an opening, without checking it against anything.

    Args:
        data: A file's bytes.
        what: Its name, for messages.

    Returns:
        It, or None if the file begins as neither does.

    Raises:
        EvidenceError: If it begins so, and is none.
    """
    from palm_torch.commit import trace, trace_opening

    if data.startswith(trace_opening.START):
        return trace_opening.decode(data, what=what)
    return trace.decode(data, what=what) if data.startswith(trace.START) else None


def show(found: Context | TraceOpening, path: Path, *, as_json: bool) -> None:
    """Prints what a context or an opening says, under a heading that nobody has checked it.

    Args:
        found: What `document` returned.
        path: The file.
        as_json: Whether to print JSON.
    """
    from palm_torch.codec import to_json
    from palm_torch.commit import trace

    is_context = isinstance(found, trace.Context)
    if as_json:
        said: Any = to_json(found)
        root = {"root": str(trace.root(found.encode()))} if isinstance(found, trace.Context) else {}
        printing.print_json({**said, **root, "verified": False})
        return
    heading = "NOT VERIFIED: this is what the file says of itself; `palm-torch check` checks openings"
    click.secho(heading, fg="yellow", bold=True)
    click.echo(printable(f"file      {path}, {'the context' if is_context else 'an opening'} of a trace"))
    lines = _of_context(found) if isinstance(found, trace.Context) else _of_opening(found)
    for line in lines:
        click.echo(printable(line))


def _of_context(context: Context) -> Iterator[str]:
    from palm_torch.commit import trace

    yield f"format    {context.media_type}"
    yield f"root      {trace.root(context.encode())}, scheme {context.scheme}"
    for group in context.groups:
        yield f"group     {_group(group)}"
    yield from trace_words.of_context(context)
    for name, value in sorted(context.environment.items()):
        yield f"setting   {name} {value}"


def _group(group: Group) -> str:
    first, more = group.sites[0], len(group.sites) - 1
    sites = f"{first}{f' and {more} more sites' if more else ''}"
    calls = sum(run.count for run in group.schedule)
    return (
        f"{sites}: {group.dtype}, {group.channels} channels, {calls} calls, {group.rows} rows, "
        f"{group.grid().tiles} tiles, root {group.root}"
    )


def _of_opening(opening: TraceOpening) -> Iterator[str]:
    yield f"format    {opening.media_type}"
    yield f"root      {opening.root}"
    yield f"site      {opening.question.site}"
    yield f"opened    {trace_words.ranges(opening.question)}"
    yield f"tiles     {len(opening.tiles)} bytes"
    yield f"proof     {len(opening.proof)} bytes"
