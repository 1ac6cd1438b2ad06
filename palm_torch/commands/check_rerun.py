"""`palm-torch check --fingerprint`: what a trace binds against a run of one's own, within a tolerance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import click

from palm_torch import extras, terminal
from palm_torch.commands import appraising, printing, weights
from palm_torch.commands.arguments import FILE
from palm_torch.errors import BindingError, EvidenceError, InputError, RejectedError
from palm_torch.escaping import printable
from palm_torch.exit_codes import ACCEPTED, MALFORMED, REJECTED
from palm_torch.files import read_bounded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from palm_torch.audit.calibration import Calibration, Comparison
    from palm_torch.audit.fingerprint_file import Fingerprint
    from palm_torch.commands.trace_evidence import Named
    from palm_torch.digest import Digest

NAMES: Final[tuple[str, ...]] = ("fingerprint", "rerun", "calibration", "shown")
"""Options that only a fingerprint takes."""

_OPTIONS: Final = (
    click.option("--fingerprint", type=FILE, help="Of a trace: the fingerprint that its context binds."),
    click.option(
        "--rerun", type=FILE, help="With --fingerprint: that of a run of yours over the same tokens."
    ),
    click.option(
        "--calibration",
        type=FILE,
        help="With --fingerprint: what honest re-runs differ by, from `palm-torch fingerprint calibrate`.",
    ),
    click.option(
        "--shown",
        type=FILE,
        multiple=True,
        help="With --fingerprint: an opening of rows of its sites, which it has to be made of; repeatable.",
    ),
)


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that only a fingerprint takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def run(  # noqa: PLR0913 (one for each option)
    *,
    context: Path | None,
    fingerprint: Path,
    rerun: Path | None,
    calibration: Path | None,
    shown: tuple[Path, ...],
    root: str | None,
    evidence: Path | None,
    receipt: Path | None,
    as_json: bool,
    **words: Any,  # noqa: ANN401 (checked by click)
) -> int:
    """Compares a fingerprint that a trace binds with that of another run, prints it, returns the exit code.

    1. The context has the root, or is that of an answer that evidence speaks of.
    2. The fingerprint is the one of the context's fact.
    3. Rows that were opened are those it was made of.
    4. It is as close to the other one as honest re-runs are.

    Args:
        context: The trace's context; as on the command line, like everything that follows.
        fingerprint: What it binds.
        rerun: That of the verifier's own run.
        calibration: What honest re-runs are like.
        shown: Openings.
        root: The root that is trusted.
        evidence: Sealed evidence of the session.
        receipt: Receipt of the answer.
        as_json: Whether to print JSON.
        words: What evidence is appraised with.
    """
    with extras.needed("audit", for_what="check --fingerprint"):
        from palm_torch.audit import calibration as calibrations
        from palm_torch.audit import fingerprint_file

    if context is None or rerun is None or calibration is None:
        raise click.UsageError(
            "--fingerprint F goes with --context CONTEXT, --rerun FINGERPRINT and --calibration CALIBRATION"
        )
    believed = evidence is not None or receipt is not None
    if (root is None) is not believed:
        raise click.UsageError(
            "check needs either --root ROOT, or --evidence EVIDENCE, --receipt RECEIPT or both"
        )
    appraising.check_usage("--evidence EVIDENCE or --receipt RECEIPT", words, appraises=believed)
    try:
        encoded, trusted, named = _believed(context, root, evidence, receipt, words)
        theirs = _bound(encoded, str(context), fingerprint)
        rows = sum(_made_of(theirs, trusted, encoded, path) for path in shown)
        honest = calibrations.read(calibration)
        found = calibrations.compare(fingerprint_file.read(rerun), theirs, honest)
    except RejectedError as error:
        return printing.refused("REJECTED", error, REJECTED, as_json=as_json)
    except InputError as error:
        return printing.refused("MALFORMED", error, MALFORMED, as_json=as_json)
    code = ACCEPTED if found.verdict == "alike" else REJECTED
    if as_json:
        printing.print_json(_as_json(found, honest, trusted, rows, named))
        return code
    _show(found, honest, trusted, rows, named)
    return code


def _believed(
    context: Path, root: str | None, evidence: Path | None, receipt: Path | None, words: dict[str, Any]
) -> tuple[bytes, Digest, Named | None]:
    from palm_torch.commands import trace_evidence
    from palm_torch.commit import trace

    encoded = read_bounded(
        context, what="the context", max_bytes=trace.MAX_CONTEXT_BYTES, error=EvidenceError
    )
    if root is None:
        named = trace_evidence.named(encoded, str(context), evidence=evidence, receipt=receipt, **words)
        return encoded, named.root, named
    trusted = weights.root(root)
    if (found := trace.root(encoded)) != trusted:
        raise BindingError(f"{context}: expected the root {trusted}, got {found}: it is of another trace")
    return encoded, trusted, None


def _bound(context: bytes, what: str, path: Path) -> Fingerprint:
    """Returns a fingerprint that is the one of the trace."""
    from palm_torch.audit import fingerprint_file
    from palm_torch.commit import trace

    expected = trace.decode(context, what=what).facts.get(fingerprint_file.FACT)
    data = read_bounded(
        path, what="the fingerprint", max_bytes=fingerprint_file.MAX_BYTES, error=EvidenceError
    )
    if (found := fingerprint_file.digest(data)) != expected:
        raise BindingError(
            f"{path}: expected the fingerprint that the trace binds, {expected or 'which is none'}, got "
            f"{found}"
        )
    return fingerprint_file.decode(data, what=str(path))


def _made_of(theirs: Fingerprint, root: Digest, context: bytes, path: Path) -> int:
    """Checks that a fingerprint was made of rows that an opening shows, and returns how many."""
    import numpy as np

    from palm_torch.audit import fingerprint, weights_file
    from palm_torch.commit import trace_opening
    from palm_torch.errors import DataError

    data = read_bounded(path, what="the opening", max_bytes=trace_opening.MAX_BYTES, error=EvidenceError)
    opening = trace_opening.decode(data, what=str(path))
    rows = trace_opening.verify(root, context, opening.question, opening)
    part = next((part for part in theirs.sites if part.site == rows.question.site), None)
    whole = part is not None and rows.question.channels == (0, part.channels) and rows.question.call is None
    if part is None or not whole or rows.dtype not in weights_file.DTYPES:
        raise DataError(
            f"{path}: expected whole rows of a site of the fingerprint, tokens counted through all calls, "
            f"got {rows.question}"
        )
    array = np.frombuffer(rows.values, weights_file.DTYPES[rows.dtype]).reshape(rows.shape)
    for number, sequence in enumerate(array):
        fingerprint.check_rows(
            part,
            sequence,
            sequence=rows.question.batch[0] + number,
            token=rows.question.tokens[0],
            seed=theirs.seed,
        )
    return rows.shape[0] * rows.shape[1]


def _as_json(
    found: Comparison, honest: Calibration, root: Digest, rows: int, named: Named | None
) -> dict[str, object]:
    from palm_torch.codec import to_json

    return {
        "verdict": found.verdict,
        "score": found.score if math.isfinite(found.score) else None,
        "threshold": found.threshold,
        "why": found.why,
        "distances": to_json(found.distances),
        "false_alarms": {
            "bound": honest.rate_bound,
            "confidence": honest.confidence,
            "expected": honest.expected_rate,
        },
        "root": str(root),
        "rows_shown": rows,
        "evidence": None if named is None else named.result.to_json(),
    }


def _show(found: Comparison, honest: Calibration, root: Digest, rows: int, named: Named | None) -> None:
    if named is not None:
        click.echo(printable(f"evidence  {named.source}: {terminal.verdict(named.result)}"))
    click.echo(f"root      {root}")
    for part in found.distances:
        measures = ", ".join(f"{name} {value:.2g}" for name, value in part.measures.items())
        click.echo(printable(f"site      {part.site}: {measures}"))
    click.echo(f"score     {found.score:.4g}, in honest re-runs up to {found.threshold:.4g}")
    click.echo(printable(f"decided   {found.why}"))
    click.echo(
        f"alarms    false ones in at most {honest.rate_bound:.2%} of runs like those of the calibration, "
        f"with confidence {honest.confidence:.0%}"
    )
    made = (
        f"{rows} rows of the trace are what it was made of"
        if rows
        else "NOT SHOWN, that it was made of what the trace binds: --shown OPENING checks rows"
    )
    click.echo(f"made of   {made}")
    alike = found.verdict == "alike"
    meaning = (
        "as close to your run as honest re-runs are; what is as close by design is not told apart"
        if alike
        else "further from your run than honest re-runs are"
    )
    click.secho(f"{found.verdict.upper()}: {meaning}", fg="green" if alike else "red", bold=not alike)
