"""`palm-torch check` of an opening of a trace: what a module computed, under a root or by evidence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from palm_torch import terminal
from palm_torch.commands import appraising, arguments, printing, trace_expected, trace_words, weights
from palm_torch.commands.arguments import FILE
from palm_torch.commands.trace_expected import Expected
from palm_torch.errors import DataError, EvidenceError, InputError, RejectedError, SealError
from palm_torch.escaping import printable
from palm_torch.exit_codes import ACCEPTED, MALFORMED, REJECTED
from palm_torch.files import read_bounded, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from palm_torch.commands.trace_evidence import Named
    from palm_torch.commit.trace import Context
    from palm_torch.commit.trace_opening import Shown

NAMES: Final[tuple[str, ...]] = ("context", "receipt", "site", "call", "batch", "tokens", "channels", "facts")
"""Options that only an opening of a trace takes."""

_OPTIONS: Final = (
    click.option("--context", type=FILE, help="Of a trace: its context, which `proof.save` wrote."),
    click.option(
        "--receipt",
        type=FILE,
        help="Of a trace, with --evidence or in its place: the receipt of the answer that it is of.",
    ),
    click.option(
        "--site",
        metavar="MODULE[|OUTPUT]",
        help="The module that you expect to see, by its path, and which of its outputs if it has several.",
    ),
    click.option(
        "--call", type=click.IntRange(min=0), help="The call that you expect; tokens then count within it."
    ),
    *(
        click.option(f"--{name}", type=weights.SPAN, metavar="A:B", help=f"{what} that you expect to see.")
        for name, what in (("batch", "Sequences"), ("tokens", "Tokens"), ("channels", "Channels"))
    ),
    click.option(
        "--fact",
        "facts",
        multiple=True,
        metavar="NAME=DIGEST",
        help="What you know of the run, such as query=palm-sha256:...; repeatable.",
    ),
)


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that only an opening of a trace takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def is_trace(data: bytes) -> bool:
    """Says whether a file claims to be an opening of a trace."""
    from palm_torch.commit import trace_opening

    return data.startswith(trace_opening.START)


def run(  # noqa: PLR0913 (one for each option)
    opening: Path,
    data: bytes,
    *,
    root: str | None,
    evidence: Path | None,
    receipt: Path | None,
    context: Path | None,
    facts: tuple[str, ...],
    values: Path | None,
    as_json: bool,
    **words: Any,  # noqa: ANN401 (checked by click)
) -> int:
    """Checks what a module computed, prints what came out, and returns the exit code.

    Args:
        opening: The file.
        data: Its bytes.
        root: As on the command line, like everything that follows.
        evidence: Sealed evidence of the session.
        receipt: Receipt of the answer.
        context: The trace's context.
        facts: What is expected of the facts.
        values: Where to write what was proven.
        as_json: Whether to print JSON.
        words: What is expected of the opening, and what evidence is appraised with.
    """
    from palm_torch.commit import trace, trace_opening

    names = ("site", "call", "batch", "tokens", "channels")
    expected = Expected(**{name: words.pop(name) for name in names}, facts=trace_expected.facts(facts))
    believed = evidence is not None or receipt is not None
    if (root is None) is not believed:
        raise click.UsageError(
            "check needs either --root ROOT, or --evidence EVIDENCE, --receipt RECEIPT or both"
        )
    if context is None:
        raise click.UsageError("an opening of a trace goes with --context CONTEXT, which `proof.save` wrote")
    appraising.check_usage("--evidence EVIDENCE or --receipt RECEIPT", words, appraises=believed)
    arguments.apart(values, opening, context, evidence, receipt, *appraising.paths(words))
    named, trusted = None, None if root is None else weights.root(root)
    try:
        read = trace_opening.decode(data, what=str(opening))
        encoded = read_bounded(
            context, what="the context", max_bytes=trace.MAX_CONTEXT_BYTES, error=EvidenceError
        )
        if trusted is None:
            named = _named(encoded, str(context), evidence, receipt, words)
            trusted = named.root
        shown = trace_opening.verify(trusted, encoded, read.question, read)
        decoded = trace.decode(encoded, what=str(context))
        expected.compare(str(opening), shown.question, decoded)
    except RejectedError as error:
        return printing.refused("REJECTED", error, REJECTED, as_json=as_json)
    except InputError as error:
        return printing.refused("MALFORMED", error, MALFORMED, as_json=as_json)
    if values is not None:
        _write(values, shown)
    if as_json:
        printing.print_json(_as_json(shown, decoded, named))
        return ACCEPTED
    _show(shown, decoded, named, expected, values)
    return ACCEPTED


def _named(
    context: bytes, what: str, evidence: Path | None, receipt: Path | None, words: dict[str, Any]
) -> Named:
    from palm_torch.commands import trace_evidence

    return trace_evidence.named(context, what, evidence=evidence, receipt=receipt, **words)


def _write(path: Path, shown: Shown) -> None:
    """Writes what was proven, and nothing else of the opening."""
    from palm_torch.commit import safetensors_writer

    site = shown.question.site
    name = f"{site.module}|{site.output}" if site.output else site.module or "model"
    metadata = {"question": str(shown.question), "root": str(shown.root), "site": site.tree_id}
    try:
        chunks = safetensors_writer.encode(name, shown.dtype, shown.shape, shown.values, metadata=metadata)
    except DataError as error:
        raise click.UsageError(f"--values: {error}: it is proven, check it without --values") from error
    write_atomically(path, chunks, error=SealError)


def _as_json(shown: Shown, context: Context, named: Named | None) -> dict[str, object]:
    from palm_torch.codec import to_json

    question = shown.question
    return {
        "module": question.site.module,
        "output": question.site.output,
        "call": question.call,
        "batch": list(question.batch),
        "tokens": list(question.tokens),
        "channels": list(question.channels),
        "dtype": shown.dtype,
        "shape": list(shown.shape),
        "bytes": len(shown.values),
        "scheme": context.scheme,
        "root": str(shown.root),
        "model": None if context.model is None else str(context.model),
        "facts": to_json(context.facts),
        "environment": to_json(context.environment),
        "coverage": to_json(context.coverage),
        "not_captured": to_json(context.not_captured),
        "answers": None if named is None else list(named.answers),
        "strength": None if named is None else named.strength,
        "evidence": None if named is None else named.result.to_json(),
    }


def _show(
    shown: Shown, context: Context, named: Named | None, expected: Expected, values: Path | None
) -> None:
    question = shown.question
    if named is not None:
        click.echo(printable(f"evidence  {named.source}: {terminal.verdict(named.result)}"))
        click.echo(f"answer    {trace_words.numbers(named.answers)} of the session")
    click.echo(f"root      {shown.root}, scheme {context.scheme}")
    click.echo(printable(f"site      {question.site}, {shown.dtype}"))
    click.echo(f"opened    {trace_words.ranges(question)}: {len(shown.values)} bytes")
    for line in trace_words.of_context(context, known=expected.facts):
        click.echo(printable(line))
    instead = "--values FILE.safetensors writes what was proven"
    click.echo(printable(f"values    {weights.written(values, instead)}"))
    click.echo("\nSHOWN: under this root, exactly these bytes stand there as what the module returned.")
    click.echo(f"NOT SHOWN: anything it returned elsewhere, or others did; {_not_shown(named)}.")
    proven = f"PROVEN: these are {trace_words.ranges(question)} of {question.site} in {_whose(named)}"
    click.secho(printable(proven), fg="green" if named is None or not named.result.warnings else "yellow")


def _whose(named: Named | None) -> str:
    if named is None:
        return "the run with this root"
    said = f"{named.source} says ({named.result.tier.value}, strength {named.strength})"
    return f"answer {trace_words.numbers(named.answers)}, as {said}"


def _not_shown(named: Named | None) -> str:
    computed = "that it follows from weights and question, which computing it again would show"
    if named is not None:
        return computed
    return (
        "whose run it was, and that there was one, which rests on where you have the root from; " + computed
    )
