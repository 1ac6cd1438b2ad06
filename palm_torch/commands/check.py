"""`palm-torch check`: openings and fingerprints, each with what it can be checked against."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from palm_torch.commands import appraising, check_rerun, check_trace, check_weights, printing
from palm_torch.commands.arguments import FILE
from palm_torch.errors import EvidenceError, InputError
from palm_torch.exit_codes import MALFORMED
from palm_torch.files import read_bounded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@click.command(short_help="Check an opening of weights or of a trace against a root, or against evidence.")
@click.argument("opening", type=FILE, required=False)
@click.option("--root", help="The root that you trust: palm-sha256:..., or its 64 hexadecimal digits.")
@click.option(
    "--evidence",
    type=FILE,
    help="Evidence that names the model, or the answer that the trace is of, instead of a root.",
)
@check_weights.options
@check_trace.options
@check_rerun.options
@appraising.options(several=False)
@click.option("--values", type=FILE, help="Write what was proven as a .safetensors file.")
@click.option("--json", "as_json", is_flag=True, help="Print what was proven, or why not, as JSON.")
def check(opening: Path | None, **options: Any) -> int:  # noqa: ANN401 (checked by click)
    """Check offline that an opening shows what it says, without the model.

    The file itself says what it is an opening of. Rows of weights: with --evidence and --policy the evidence
    is appraised first, as `palm-torch verify` does, and the rows are proven to be of the model that came out
    of it, or of the --role given; with --root, of weights with that root, whosesoever they are. A root may be
    of a list in which two tensors have one name: --like LIST rules that out.

    What a module computed, from `proof.open`: --context is the trace's context, from `proof.save`. With
    --evidence or --receipt and --policy it is proven to be of an answer of that session; with --root, of the
    run with that root, whosesoever it is.

    With --fingerprint in place of an OPENING: what a trace binds is compared with a run of your own, within
    the tolerance that --calibration measured.

    Where --tensor, --rows or --cols, or --site, --call, --batch, --tokens, --channels or --fact are given,
    anything else is rejected.
    """
    if opening is None:
        return _without_opening(options)
    if given := appraising.given(check_rerun.NAMES):
        raise click.UsageError(f"{given[0]} goes with --fingerprint and without an OPENING")
    options = {name: value for name, value in options.items() if name not in check_rerun.NAMES}
    try:
        data = _read(opening)
    except InputError as error:
        return printing.refused("MALFORMED", error, MALFORMED, as_json=options["as_json"])
    run: Callable[..., int] = check_weights.run
    strangers, what = check_trace.NAMES, "a trace"
    if check_trace.is_trace(data):
        run, strangers, what = check_trace.run, check_weights.NAMES, "weights"
    if given := appraising.given(strangers):
        raise click.UsageError(
            f"{given[0]} goes with an opening of {what}: {opening} does not say that it is one"
        )
    return run(opening, data, **{name: value for name, value in options.items() if name not in strangers})


def _without_opening(options: dict[str, Any]) -> int:
    if options["fingerprint"] is None:
        raise click.UsageError("check needs an OPENING, or --fingerprint FINGERPRINT")
    strangers = [
        name
        for name in (*check_weights.NAMES, *check_trace.NAMES, "values")
        if name not in {"context", "receipt"}
    ]
    if given := appraising.given(strangers):
        raise click.UsageError(f"{given[0]} goes with an OPENING, and not with --fingerprint")
    return check_rerun.run(**{name: value for name, value in options.items() if name not in strangers})


def _read(opening: Path) -> bytes:
    from palm_torch.commit import opening_file, trace_opening

    return read_bounded(
        opening,
        what="the opening",
        max_bytes=max(opening_file.MAX_BYTES, trace_opening.MAX_BYTES),
        error=EvidenceError,
    )
