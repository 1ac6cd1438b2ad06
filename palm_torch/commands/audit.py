"""`palm-torch audit`: `request` and `answer`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from palm_torch import terminal
from palm_torch.commands import (
    appraising,
    arguments,
    audit_check,
    audit_evidence,
    audit_replay,
    audit_select,
    weights,
)
from palm_torch.commands.arguments import FILE
from palm_torch.errors import DataError, RequestError
from palm_torch.escaping import printable
from palm_torch.files import read_bounded

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.challenge.geometry import Geometry
    from palm_torch.encoding import Json

MAX_CONFIG_BYTES = 4 << 20

_UNSEALED = (
    "NOT SEALED: neither --evidence nor --receipt was given. Whoever gave you the trace can have made it for "
    "this audit, by another program, after the answers were out: nothing ties it to an answer, a machine or "
    "a time. The audit will say whether the trace is consistent in itself, and nothing of what was served."
)


@click.group("audit", short_help="Look at places of a trace that the prover could not foresee.")
def audit() -> None:
    """Audit an inference: draw places of its trace, have them opened, compute them again.

    The verifier draws a request when it holds context and evidence, never before; the prover answers it from
    what it kept; the verifier checks the answer.
    """


@audit.command("request", short_help="Draw what a prover has to show of a trace.")
@click.option("--context", type=FILE, required=True, help="The trace's context, which `proof.save` wrote.")
@click.option("--evidence", type=FILE, help="Sealed evidence that names the trace.")
@click.option("--receipt", type=FILE, help="Receipt of the answer that the trace is of.")
@appraising.options(several=False, request="--challenge")
@click.option("--config", type=FILE, required=True, help="The model's config.json, your own copy.")
@click.option("--queries", type=click.IntRange(min=0), default=16, show_default=True, help="How many places.")
@click.option(
    "--whole", type=click.IntRange(min=0), default=0, show_default=True, help="Blocks to open with all rows."
)
@click.option(
    "--coordinates",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Outputs of each linear layer to check at each place with weights that the answer opens; 0 if you "
    "have the weights.",
)
@click.option("--scores", type=FILE, help="Scores of the parts, from `audit select`.")
@click.option("--verifier", type=click.IntRange(min=0), help="With --scores: which of its verifiers you are.")
@click.option(
    "--uniform",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.5,
    show_default=True,
    help="With --scores: share of the draw that is the same for all parts.",
)
@click.option("-o", "--output", type=FILE, required=True, help="Where to write the request.")
@click.option("--force", is_flag=True, help="Replace a request that is there already.")
def request(  # noqa: PLR0913 (one for each option)
    *,
    context: Path,
    evidence: Path | None,
    receipt: Path | None,
    config: Path,
    queries: int,
    whole: int,
    coordinates: int,
    scores: Path | None,
    verifier: int | None,
    uniform: float,
    output: Path,
    force: bool,
    **words: Any,  # noqa: ANN401 (checked by click)
) -> None:
    """Draw what a prover has to show of a trace, with a fresh nonce.

    Run it when you hold the evidence, and not before: whoever knows what will be looked at can compute that
    alone. The evidence is appraised here, with --policy, as `palm-torch check` does.
    """
    from palm_torch.challenge import challenge, used
    from palm_torch.challenge import request as requests
    from palm_torch.commit import trace

    believed = evidence is not None or receipt is not None
    appraising.check_usage("--evidence EVIDENCE or --receipt RECEIPT", words, appraises=believed)
    if scores is None and appraising.given(("verifier", "uniform")):
        raise click.UsageError("--verifier and --uniform go with --scores SCORES")
    arguments.apart(output, context, evidence, receipt, config, scores, *appraising.paths(words))
    if not force and output.exists():
        raise RequestError(f"{output}: there is a request already; --force replaces it and its nonce")
    data = audit_evidence.context(context)
    model = _geometry(config)
    named = audit_evidence.named(data, context, evidence=evidence, receipt=receipt, words=words)
    claims = None if named is None else named.claims
    if named is not None:
        click.echo(printable(f"evidence  {named.source}: {terminal.verdict(named.result)}"))
    asked = requests.draw(
        data,
        model,
        claims=claims,
        queries=queries,
        whole=whole,
        coordinates=coordinates,
        weights=None if scores is None else _weights(scores, model, uniform, verifier),
    )
    drawn = challenge.asked(asked, trace.decode(data, what=str(context)))
    asked.save(output)
    used.renew(output)
    parts = len({place.part for place in drawn.places})
    there = drawn.extents
    click.echo(f"trace     {asked.trace}: {there.batch} × {there.tokens} tokens, {len(drawn.parts)} parts")
    click.echo(f"claims    {claims or 'none'}")
    click.echo(
        f"asks      {queries} places in {parts} parts, {whole} whole blocks, {coordinates} coordinates"
    )
    click.echo(printable(f"request   {output}"))
    click.echo(f"digest    {asked.digest}")
    if claims is None:
        click.secho(_UNSEALED, fg="yellow", err=True)


@audit.command("answer", short_help="Open what a request asks for.")
@click.option("--request", "asked", type=FILE, required=True, help="The verifier's request.")
@click.option(
    "--trace", "folder", type=FILE, required=True, help="The trace, which `proof.save_trace` wrote: a folder."
)
@click.option("--weights", "path", type=FILE, help="The model's weights, for a request with coordinates.")
@click.option("-o", "--output", type=FILE, required=True, help="Where to write the answer.")
def answer(*, asked: Path, folder: Path, path: Path | None, output: Path) -> None:
    """Open what a request asks for, out of a trace that was saved.

    The answer discloses the rows that were drawn, rows that share a tile with them, keys and values of all
    tokens before, and the ids of all tokens if they were bound.
    """
    from palm_torch.challenge import request as requests
    from palm_torch.committing import answering, saved_trace

    arguments.apart(output, asked)
    if path is not None:
        weights.apart(output, path, None)
    wanted = requests.read(asked)
    with saved_trace.opened(folder) as kept:
        made = answering.answer(wanted, kept, weights=path)
    made.save(output)
    shown = sum(len(opening.tiles) for opening in made.openings)
    click.echo(f"request   {made.request}")
    click.echo(
        f"opened    {len(made.openings)} runs of rows, {shown} bytes; {len(made.weights)} blocks of weights"
    )
    click.echo(f"tokens    {'shown' if made.tokens is not None else 'not bound to the trace'}")
    click.echo(printable(f"answer    {output}"))


def _geometry(path: Path) -> Geometry:
    """Reads a config.json, which is somebody's JSON and not ours."""
    import json

    from palm_torch import nesting
    from palm_torch.challenge import geometry

    data = read_bounded(path, what="the model's config", max_bytes=MAX_CONFIG_BYTES, error=DataError)
    nesting.check(data, what=str(path), most=nesting.MAX_FOREIGN_DEPTH)
    try:
        config: Json = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: expected a model's config.json: {error}") from error
    if not isinstance(config, dict):
        raise DataError(f"{path}: expected a model's config.json, an object, got {type(config).__name__}")
    return geometry.from_config(config, what=str(path))


def _weights(path: Path, model: Geometry, uniform: float, verifier: int | None) -> tuple[int, ...]:
    from palm_torch.challenge import parts, scores_file

    scores = scores_file.read(path)
    found, expected = ([part.name for part in some] for some in (scores.parts, parts.parts(model)))
    if found != expected:
        raise DataError(
            f"{path}: expected scores of {len(expected)} parts, {expected[0]!r} to {expected[-1]!r} as the "
            f"model has them, got {len(found)}, {found[0]!r} to {found[-1]!r}"
        )
    return scores_file.weights_of(scores, uniform=uniform, verifier=verifier)


audit.add_command(audit_check.check)
audit.add_command(audit_replay.replay)
audit.add_command(audit_select.select)
