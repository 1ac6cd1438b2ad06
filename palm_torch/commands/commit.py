"""`palm-torch commit`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from palm_torch import terminal
from palm_torch.commands import printing, weights
from palm_torch.commands.arguments import FILE
from palm_torch.errors import SealError
from palm_torch.escaping import printable
from palm_torch.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from palm_torch.commit.weights_commitment import WeightsCommitment


@click.command(short_help="Compute the root of a model's weights.")
@click.argument("path", type=FILE)
@click.option(
    "--scheme",
    type=weights.SCHEME,
    default="hash",
    show_default=True,
    help="hash: the root that evidence of training names. kzg: a root of its own, with short proofs; needs "
    "palm-torch[kzg].",
)
@click.option(
    "--like",
    type=FILE,
    help="Evidence that lists these tensors, or a commitment: tied weights are one tensor, as listed there.",
)
@click.option("-o", "--output", "--out", "output", type=FILE, help="Where to write the list of roots.")
@click.option("--json", "as_json", is_flag=True, help="Print the root as JSON.")
def commit(
    path: Path, *, scheme: Literal["hash", "kzg"], like: Path | None, output: Path | None, as_json: bool
) -> None:
    """Read weights once and print their root, which stands for every byte, name, shape and element type.

    PATH is a safetensors file, the index of a sharded model, or a folder with either.
    """
    from palm_torch.commit import weights_commitment

    weights.apart(output, path, like)
    lists = {} if like is None else weights.lists(like, scheme)
    names = next((listed.tensors for listed in lists.values()), None)
    with terminal.progress_bytes(f"reading {path}") as progress:
        made = weights_commitment.commit(
            path, scheme=scheme, like=names, to_file=output is not None, progress=progress
        )
    if output is not None:
        write_atomically(output, [made.encode()], error=SealError)
    size = sum(weights_commitment.spec_of(tensor).nbytes for tensor in made.tensors)
    same = [what for what, listed in lists.items() if (listed.scheme, listed.root) == (scheme, made.root)]
    if as_json:
        printing.print_json(
            {
                "root": str(made.root),
                "scheme": scheme,
                "tensors": len(made.tensors),
                "bytes": size,
                "equal": same,
            }
        )
        return
    click.echo(printable(f"weights   {len(made.tensors)} tensors of {size} bytes in {path}"))
    click.echo(f"root      {made.root}, scheme {scheme}")
    if like is not None:
        click.echo(printable(f"listed    {_compared(made, lists, same)}"))
    click.echo(
        printable(f"list      {weights.written(output, '-o FILE writes it, for `palm-torch open --like`')}")
    )


def _compared(made: WeightsCommitment, lists: Mapping[str, WeightsCommitment], same: list[str]) -> str:
    if same:
        return f"it is {' and '.join(same)}; whether that is to be believed was NOT verified"
    if any(listed.scheme == made.scheme for listed in lists.values()):
        return f"it is NOT {' nor '.join(lists)}: names and shapes are the same, bytes are not"
    return f"names and aliases are as in {next(iter(lists))}; a {made.scheme} root cannot be compared with it"
