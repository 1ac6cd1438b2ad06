"""`palm-torch doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from palm_torch.commands import printing
from palm_torch.escaping import printable
from palm_torch.exit_codes import ACCEPTED, REJECTED

if TYPE_CHECKING:
    from palm_torch.doctor import Need

_COLORS: Final = {"ok": "green", "missing": "yellow", "problem": "red"}
_STATE_WIDTH: Final = 9
_NAME_WIDTH: Final = 20


@click.command(short_help="Show what this machine offers, and why not.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option(
    "--require",
    "required",
    type=click.Choice(["tdx", "snp", "gpu"]),
    multiple=True,
    help="Exit with 1 unless evidence of it can be had now; repeatable.",
)
def doctor(as_json: bool, required: tuple[Need, ...]) -> int:
    """Show what this machine offers to a session: hardware, kernel, GPUs, extras; and what is in the way.

    It looks, asks the kernel for no report, and leaves nothing behind. The last lines say which attester a
    session would take now, and whether with evidence of GPUs.
    """
    from palm_torch import doctor as doctors

    diagnosis = doctors.examine()
    if as_json:
        printing.print_json(diagnosis.to_json())
    else:
        for found in diagnosis.findings:
            state = click.style(f"{found.state:<{_STATE_WIDTH}}", fg=_COLORS[found.state])
            advice = f"; what to do: {found.advice}" if found.advice else ""
            click.echo(f"{state}{found.name:<{_NAME_WIDTH}}{printable(found.detail + advice)}")
        click.echo(f"\nattested() would take: {diagnosis.attester} ({printable(diagnosis.why)})")
        click.echo(f"evidence of GPUs: {printable(diagnosis.gpus)}")
    absent = sorted(set(required) - diagnosis.usable)
    if absent:
        click.echo(f"required and not usable here: {', '.join(absent)}", err=True)
    return REJECTED if absent else ACCEPTED
