"""`palm-torch check` of an opening of weights: rows of a tensor, under a root or by evidence of the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from palm_torch import terminal
from palm_torch.commands import appraising, arguments, printing, weights
from palm_torch.commands.arguments import FILE
from palm_torch.errors import ArtifactError, DataError, InputError, RejectedError, SealError
from palm_torch.escaping import printable
from palm_torch.exit_codes import ACCEPTED, MALFORMED, REJECTED
from palm_torch.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from palm_torch.commands.model_evidence import Named
    from palm_torch.commit.opening_file import WeightsOpening
    from palm_torch.commit.weights_block import Span
    from palm_torch.commit.weights_commitment import WeightsCommitment
    from palm_torch.commit.weights_opening import Shown
    from palm_torch.digest import Digest

NAMES: Final[tuple[str, ...]] = ("like", "role", "tensor", "rows", "columns")
"""Options that only an opening of weights takes."""

_OPTIONS: Final = (
    click.option(
        "--like",
        type=FILE,
        help="Of weights, with a root or in its place: the list that `commit -o` wrote. It shows that no two "
        "tensors under the root have one name.",
    ),
    click.option(
        "--role",
        help="Of weights, with --evidence: which ones, such as initial or base.  [default: the model that "
        "came out]",
    ),
    click.option("--tensor", help="The tensor that you expect to see, by its name or an alias."),
    weights.block_options(default="whatever was opened"),
)


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options that only an opening of weights takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def run(  # noqa: PLR0913 (one for each option)
    opening: Path,
    data: bytes,
    *,
    root: str | None,
    like: Path | None,
    evidence: Path | None,
    tensor: str | None,
    rows: Span | None,
    columns: Span | None,
    values: Path | None,
    as_json: bool,
    **appraisal: Any,  # noqa: ANN401 (checked by click)
) -> int:
    """Checks rows of weights, prints what came out, and returns the exit code.

    Args:
        opening: The file.
        data: Its bytes.
        root: As on the command line, like everything that follows.
        like: List of the tensors.
        evidence: Evidence of the model.
        tensor: Expected tensor.
        rows: Expected rows.
        columns: Expected columns.
        values: Where to write what was proven.
        as_json: Whether to print JSON.
        appraisal: What the evidence is appraised with, and the role.
    """
    from palm_torch.commit import opening_file, weights_commitment, weights_opening

    if (root is None and like is None) is (evidence is None):
        raise click.UsageError(
            "check needs either --evidence EVIDENCE or --root ROOT (or --like LIST, or both of these)"
        )
    appraising.check_usage("--evidence EVIDENCE", appraisal, appraises=evidence is not None)
    arguments.apart(values, opening, like, evidence, *appraising.paths(appraisal))
    named = None
    try:
        read = opening_file.decode(data, what=str(opening))
        listed = None if like is None else weights_commitment.read(like)
        if evidence is not None:
            named = _named(evidence, read, opening, appraisal)
        _compare(opening, read, tensor, rows, columns)
        shown = weights_opening.verify(read, _trusted(root, listed, named), like=listed)
    except RejectedError as error:
        return printing.refused("REJECTED", error, REJECTED, as_json=as_json)
    except InputError as error:
        return printing.refused("MALFORMED", error, MALFORMED, as_json=as_json)
    if values is not None:
        _write(values, shown)
    unique = like is not None or named is not None
    if as_json:
        printing.print_json(_as_json(read, shown, named, unique=unique))
        return ACCEPTED
    _show(read, shown, named, values, unique=unique)
    return ACCEPTED


def _trusted(root: str | None, listed: WeightsCommitment | None, named: Named | None) -> Digest:
    if named is not None:
        return named.root
    return weights.root(root or "") if listed is None or root is not None else listed.root


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
    try:
        chunks = safetensors_writer.encode(
            spec.name,
            spec.dtype,
            block.shape(spec),
            shown.values,
            metadata={"block": str(block), "root": str(shown.root), "shape": str(list(spec.shape))},
        )
    except DataError as error:
        raise click.UsageError(f"--values: {error}: it is proven, check it without --values") from error
    write_atomically(path, chunks, error=SealError)


def _as_json(read: WeightsOpening, shown: Shown, named: Named | None, *, unique: bool) -> dict[str, object]:
    spec = shown.spec
    return {
        "tensor": spec.name,
        "aliases": list(spec.aliases),
        "index": read.index,
        "count": read.count,
        "only_one_of_its_name": unique,
        "dtype": spec.dtype,
        "shape": list(spec.shape),
        "rows": list(shown.block.rows),
        "columns": list(shown.block.columns),
        "bytes": len(shown.values),
        "scheme": read.scheme,
        "root": str(shown.root),
        "role": None if named is None else next(iter(named.roles)),
        "roles": None if named is None else list(named.roles),
        "strength": None if named is None else named.strength,
        "evidence": None if named is None else named.result.to_json(),
    }


def _show(
    read: WeightsOpening, shown: Shown, named: Named | None, values: Path | None, *, unique: bool
) -> None:
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
    left_open = _not_shown(named, unique=unique)
    click.echo(f"NOT SHOWN: anything of it elsewhere, or of other tensors; {left_open}.")
    proven = f"PROVEN: these are {block} of {spec.name!r} in {_whose(named)}"
    click.secho(printable(proven), fg="green" if named is None or not named.result.warnings else "yellow")


def _whose(named: Named | None) -> str:
    if named is None:
        return "weights with this root"
    tier, (meaning, *_) = named.result.tier.value, named.roles.values()
    return f"{meaning}, as {named.evidence} says ({tier}, strength {named.strength})"


def _not_shown(named: Named | None, *, unique: bool) -> str:
    ran = "that anybody ran a model with these weights"
    if named is not None:
        return ran
    one = "" if unique else "that the root has no other tensor of this name (the list does: --like LIST); "
    return f"{one}whose weights they are, which rests on where you have the root from; {ran}"
