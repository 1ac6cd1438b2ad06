"""`palm-torch open`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from palm_torch import terminal
from palm_torch.commands import weights
from palm_torch.commands.arguments import FILE
from palm_torch.errors import SealError
from palm_torch.escaping import printable
from palm_torch.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.commit.weights_block import Span


@click.command("open", short_help="Show some rows of a model's weights, with proof.")
@click.argument("path", type=FILE)
@click.option("--tensor", required=True, help="Name of the tensor, or one of its aliases.")
@weights.block_options(default="all")
@click.option(
    "--scheme",
    type=weights.SCHEME,
    default="hash",
    show_default=True,
    help="hash: under the root that evidence of training names. kzg: under a root of its own, with a short "
    "proof; needs palm-torch[kzg].",
)
@click.option(
    "--like",
    type=FILE,
    help="Evidence that lists these weights, or what `commit -o` wrote: the opening is under the root named "
    "there, and only the tensor that is opened is read.",
)
@click.option("--role", help="With --like EVIDENCE: which weights, such as model or initial.")
@click.option("--evm", is_flag=True, help="With kzg, one tile: print the inputs of Ethereum's precompile.")
@click.option("-o", "--output", "--out", "output", type=FILE, help="Where to write the opening.")
def open_(  # noqa: PLR0913 (one for each option)
    path: Path,
    *,
    tensor: str,
    rows: Span | None,
    columns: Span | None,
    scheme: Literal["hash", "kzg"],
    like: Path | None,
    role: str | None,
    evm: bool,
    output: Path | None,
) -> None:
    """Open rows and columns of one tensor: whoever holds the root can check them without the weights.

    PATH is a safetensors file, the index of a sharded model, or a folder with either. A tensor is seen as a
    matrix: the first dimension makes the rows, all others together the columns; a vector is one row. Weights
    are hashed in tiles, and tiles are opened whole: the opening discloses rows beside the ones asked for.
    Check it with `palm-torch check`.
    """
    from palm_torch.commit import opening_file, weights_opening

    if role is not None and like is None:
        raise click.UsageError("--role goes with --like EVIDENCE")
    if evm and scheme != "kzg":
        raise click.UsageError("--evm goes with --scheme kzg")
    weights.apart(output, path, like)
    lists = None if like is None else weights.lists(like, scheme, role=role)
    with terminal.progress_bytes(f"reading {path}") as progress:
        read = weights_opening.read_block(
            path,
            tensor,
            rows=rows,
            columns=columns,
            scheme=scheme,
            like=lists,
            progress=progress,
        )
    opening = read.opening()
    inputs = read.point_inputs() if evm else []
    data = opening.encode()
    if output is not None:
        write_atomically(output, [data], error=SealError)
    spec, cover = opening.spec, opening.block.cover(opening.spec)
    click.echo(printable(f"tensor    {weights.tensor_in_words(spec)}"))
    click.echo(f"opened    {opening.block}: {opening.block.nbytes(spec)} bytes")
    click.echo(f"discloses {cover}: {cover.nbytes(spec)} bytes, since tiles are opened whole")
    click.echo(f"root      {opening.root}, scheme {scheme}")
    if lists is not None:
        said = f"it is {read.what}" if read.what in lists else f"only names and aliases are of {like}"
        click.echo(printable(f"listed    {said}; whether that is to be believed was NOT verified"))
    for line in inputs:
        click.echo(f"evm       {line.hex()}")
    proof = len(opening.proof) + len(opening.entry_proof)
    click.echo(f"proof     {proof} bytes beside the tiles")
    click.echo(printable(f"opening   {weights.written(output, f'-o NAME{opening_file.SUFFIX} writes it')}"))
