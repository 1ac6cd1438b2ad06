"""`palm-torch check`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from palm_torch import terminal
from palm_torch.commands import printing, weights
from palm_torch.commands.arguments import FILE
from palm_torch.errors import ArtifactError, InputError, RejectedError, SealError
from palm_torch.escaping import printable
from palm_torch.exit_codes import ACCEPTED, MALFORMED, REJECTED
from palm_torch.files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.commands.model_evidence import Named
    from palm_torch.commit.opening_file import WeightsOpening
    from palm_torch.commit.weights_block import Span
    from palm_torch.commit.weights_opening import Shown


@click.command(short_help="Check rows of weights against a root, or against evidence of the model.")
@click.argument("opening", type=FILE)
@click.option("--root", help="The weights root: palm-sha256:..., or its 64 hexadecimal digits.")
@click.option("--evidence", type=FILE, help="Evidence that names the model, instead of a root.")
@click.option("--policy", type=FILE, help="With --evidence: what is demanded of it, YAML.")
@click.option("--request", type=FILE, help="The request that the evidence should answer.")
@click.option("--at", help="Time of verification, ISO 8601 with time zone.  [default: this machine's clock]")
@click.option(
    "--freshness",
    type=click.Choice(["required", "not_checked"]),
    help="not_checked accepts an answer to a request that is not at hand.  [default: required]",
)
@click.option("--reference-values", type=FILE, help="Signed values, for a policy that says [authority].")
@click.option("--authority-key", type=FILE, help="Public key of who signed the reference values, PEM.")
@click.option("--timestamp-root", type=FILE, help="Root certificate of the time-stamping authority, PEM.")
@click.option("--collateral", type=FILE, help="What the vendor says of the platform.")
@click.option("--tensor", help="The tensor that you expect to see, by its name or an alias.")
@weights.block_options
@click.option("--values", type=FILE, help="Write what was proven as a .safetensors file.")
@click.option("--json", "as_json", is_flag=True, help="Print what was proven, or why not, as JSON.")
def check(
    opening: Path,
    *,
    root: str | None,
    evidence: Path | None,
    tensor: str | None,
    rows: Span | None,
    columns: Span | None,
    values: Path | None,
    as_json: bool,
    **appraisal: Any,  # noqa: ANN401 (checked by click)
) -> int:
    """Check that an opening shows rows of weights with a root, offline and without the weights.

    With --evidence and --policy the evidence is appraised first, as `palm-torch verify` does, and the rows
    are proven to be of the model that it names; with --root, of weights with that root, whosesoever they
    are. Where --tensor, --rows or --cols are given, anything else is rejected.
    """
    from palm_torch.commit import opening_file, weights_opening

    if (root is None) is (evidence is None):
        raise click.UsageError("check needs either --root ROOT or --evidence EVIDENCE")
    if evidence is None and (given := [name for name, value in appraisal.items() if value is not None]):
        raise click.UsageError(f"--{given[0].replace('_', '-')} goes with --evidence EVIDENCE")
    if evidence is not None and appraisal["policy"] is None:
        raise click.UsageError("--evidence goes with --policy POLICY: what you demand of it")
    try:
        read = opening_file.read(opening)
        named = None if evidence is None else _named(evidence, read, opening, appraisal)
        trusted = weights.root(root or "") if named is None else named.root
        _compare(opening, read, tensor, rows, columns)
        shown = weights_opening.verify(read, trusted)
        if values is not None:
            _write(values, shown)
    except RejectedError as error:
        return printing.refused("REJECTED", error, REJECTED, as_json=as_json)
    except InputError as error:
        return printing.refused("MALFORMED", error, MALFORMED, as_json=as_json)
    if as_json:
        printing.print_json(_as_json(read, shown, named))
        return ACCEPTED
    _show(read, shown, named, values)
    return ACCEPTED


def _named(evidence: Path, read: WeightsOpening, opening: Path, appraisal: dict[str, Any]) -> Named:
    from palm_torch.commands import model_evidence

    return model_evidence.named(evidence, read, opening, **appraisal)


def _compare(
    opening: Path, read: WeightsOpening, tensor: str | None, rows: Span | None, columns: Span | None
) -> None:
    """Compares what is opened with what the caller expects to see."""
    names = (read.tensor.name, *read.tensor.aliases)
    if tensor is not None and tensor not in names:
        raise ArtifactError(f"{opening}: expected the tensor {tensor!r}, it is of {read.tensor.name!r}")
    for what, expected, got in (("rows", rows, read.block.rows), ("columns", columns, read.block.columns)):
        if expected is not None and expected != got:
            raise ArtifactError(
                f"{opening}: expected {what} {expected[0]}:{expected[1]}, it has {got[0]}:{got[1]}"
            )


def _write(path: Path, shown: Shown) -> None:
    """Writes what was proven, and nothing else of the opening."""
    from palm_torch.commit import safetensors_writer

    block, spec = shown.block, shown.spec
    chunks = safetensors_writer.encode(
        spec.name,
        spec.dtype,
        block.shape(spec),
        shown.values,
        metadata={"block": str(block), "root": str(shown.root), "shape": str(list(spec.shape))},
    )
    write_atomically(path, chunks, error=SealError)


def _as_json(read: WeightsOpening, shown: Shown, named: Named | None) -> dict[str, object]:
    spec = shown.spec
    return {
        "tensor": spec.name,
        "aliases": list(spec.aliases),
        "dtype": spec.dtype,
        "shape": list(spec.shape),
        "rows": list(shown.block.rows),
        "columns": list(shown.block.columns),
        "bytes": len(shown.values),
        "scheme": read.scheme,
        "root": str(shown.root),
        "roles": None if named is None else list(named.roles),
        "strength": None if named is None else named.strength,
        "evidence": None if named is None else named.result.to_json(),
    }


def _show(read: WeightsOpening, shown: Shown, named: Named | None, values: Path | None) -> None:
    spec, block = shown.spec, shown.block
    if named is not None:
        click.echo(printable(f"evidence  {named.evidence}: {terminal.verdict(named.result)}"))
        roles = "; ".join(f"{role}, {meaning}" for role, meaning in named.roles.items())
        click.echo(printable(f"role      {roles}"))
    click.echo(f"root      {shown.root}, scheme {read.scheme}")
    click.echo(printable(f"tensor    {weights.tensor_in_words(spec)}, number {read.index} of {read.count}"))
    click.echo(f"opened    {block}: {len(shown.values)} bytes")
    click.echo(
        printable(f"values    {weights.written(values, '--values FILE.safetensors writes what was proven')}")
    )
    click.echo("\nSHOWN: at these rows and columns the tensor has exactly these bytes.")
    click.echo(f"NOT SHOWN: anything of it elsewhere, or of other tensors; {_not_shown(named)}.")
    proven = f"PROVEN: these are {block} of {spec.name!r} in {_whose(named)}"
    click.secho(printable(proven), fg="green" if named is None or not named.result.warnings else "yellow")


def _whose(named: Named | None) -> str:
    if named is None:
        return "weights with this root"
    tier, (meaning, *_) = named.result.tier.value, named.roles.values()
    return f"{meaning}, as {named.evidence} says ({tier}, strength {named.strength})"


def _not_shown(named: Named | None) -> str:
    ran = "that anybody ran a model with these weights"
    return (
        f"whose weights they are, which rests on where you have the root from; {ran}"
        if named is None
        else ran
    )
