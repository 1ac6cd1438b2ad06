"""`palm-torch audit select`: which parts of a model are worth looking at, and who looks at which."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import click

from palm_torch import extras, terminal
from palm_torch.commands import printing, weights
from palm_torch.commands.arguments import FILE
from palm_torch.escaping import printable

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.challenge.scores_file import Measure, Scores

_MEASURES: Final = ("alpha", "l1", "l2", "linf", "uniform")
_MILLION: Final = 1e6


class BudgetsType(click.ParamType["tuple[float, ...]"]):
    """Numbers of parameters: ``10e6,20e6``."""

    name = "B,B,..."

    def convert(
        self,
        value: Any,  # noqa: ANN401 (click's)
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[float, ...]:
        """Returns the budgets."""
        if isinstance(value, tuple):
            return value
        try:
            found = tuple(float(word) for word in value.split(","))
        except ValueError:
            found = (math.nan,)
        if not all(math.isfinite(budget) and budget >= 0 for budget in found):
            self.fail(f"expected numbers of parameters such as 10e6,20e6, got {value!r}", param, ctx)
        return found


@click.command("select", short_help="Score a model's parts, and share them out to verifiers.")
@click.option("--weights", "path", type=FILE, required=True, help="The model: a safetensors file or folder.")
@click.option(
    "--score",
    "measure",
    type=click.Choice(_MEASURES),
    default="alpha",
    show_default=True,
    help="alpha: how heavy the tail of the spectrum is; l1, l2, linf: how large the weights are; uniform: "
    "all alike.",
)
@click.option(
    "--budgets",
    type=BudgetsType(),
    metavar="B,B,...",
    default=(),
    help="How many parameters each verifier can look at, such as 10e6,20e6; none: one looks at all.",
)
@click.option("-o", "--output", type=FILE, help="Where to write the scores, for `audit request --scores`.")
@click.option("--json", "as_json", is_flag=True, help="Print the scores as JSON.")
def select(
    *, path: Path, measure: Measure, budgets: tuple[float, ...], output: Path | None, as_json: bool
) -> None:
    """Score the parts of a model from its weights, and give each verifier an interval of them.

    The intervals are those with the largest sum of scores that the budgets allow. A score is a guess where an
    edit would matter; everybody can compute it. So `audit request` mixes it with a draw that is the same for
    all parts (--uniform), and no part is never looked at.
    """
    with extras.needed("audit", for_what="audit select"):
        from palm_torch.audit import scores
    weights.apart(output, path, None)
    with terminal.progress_bytes(f"scoring {path}") as progress:
        found = scores.score(path, measure, progress=progress)
    if budgets:
        found = scores.share_out(found, budgets)
    if output is not None:
        found.save(output)
    if as_json:
        from palm_torch.codec import to_json

        printing.print_json(to_json(found))
        return
    _show(found, output)


def _show(found: Scores, output: Path | None) -> None:
    whose = {
        part: number
        for number, verifier in enumerate(found.verifiers)
        for part in range(verifier.first, verifier.end)
    }
    width = max(len(part.name) for part in found.parts)
    for number, part in enumerate(found.parts):
        by = f"  verifier {whose[number]}" if number in whose else ""
        click.echo(
            printable(f"{part.name:<{width}}  score {part.score:.4f}  {part.cost / _MILLION:10.3f} M{by}")
        )
    whole = math.fsum(part.score for part in found.parts)
    for number, verifier in enumerate(found.verifiers):
        parts = found.parts[verifier.first : verifier.end]
        cost, worth = sum(part.cost for part in parts), math.fsum(part.score for part in parts)
        what = f"{parts[0].name} to {parts[-1].name}" if parts else "nothing that its budget would do for"
        click.echo(
            printable(
                f"verifier {number}  {what}: {cost / _MILLION:.3f} M of {verifier.budget / _MILLION:.3f} M "
                f"parameters, {_share(worth, whole)} of the scores"
            )
        )
    if found.verifiers:
        covered = math.fsum(found.parts[number].score for number in whose)
        click.echo(
            f"covered    {len(whose)} of {len(found.parts)} parts, {_share(covered, whole)} of the scores"
        )
    click.echo(printable(f"scores     {weights.written(output, '-o FILE writes them, for `audit request`')}"))


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "none"
