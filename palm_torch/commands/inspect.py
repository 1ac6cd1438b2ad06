"""`palm-torch inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from palm_torch import terminal
from palm_torch.commands import printing
from palm_torch.commands.arguments import FILE

if TYPE_CHECKING:
    from pathlib import Path


@click.command(short_help="Show evidence without believing it.")
@click.argument("evidence", type=FILE)
@click.option("--json", "as_json", is_flag=True, help='Print JSON, with "verified": false.')
def inspect(evidence: Path, as_json: bool) -> None:
    """Show what evidence says, without believing it."""
    from palm_torch import evidence as bundles
    from palm_torch import inspection

    data = bundles.read(evidence)
    inspected = inspection.inspect(data, what=str(evidence))
    if as_json:
        printing.print_json(inspected.document)
    else:
        terminal.show_inspected(terminal.console(), inspected, evidence)
