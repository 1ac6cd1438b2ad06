"""`palm-torch coverage`."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import click

from palm_torch.commands import arguments, printing
from palm_torch.commands.arguments import FILE
from palm_torch.errors import ArtifactError, EvidenceError, SealError
from palm_torch.escaping import printable
from palm_torch.files import write_atomically
from palm_torch.roles import Use

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.commit.coverage_proof import CoverageProof
    from palm_torch.roles import Dataset
    from palm_torch.statement import Statement


@click.command(short_help="Was record N used, and how often?")
@click.argument("evidence", type=FILE)
@click.option("--index", type=click.IntRange(min=0), required=True, help="Number of the record, from 0.")
@click.option("--dataset", help="Name of the dataset, where the evidence has several.")
@click.option("--use", type=click.Choice(get_args(Use)), help="What for.  [default: the only use, or train]")
@click.option("--coverage", "map_", type=FILE, help="The coverage map, where it is not beside the evidence.")
@click.option("-o", "--output", type=FILE, help="Write the proof, for `palm-torch verify --inclusion`.")
@click.option("--json", "as_json", is_flag=True, help='Print JSON, with "verified": false.')
def coverage(
    evidence: Path,
    *,
    index: int,
    dataset: str | None,
    use: str | None,
    map_: Path | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Show how often a run was given one record, and prove it.

    The count is proven against the coverage root that the evidence names. Whether the evidence is to be
    believed is not looked at here: `palm-torch verify --inclusion PROOF` checks both.
    """
    from palm_torch import evidence as bundles
    from palm_torch import statement
    from palm_torch.appraisal import inclusions
    from palm_torch.commit import coverage_file, coverage_proof

    arguments.apart(output, evidence, map_)
    data = bundles.read(evidence)
    end = statement.decode(bundles.decode(data, what=str(evidence)).end.statement)
    name, found = _dataset(evidence, end, dataset)
    use = use or (next(iter(found.uses)) if len(found.uses) == 1 else "train")
    path = map_ or _beside(evidence, found, name, use)
    shown, root = coverage_file.inclusion(path, index)
    proof = coverage_proof.CoverageProof.of(shown, dataset=name, manifest=found.manifest, use=use, root=root)
    count = proof.check(found)
    if output is not None:
        write_atomically(output, [proof.encode()], error=SealError)
    if as_json:
        printing.print_json(_as_json(proof, count))
        return
    click.echo(printable(f"record {index} of {name} was delivered {inclusions.in_words(count)} for {use}"))
    click.echo(f"manifest  {inclusions.manifest_in_words(found.manifest)}")
    click.echo(f"root      {root}, as the evidence says")
    click.echo(
        printable(f"proof     {output if output is not None else 'not written; -o PROOF.json writes it'}")
    )
    click.echo("The evidence itself was NOT verified: `palm-torch verify --inclusion PROOF.json` does that.")


def _dataset(evidence: Path, end: Statement, wanted: str | None) -> tuple[str, Dataset]:
    from palm_torch.appraisal import coverage_maps

    known = {role.rpartition(".")[2]: dataset for role, dataset in coverage_maps.datasets(end)}
    if wanted is None and len(known) == 1:
        return next(iter(known.items()))
    if wanted is None or wanted not in known:
        names = ", ".join(known) or "none"
        raise ArtifactError(
            f"{evidence}: expected --dataset with one of its datasets ({names}), got {wanted}"
        )
    return wanted, known[wanted]


def _beside(evidence: Path, dataset: Dataset, name: str, use: str) -> Path:
    from palm_torch.appraisal import coverage_maps

    if dataset.records is None:
        raise ArtifactError(
            f"{evidence}: {name} is a stream: its records have no index, and nobody counted them"
        )
    if use not in dataset.uses:
        uses = ", ".join(dataset.uses) or "nothing"
        raise ArtifactError(f"{evidence}: {name} was not used for {use}, but for {uses}")
    place = coverage_maps.Maps(evidence=evidence).place(name, use)
    if place is None or not place.is_file():
        raise EvidenceError(
            f"{place}: expected the coverage map, which travels beside the evidence: get it from whoever "
            "made the evidence, or say where it is with --coverage FILE"
        )
    return place


def _as_json(proof: CoverageProof, count: int) -> dict[str, object]:
    return {
        "verified": False,
        "dataset": proof.dataset,
        "manifest": None if proof.manifest is None else str(proof.manifest),
        "use": proof.use,
        "index": proof.index,
        "records": proof.records,
        "root": str(proof.root),
        "delivered": count,
    }
