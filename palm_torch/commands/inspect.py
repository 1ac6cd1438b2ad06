"""`palm-torch inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from palm_torch import terminal
from palm_torch.commands import inspect_trace, printing
from palm_torch.commands.arguments import FILE
from palm_torch.errors import EvidenceError
from palm_torch.files import read_bounded

if TYPE_CHECKING:
    from pathlib import Path


@click.command(short_help="Show evidence without believing it.")
@click.argument("evidence", type=FILE)
@click.option("--json", "as_json", is_flag=True, help='Print JSON, with "verified": false.')
def inspect(evidence: Path, as_json: bool) -> None:
    """Show what evidence says, without believing it.

    So it does for a trace's context, and for an opening of a trace.
    """
    from palm_torch import evidence as bundles
    from palm_torch import inspection

    most = max(bundles.MAX_BUNDLE_BYTES, inspect_trace.max_bytes())
    data = read_bounded(evidence, what="the evidence", max_bytes=most, error=EvidenceError)
    document = inspect_trace.document(data, what=str(evidence))
    if document is not None:
        inspect_trace.show(document, evidence, as_json=as_json)
        return
    inspected = inspection.inspect(data, what=str(evidence))
    if as_json:
        printing.print_json(inspected.document)
    else:
        terminal.show_inspected(terminal.console(), inspected, evidence)
