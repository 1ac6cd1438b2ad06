"""`palm-torch fingerprint`: `make` one of a run, `calibrate` what honest re-runs differ by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from palm_torch import extras
from palm_torch.commands import arguments, printing
from palm_torch.commands.arguments import FILE
from palm_torch.errors import DataError, EncodingError
from palm_torch.escaping import printable

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.audit.calibration import Calibration
    from palm_torch.audit.fingerprint_distance import Distances

_TOKENS: Final = 512
_SAID_EVERY: Final = 20
_WAYS: Final = ("batch", "threads", "cache", "attention", "compiled", "dtype")

_model = click.option(
    "--model",
    "named",
    metavar="FOLDER|MODULE:FUNCTION",
    required=True,
    help="The model: a folder of transformers', or a function that returns a module.",
)
_sites = click.option(
    "--site",
    "sites",
    multiple=True,
    metavar="MODULE",
    help="What to take; repeatable.  [default: two blocks]",
)


@click.group("fingerprint", short_help="Compare runs on different machines, within a tolerance.")
def fingerprint() -> None:
    """Compare what a model computed with a run of your own, on other hardware.

    A trace root is equal or not. A fingerprint is a few numbers of every token that stay close when the same
    is computed elsewhere. How close, `calibrate` finds out on your own model; `palm-torch check` compares.
    """


@fingerprint.command("make", short_help="Run a model over given tokens and write the fingerprint.")
@_model
@click.option("--tokens", type=FILE, required=True, help="The ids of one sequence, a JSON list.")
@_sites
@click.option("--seed", metavar="HEX", help="32 bytes that you drew after the seal, for other directions.")
@click.option("-o", "--output", type=FILE, required=True, help="Where to write the fingerprint.")
def make(*, named: str, tokens: Path, sites: tuple[str, ...], seed: str | None, output: Path) -> None:
    """Run a model over given tokens, prompt and answer together, and write the fingerprint of it."""
    from palm_torch.encoding import decode_hex
    from palm_torch.files import read_bounded

    _need_extras()
    from palm_torch.audit.fingerprint_file import SEED_BYTES
    from palm_torch.committing import reruns

    arguments.apart(output, tokens)
    try:
        drawn = b"" if seed is None else decode_hex(seed, what="seed", length_bytes=SEED_BYTES)
    except EncodingError as error:
        raise click.BadParameter(str(error), param_hint="--seed") from error
    data = read_bounded(tokens, what="the tokens", max_bytes=reruns.MAX_BYTES, error=DataError)
    ids = reruns.ids_of(data.strip(), what=str(tokens))
    if not ids:
        raise DataError(f"{tokens}: expected one token or more")
    model, _ = reruns.model_of(named)
    made = reruns.run(model, ids, sites=sites or None, seed=drawn)
    made.save(output)
    for part in made.sites:
        click.echo(printable(f"site         {part.site}: {part.tokens} tokens of {part.channels} channels"))
    click.echo(f"digest       {made.digest}")
    click.echo(printable(f"fingerprint  {output}"))


@fingerprint.command("calibrate", short_help="Find out what honest re-runs of a model differ by.")
@_model
@click.option(
    "--prompts", type=FILE, required=True, help="One prompt in each line: text, or a JSON list of ids."
)
@_sites
@click.option(
    "--vary",
    metavar="WAY,WAY,...",
    help=f"How re-runs differ: of {', '.join(_WAYS)}.  [default: what the model can without the last two]",
)
@click.option(
    "--runs", type=click.IntRange(min=1), help="Re-runs of each prompt.  [default: one for each way]"
)
@click.option(
    "--tokens", type=click.IntRange(min=1), default=_TOKENS, show_default=True, help="Most of one prompt."
)
@click.option(
    "--rate",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.05,
    show_default=True,
    help="What share of honest runs may be called different.",
)
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="How sure that has to be.",
)
@click.option("-o", "--output", type=FILE, required=True, help="Where to write the calibration.")
@click.option("--json", "as_json", is_flag=True, help="Print the calibration as JSON.")
def calibrate(  # noqa: PLR0913 (one for each option)
    *,
    named: str,
    prompts: Path,
    sites: tuple[str, ...],
    vary: str | None,
    runs: int | None,
    tokens: int,
    rate: float,
    confidence: float,
    output: Path,
    as_json: bool,
) -> None:
    """Run prompts again and again, each time another way, and write what distance that makes.

    A prompt counts once, with the worst of its re-runs. The rate of false alarms that is printed is a bound
    for prompts and runs like these; for others it says nothing.
    """
    _need_extras()
    import torch

    from palm_torch.audit import calibration
    from palm_torch.committing import reruns

    arguments.apart(output, prompts)
    model, tokenizer = reruns.model_of(named)
    lists = reruns.prompts_of(prompts, tokenizer, tokens=tokens)
    ways = reruns.ways_of(model) if vary is None else tuple(vary.split(","))
    if unknown := [way for way in ways if way not in _WAYS]:
        raise click.BadParameter(f"expected of {', '.join(_WAYS)}, got {unknown[0]!r}", param_hint="--vary")
    found = []
    for number, ids in enumerate(lists):
        if number % _SAID_EVERY == 0:
            click.echo(f"prompt {number} of {len(lists)}", err=True)
        chosen = [ways[(number + run) % len(ways)] for run in range(len(ways) if runs is None else runs)]
        found.append(_distances(model, ids, chosen, sites))
    made = calibration.calibrate(
        found,
        tokens=(min(map(len, lists), default=0), max(map(len, lists), default=0)),
        rate=rate,
        confidence=confidence,
        about={
            "dtype": str(next(model.parameters()).dtype).removeprefix("torch."),
            "model": named,
            "torch": torch.__version__,
            "vary": ",".join(ways),
        },
    )
    made.save(output)
    if as_json:
        from palm_torch.codec import to_json

        printing.print_json(to_json(made))
        return
    _show(made, rate, output)


def _distances(
    model: object, ids: list[int], ways: list[str], sites: tuple[str, ...]
) -> list[tuple[Distances, ...]]:
    from palm_torch.audit import fingerprint_distance
    from palm_torch.committing import reruns

    first = reruns.run(model, ids, sites=sites or None)
    again = (reruns.run(model, ids, way=way, sites=sites or None) for way in ways)
    return [fingerprint_distance.distances(first, other) for other in again]


def _show(made: Calibration, rate: float, output: Path) -> None:
    from palm_torch.audit import false_alarms

    for unit in made.sites:
        measures = ", ".join(f"{name} {value:.2g}" for name, value in unit.measures.items())
        click.echo(printable(f"honest       {unit.site}: {measures}"))
    count = len(made.scores)
    above = sum(score > made.threshold for score in made.scores)
    click.echo(f"threshold    {made.threshold:.4g}: {above} of {count} prompts were above it")
    click.echo(
        f"false alarms {made.expected_rate:.2%} expected; at most {made.rate_bound:.2%} with confidence "
        f"{made.confidence:.0%}, for prompts and runs like these"
    )
    if made.rate_bound > rate:
        needed = false_alarms.runs_for(rate, made.confidence)
        click.secho(
            f"NOT REACHED: a bound of {rate:.2%} needs {needed} prompts beside every third, which gives the "
            f"units, got {count}",
            fg="yellow",
        )
    click.echo(printable(f"calibration  {output}"))


def _need_extras() -> None:
    with extras.needed("torch", for_what="running a model"):
        from palm_torch.committing import reruns  # noqa: F401 (whether it can be imported)
    with extras.needed("audit", for_what="a fingerprint"):
        from palm_torch.audit import fingerprint  # noqa: F401 (whether it can be imported)
