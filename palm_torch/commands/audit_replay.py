"""`palm-torch audit replay`: blocks of a model that no audit describes, computed again by one's own copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from palm_torch import extras, terminal
from palm_torch.commands import appraising, arguments, audit_evidence, printing
from palm_torch.commands.arguments import FILE
from palm_torch.errors import InputError, RejectedError, RequestError, SealError
from palm_torch.escaping import printable
from palm_torch.exit_codes import ACCEPTED, MALFORMED, REJECTED
from palm_torch.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from palm_torch.commands.trace_evidence import Named
    from palm_torch.replaying.result import Replayed, ReplayResult

_REPLAY: Final = "replaying blocks"


@click.group("replay", short_help="Blocks of any other model, computed again in torch.")
def replay() -> None:
    """Compute blocks again that `audit request` knows no bounds for, with your own copy of the model.

    Drawn, answered and checked as an audit is; the trace needs the blocks and the ids of the tokens. What
    comes out is how far a block's output is off, in units of the model's own rounding, and never consistent.
    """


@replay.command("request", short_help="Draw which rows a prover has to show.")
@click.option("--context", type=FILE, required=True, help="The trace's context, which `proof.save` wrote.")
@click.option("--evidence", type=FILE, help="Sealed evidence that names the trace.")
@click.option("--receipt", type=FILE, help="Receipt of the answer that the trace is of.")
@appraising.options(several=False, request="--challenge")
@click.option("--model", required=True, help="Your copy: a folder, or module:function, whose code is run.")
@click.option("--queries", type=click.IntRange(min=1), default=8, show_default=True, help="How many places.")
@click.option("-o", "--output", type=FILE, required=True, help="Where to write the request.")
@click.option("--force", is_flag=True, help="Replace a request that is there already.")
def request(
    *,
    context: Path,
    evidence: Path | None,
    receipt: Path | None,
    model: str,
    queries: int,
    output: Path,
    force: bool,
    **words: Any,  # noqa: ANN401 (checked by click)
) -> None:
    """Draw places in the blocks of a model. Run it when you hold the evidence, and not before."""
    believed = evidence is not None or receipt is not None
    appraising.check_usage("--evidence EVIDENCE or --receipt RECEIPT", words, appraises=believed)
    arguments.apart(output, context, evidence, receipt, *appraising.paths(words))
    if not force and output.exists():
        raise RequestError(f"{output}: there is a request already; --force replaces it and its nonce")
    with extras.needed("torch", for_what=_REPLAY):
        from palm_torch.committing import reruns
        from palm_torch.hooks import tap_targets
        from palm_torch.replaying import request as requests
    from palm_torch.challenge import used
    from palm_torch.commit import trace

    data = audit_evidence.context(context)
    named = _named(data, context, (evidence, receipt), words)
    own, _ = reruns.model_of(model)
    names = [target.place.path for target in tap_targets.survey(own, "blocks").targets]
    made = requests.draw(data, names, claims=None if named is None else named.claims, queries=queries)
    asked = requests.asked(made, trace.decode(data, what=str(context)))
    made.save(output)
    used.renew(output)
    click.echo(f"trace     {made.trace}: {asked.batch} × {asked.tokens} tokens, {len(names)} blocks")
    click.echo(f"claims    {made.claims or 'none'}")
    click.echo(f"asks      {queries} places, {len(asked.questions)} openings")
    click.echo(printable(f"request   {output}"))
    audit_evidence.warn(sealed=made.claims is not None, appraised=True)


@replay.command("answer", short_help="Open what a request asks for.")
@click.option("--request", "asked", type=FILE, required=True, help="The verifier's request.")
@click.option(
    "--trace", "folder", type=FILE, required=True, help="The trace, which `proof.save_trace` wrote: a folder."
)
@click.option("-o", "--output", type=FILE, required=True, help="Where to write the answer.")
def answer(*, asked: Path, folder: Path, output: Path) -> None:
    """Open what a request asks for. The answer discloses rows of all tokens before a place, and all ids."""
    from palm_torch.committing import saved_trace
    from palm_torch.replaying import answering
    from palm_torch.replaying import request as requests

    arguments.apart(output, asked)
    wanted = requests.read(asked)
    with saved_trace.opened(folder) as kept:
        made = answering.answer(wanted, kept)
    made.save(output)
    click.echo(f"opened    {len(made.openings)} runs of rows")
    click.echo(printable(f"answer    {output}"))


@replay.command("check", short_help="Compute again what an answer opens.")
@click.option("--request", "asked", type=FILE, required=True, help="Your request; its nonce is used up.")
@click.option("--answer", type=FILE, required=True, help="The prover's answer.")
@click.option("--context", type=FILE, required=True, help="The trace's context, which `proof.save` wrote.")
@click.option("--model", required=True, help="Your copy: a folder, or module:function, whose code is run.")
@click.option(
    "--within",
    type=click.FloatRange(min=1),
    default=8.0,
    show_default=True,
    help="How many times the model's own rounding a row may be off.",
)
@click.option("--evidence", type=FILE, help="Sealed evidence that names the trace.")
@click.option("--receipt", type=FILE, help="Receipt of the answer that the trace is of.")
@appraising.options(several=False, request="--challenge")
@click.option("-o", "--output", type=FILE, help="Where to write what was found, JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def check(  # noqa: PLR0913 (one for each option)
    *,
    asked: Path,
    answer: Path,
    context: Path,
    model: str,
    within: float,
    evidence: Path | None,
    receipt: Path | None,
    output: Path | None,
    as_json: bool,
    **words: Any,  # noqa: ANN401 (checked by click)
) -> int:
    """Compute the drawn blocks again from what an answer opens, in the model's own type and in float64.

    Exit code 0: nothing lies farther off than --within allows. 1: something does, or could not be looked at
    because of what was committed. A request is good for one answer.
    """
    believed = evidence is not None or receipt is not None
    appraising.check_usage("--evidence EVIDENCE or --receipt RECEIPT", words, appraises=believed)
    arguments.apart(output, asked, answer, context, evidence, receipt, *appraising.paths(words))
    with extras.needed("torch", for_what=_REPLAY):
        import torch

        del torch
    with extras.needed("audit", for_what=_REPLAY):
        from palm_torch.replaying import blocks
    try:
        named, found = _checked(blocks, asked, answer, context, model, within, (evidence, receipt), words)
    except RejectedError as error:
        return printing.refused("REJECTED", error, REJECTED, as_json=as_json)
    except InputError as error:
        return printing.refused("MALFORMED", error, MALFORMED, as_json=as_json)
    if output is not None:
        write_atomically(output, [found.encode()], error=SealError)
    if as_json:
        printing.print_json(_as_json(found, named))
    else:
        _show(found, named)
    return ACCEPTED if found.accepted else REJECTED


def _checked(
    blocks: Any,  # noqa: ANN401 (the module, which needs torch)
    asked: Path,
    answer: Path,
    context: Path,
    model: str,
    within: float,
    sealed: tuple[Path | None, Path | None],
    words: dict[str, Any],
) -> tuple[Named | None, ReplayResult]:
    from palm_torch.challenge import answer as answers
    from palm_torch.challenge import used
    from palm_torch.committing import reruns
    from palm_torch.replaying import request as requests

    wanted = requests.read(asked)
    data = audit_evidence.context(context)
    named = _named(data, context, sealed, words)
    audit_evidence.require_claims(asked, wanted.claims, named)
    shown, digest = answers.read_known(answer)
    own, _ = reruns.model_of(model)
    used.use(asked, digest)
    found: ReplayResult = blocks.check(wanted, data, shown, own, within=within)
    return named, found


def _named(
    data: bytes, context: Path, sealed: tuple[Path | None, Path | None], words: dict[str, Any]
) -> Named | None:
    named = audit_evidence.named(data, context, evidence=sealed[0], receipt=sealed[1], words=words)
    if named is not None:
        click.echo(printable(f"evidence  {named.source}: {terminal.verdict(named.result)}"), err=True)
    return named


def _as_json(found: ReplayResult, named: Named | None) -> dict[str, object]:
    from palm_torch.codec import to_json

    body = to_json(found)
    return {
        **(body if isinstance(body, dict) else {}),
        "accepted": found.accepted,
        "farthest": found.farthest,
        "evidence": None if named is None else named.result.to_json(),
    }


def _show(found: ReplayResult, named: Named | None) -> None:
    audit_evidence.warn(sealed=found.sealed, appraised=named is not None)
    for line in _lines(found):
        click.echo(printable(line))
    good = "yellow" if named is None or named.result.warnings else "green"
    click.secho(printable(_verdict(found)), fg=good if found.accepted else "red", bold=not found.accepted)


def _lines(found: ReplayResult) -> Iterator[str]:
    yield f"trace     {found.trace}"
    for one in found.findings:
        yield f"  {one.block}, sequence {one.sequence}, token {one.token}: {_finding(one)}"
    chances = (f"{one.fraction:.4g} of all places: {one.probability:.4g}" for one in found.detection)
    yield f"sees      with probability, if something is wrong at {'; '.join(chances)}"
    for words in found.not_checked:
        yield f"NOT CHECKED   {words}"


def _finding(one: Replayed) -> str:
    if one.verdict != "replayed":
        return f"{one.verdict.upper()}: {one.words}"
    return f"replayed, off by {one.difference:.3g}, {one.ratio:.2f} times the model's own rounding"


def _verdict(found: ReplayResult) -> str:
    looked = sum(one.verdict != "not checked" for one in found.findings)
    left = len(found.findings) - looked
    places = f"{looked} drawn places" + (f", {left} others not checked" if left else "")
    if found.differing:
        return (
            f"DIFFERS: {len(found.differing)} of {places} are off by more than {found.within:g} times the "
            "model's own rounding"
        )
    if not found.accepted:
        return f"INCONCLUSIVE: {left} of {len(found.findings)} drawn places could not be replayed"
    return (
        f"REPLAYED: {places}, the farthest off by {found.farthest:.2f} times the model's own rounding; no "
        "bound is derived for these blocks, and nothing is proved"
    )
