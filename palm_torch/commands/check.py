"""`palm-torch check`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from palm_torch import terminal
from palm_torch.commands import appraising, arguments, printing, weights
from palm_torch.commands.arguments import FILE
from palm_torch.errors import ArtifactError, DataError, InputError, RejectedError, SealError
from palm_torch.escaping import printable
from palm_torch.exit_codes import ACCEPTED, MALFORMED, REJECTED
from palm_torch.files import write_atomically

if TYPE_CHECKING:
    from palm_torch.commands.model_evidence import Named
    from palm_torch.commit.opening_file import WeightsOpening
    from palm_torch.commit.weights_block import Span
    from palm_torch.commit.weights_commitment import WeightsCommitment
    from palm_torch.commit.weights_opening import Shown
    from palm_torch.digest import Digest


@click.command(short_help="Check rows of weights against a root, or against evidence of the model.")
@click.argument("opening", type=FILE)
@click.option("--root", help="The weights root: palm-sha256:..., or its 64 hexadecimal digits.")
@click.option(
    "--like",
    type=FILE,
    help="With a root, or in its place: the list that `commit -o` wrote. It shows that no two tensors under "
    "the root have one name.",
)
@click.option("--evidence", type=FILE, help="Evidence that names the model, instead of a root.")
@click.option(
    "--role",
    help="With --evidence: which weights, such as initial or base.  [default: the model that came out]",
)
@appraising.options(several=False)
@click.option("--tensor", help="The tensor that you expect to see, by its name or an alias.")
@weights.block_options(default="whatever was opened")
@click.option("--values", type=FILE, help="Write what was proven as a .safetensors file.")
@click.option("--json", "as_json", is_flag=True, help="Print what was proven, or why not, as JSON.")
def check(  # noqa: PLR0913 (one for each option)
    opening: Path,
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
    """Check that an opening shows rows of weights with a root, offline and without the weights.

    With --evidence and --policy the evidence is appraised first, as `palm-torch verify` does, and the rows
    are proven to be of the model that came out of it, or of the --role given; with --root, of weights with
    that root, whosesoever they are. A root may be of a list in which two tensors have one name: --like LIST
    rules that out. Where --tensor, --rows or --cols are given, anything else is rejected.
    """
    from palm_torch.commit import opening_file, weights_commitment, weights_opening

    _check_usage(root, like, evidence, appraisal)
    arguments.apart(values, opening, like, evidence, *_paths(appraisal))
    named = None
    try:
        read = opening_file.read(opening)
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


def _check_usage(
    root: str | None, like: Path | None, evidence: Path | None, appraisal: dict[str, Any]
) -> None:
    if (root is None and like is None) is (evidence is None):
        raise click.UsageError(
            "check needs either --evidence EVIDENCE or --root ROOT (or --like LIST, or both of these)"
        )
    context = click.get_current_context()
    given = [name for name in appraisal if context.get_parameter_source(name) is not ParameterSource.DEFAULT]
    if evidence is None and given:
        option = next(one.opts[0] for one in context.command.params if one.name == given[0])
        raise click.UsageError(f"{option} goes with --evidence EVIDENCE")
    if evidence is not None and appraisal["policy"] is None:
        raise click.UsageError("--evidence goes with --policy POLICY: what you demand of it")
    appraising.check_tokens(appraisal["nras"], appraisal["jwks"])


def _paths(appraisal: dict[str, Any]) -> list[Path]:
    """Returns the files that evidence is appraised with; a reference manifest may stand behind its name."""
    files = [*appraisal["parts"], *appraisal["ocsp"], *appraisal["gpu_crls"], *appraisal["nras"]]
    files += [Path(rim.rpartition("=")[2]) for rim in appraisal["rims"]]
    return files + [value for value in appraisal.values() if isinstance(value, Path)]


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
