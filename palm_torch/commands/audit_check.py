"""`palm-torch audit check`: whether what an answer opens is what the model computes, and what nobody saw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from palm_torch import extras, terminal
from palm_torch.commands import appraising, arguments, audit_evidence, audit_words, printing
from palm_torch.commands.arguments import FILE
from palm_torch.errors import EvidenceError, InputError, RejectedError, SealError
from palm_torch.escaping import printable
from palm_torch.exit_codes import ACCEPTED, MALFORMED, REJECTED
from palm_torch.files import read_bounded, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.audit.findings import AuditResult
    from palm_torch.commands.trace_evidence import Named
    from palm_torch.commit.salted import SaltedOpening
    from palm_torch.commit.weights_commitment import WeightsCommitment


@click.command("check", short_help="Compute again what an answer opens.")
@click.option("--request", "asked", type=FILE, required=True, help="Your request; its nonce is used up.")
@click.option("--answer", type=FILE, required=True, help="The prover's answer.")
@click.option("--context", type=FILE, required=True, help="The trace's context, which `proof.save` wrote.")
@click.option(
    "--weights",
    "paths",
    type=FILE,
    multiple=True,
    help="The model's weights: a safetensors file, an index or a folder; repeatable. Not needed for a "
    "request with coordinates.",
)
@click.option(
    "--like",
    type=FILE,
    help="With --weights: the list that `commit -o` wrote, which spares hashing the rest.",
)
@click.option(
    "--opening",
    "openings",
    type=FILE,
    multiple=True,
    help="Opening of the question, or of the answer, given as ids; repeatable. The trace has to bind them.",
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
    paths: tuple[Path, ...],
    like: Path | None,
    openings: tuple[Path, ...],
    evidence: Path | None,
    receipt: Path | None,
    output: Path | None,
    as_json: bool,
    **words: Any,  # noqa: ANN401 (checked by click)
) -> int:
    """Compute again, at the places that a request drew, what an answer opens.

    Exit code 0: everything that was looked at is consistent. 1: something is not, or what was committed keeps
    it from being looked at. A request is good for one answer: the first that is checked is noted beside it.
    """
    believed = evidence is not None or receipt is not None
    appraising.check_usage("--evidence EVIDENCE or --receipt RECEIPT", words, appraises=believed)
    if like is not None and not paths:
        raise click.UsageError("--like goes with --weights WEIGHTS")
    others = (*paths, *openings, *appraising.paths(words))
    arguments.apart(output, asked, answer, context, like, evidence, receipt, *others)
    with extras.needed("audit", for_what="checking an audit"):
        import ml_dtypes
        import numpy as np

        del ml_dtypes, np
    try:
        named, found = _checked(asked, answer, context, paths, like, openings, (evidence, receipt), words)
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
    return ACCEPTED if found.consistent else REJECTED


def _checked(
    asked: Path,
    answer: Path,
    context: Path,
    paths: tuple[Path, ...],
    like: Path | None,
    openings: tuple[Path, ...],
    sealed: tuple[Path | None, Path | None],
    words: dict[str, Any],
) -> tuple[Named | None, AuditResult]:
    """Appraises the evidence, notes that the request is used, and checks the answer."""
    from palm_torch.audit import checking
    from palm_torch.challenge import answer as answers
    from palm_torch.challenge import request as requests
    from palm_torch.challenge import used

    request = requests.read(asked)
    data = audit_evidence.context(context)
    named = audit_evidence.named(data, context, evidence=sealed[0], receipt=sealed[1], words=words)
    audit_evidence.require_claims(asked, request.claims, named)
    shown, digest = answers.read_known(answer)
    used.use(asked, digest)
    listed = _list(like)
    weights = checking.weights_at_hand(request, data, paths, like=listed) if paths else None
    said = [_opening(path) for path in openings]
    decoding = None if named is None else named.decoding
    return named, checking.check(
        request, data, shown, weights=weights, spoken_openings=said, decoding=decoding
    )


def _opening(path: Path) -> SaltedOpening:
    from palm_torch.commit import salted

    data = read_bounded(path, what="the opening", max_bytes=salted.MAX_FILE_BYTES, error=EvidenceError)
    return salted.decode(data, what=str(path))


def _list(path: Path | None) -> WeightsCommitment | None:
    if path is None:
        return None
    from palm_torch.commit import weights_commitment

    return weights_commitment.read(path)


def _as_json(found: AuditResult, named: Named | None) -> dict[str, object]:
    from palm_torch.codec import to_json

    body = to_json(found)
    return {
        **(body if isinstance(body, dict) else {}),
        "consistent": found.consistent,
        "margin": found.margin,
        "answers": None if named is None else list(named.answers),
        "strength": None if named is None else named.strength,
        "evidence": None if named is None else named.result.to_json(),
    }


def _show(found: AuditResult, named: Named | None) -> None:
    if named is not None:
        click.echo(printable(f"evidence  {named.source}: {terminal.verdict(named.result)}"))
    audit_evidence.warn(sealed=found.sealed, appraised=named is not None)
    for line in audit_words.of_result(found):
        click.echo(printable(line))
    verdict = audit_words.verdict(found)
    warned = named is None or named.result.warnings
    colour = ("yellow" if warned else "green") if found.consistent else "red"
    click.secho(printable(verdict), fg=colour, bold=not found.consistent)
