"""`palm-torch distribute`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from palm_torch.commands import attesting_data
from palm_torch.commands.arguments import FILE

if TYPE_CHECKING:
    from pathlib import Path

STATISTICS = ("record-length", "token-frequency", "histogram")


@click.command(short_help="Compute a distribution over a dataset and attest it.")
@click.argument("data", type=FILE)
@click.option("--statistic", type=click.Choice(STATISTICS), help="One of palm-torch's own.")
@click.option("--field", help="Column of rows, or member of JSON lines, that the statistic is of.")
@click.option("--function", help="What to compute instead, as module:name: gets all records, returns a dict.")
@click.option("--arguments", help="Arguments of statistic or function, a JSON object.")
@click.option(
    "-o", "--output", type=FILE, help="Where the evidence goes.  [default: NAME.distribute.palm.json]"
)
@click.option("--format", "format_", help="Format of the files, where their names do not tell it.")
@click.option(
    "--record-length", type=click.IntRange(min=1), help="Elements per record, where no manifest tells."
)
@click.option("--token-dtype", help="Stored element type, where no manifest tells it.")
@click.option("--salt-file", type=FILE, help="The secret that the manifest was made with.")
@attesting_data.session_options
def distribute(  # noqa: PLR0913 (options)
    data: Path,
    *,
    statistic: str | None,
    field: str | None,
    function: str | None,
    arguments: str | None,
    output: Path | None,
    format_: str | None,
    record_length: int | None,
    token_dtype: str | None,
    salt_file: Path | None,
    **session: Any,  # noqa: ANN401 (the options of `session_options`)
) -> None:
    """Read every record of a dataset once, compute a distribution, and attest both.

    \b
      palm-torch distribute data/train --statistic token-frequency
      palm-torch distribute reviews.jsonl --statistic histogram --field language
      palm-torch distribute data/train --function mine:ages --arguments '{"step": 10}'

    The result is printed as JSON.
    """  # noqa: D301 (\b is click's own mark)
    if (statistic is None) == (function is None):
        raise click.UsageError("expected one of --statistic and --function")
    given = attesting_data.read_arguments(arguments)
    if field is not None:
        if "field" in given:
            raise click.UsageError("--field: given twice, in --arguments too")
        given["field"] = field
    spec = {
        "path": attesting_data.require_data(data),
        "statistic": statistic,
        "function": None if function is None else attesting_data.require_function(function),
        "arguments": given,
        "options": {"format": format_, "record_length": record_length, "token_dtype": token_dtype},
        "salt_file": attesting_data.read_salt(salt_file),
    }
    attesting_data.hand_over("distribute", spec, evidence=output, name=data.resolve().stem, **session)
