"""`palm-torch measure`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from palm_torch import extras, terminal
from palm_torch.commands.arguments import FILE
from palm_torch.errors import DataError
from palm_torch.escaping import printable
from palm_torch.files import read_bounded

if TYPE_CHECKING:
    from pathlib import Path

MAX_SALT_BYTES: Final = 4096


@click.command(short_help="Write the manifest of a dataset.")
@click.argument("path", type=FILE)
@click.option("--record-length", type=click.IntRange(min=1), help="Elements per record; .npy rows tell it.")
@click.option(
    "--token-dtype", help="Stored element type of .bin files, by its numpy name.  [default: uint16]"
)
@click.option("--salt-file", type=FILE, help="File with the secret that keys the digests of private data.")
def measure(path: Path, record_length: int | None, token_dtype: str | None, salt_file: Path | None) -> None:
    """Read a dataset once and write the manifest that authenticates every record."""
    with extras.needed("torch", for_what="palm-torch measure"):
        from palm_torch.commit import manifest as manifests
        from palm_torch.data import measure as measuring

    salt = None if salt_file is None else _read_salt(salt_file)
    with terminal.progress_bytes(f"measuring {path}") as progress:
        manifest = measuring.measure(
            path, record_length=record_length, token_dtype=token_dtype, salt=salt, progress=progress
        )
    click.echo(f"manifest  {printable(str(manifests.path_beside(path)))}")
    click.echo(f"digest    {manifest.digest}")
    click.echo(
        f"records   {manifest.records} of {manifest.record_bytes} bytes in {len(manifest.shards)} files"
    )


def _read_salt(path: Path) -> bytes:
    salt = read_bounded(path, what="the salt", max_bytes=MAX_SALT_BYTES, error=DataError)
    if not salt:
        raise DataError(f"{path}: the salt: expected 1 to {MAX_SALT_BYTES} bytes, got an empty file")
    return salt
