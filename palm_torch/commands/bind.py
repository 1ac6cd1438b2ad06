"""`palm-torch bind`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from palm_torch.commands import attesting_data
from palm_torch.commands.arguments import FILE

if TYPE_CHECKING:
    from pathlib import Path


@click.command(short_help="Measure a dataset and attest its manifest.")
@click.argument("path", type=FILE)
@click.option("-o", "--output", type=FILE, help="Where the evidence goes.  [default: NAME.bind.palm.json]")
@click.option("--format", "format_", help="Format of the files, where their names do not tell it.")
@click.option("--record-length", type=click.IntRange(min=1), help="Elements per record; .npy rows tell it.")
@click.option("--token-dtype", help="Stored element type of .bin files.  [default: uint16]")
@click.option("--salt-file", type=FILE, help="File with the secret that keys the digests of private data.")
@attesting_data.session_options
def bind(
    path: Path,
    output: Path | None,
    format_: str | None,
    record_length: int | None,
    token_dtype: str | None,
    salt_file: Path | None,
    **session: Any,  # noqa: ANN401 (the options of `session_options`)
) -> None:
    """Read a dataset once, write its manifest, and attest that these records are what it names.

    \b
      palm-torch bind data/train --record-length 512
      palm-torch verify train.bind.palm.json --policy policy.yaml \\
        --artifact manifest=data/train/manifest.palm-manifest

    Evidence of a training run that read with this manifest then forms a chain with this evidence.
    """  # noqa: D301 (\b is click's own mark)
    spec = {
        "path": attesting_data.require_data(path),
        "options": {"format": format_, "record_length": record_length, "token_dtype": token_dtype},
        "salt_file": attesting_data.read_salt(salt_file),
    }
    attesting_data.hand_over("bind", spec, evidence=output, name=path.resolve().stem, **session)
