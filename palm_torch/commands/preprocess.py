"""`palm-torch preprocess`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from palm_torch.commands import attesting_data
from palm_torch.commands.arguments import FILE

if TYPE_CHECKING:
    from pathlib import Path


@click.command(short_help="Apply a function to a dataset and attest what came of it.")
@click.argument("source", type=FILE)
@click.option("-o", "--output", type=FILE, required=True, help="Folder to make, with shards and manifest.")
@click.option("--function", required=True, help="What to apply, as module:name; modules of this folder too.")
@click.option("--arguments", help="Arguments of the function, a JSON object.")
@click.option("--evidence", type=FILE, help="Where the evidence goes.  [default: NAME.preprocess.palm.json]")
@click.option(
    "--format", "format_", default="bin", show_default=True, help="What to write: bin, npy or jsonl."
)
@click.option("--record-length", type=click.IntRange(min=1), help="Elements per record to write.")
@click.option("--dtype", help="Element type to write.  [default: uint16 for bin]")
@click.option("--source-format", help="Format of the source, where names of files do not tell it.")
@click.option("--source-record-length", type=click.IntRange(min=1), help="Where no manifest tells it.")
@click.option("--source-dtype", help="Stored element type, where no manifest tells it.")
@click.option("--salt-file", type=FILE, help="The secret that the source's manifest was made with.")
@attesting_data.session_options
def preprocess(  # noqa: PLR0913 (options)
    source: Path,
    *,
    output: Path,
    function: str,
    arguments: str | None,
    evidence: Path | None,
    format_: str,
    record_length: int | None,
    dtype: str | None,
    source_format: str | None,
    source_record_length: int | None,
    source_dtype: str | None,
    salt_file: Path | None,
    **session: Any,  # noqa: ANN401 (the options of `session_options`)
) -> None:
    """Apply a function to every record of a dataset, write what it returns, and attest it.

    \b
      palm-torch preprocess data/raw -o data/tokens --function tokens:encode --arguments '{"length": 512}' \\
        --record-length 512

    The function gets one record and returns one; None leaves it out, a generator yields several. Its file and
    all it imports are hashed before they run.
    """  # noqa: D301 (\b is click's own mark)
    spec = {
        "path": attesting_data.require_data(source),
        "function": attesting_data.require_function(function),
        "arguments": attesting_data.read_arguments(arguments),
        "output": str(output),
        "written": {"format": format_, "record_length": record_length, "dtype": dtype},
        "options": {
            "format": source_format,
            "record_length": source_record_length,
            "token_dtype": source_dtype,
        },
        "salt_file": attesting_data.read_salt(salt_file),
    }
    attesting_data.hand_over("preprocess", spec, evidence=evidence, name=output.resolve().name, **session)
