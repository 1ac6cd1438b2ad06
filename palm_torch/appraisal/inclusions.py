"""Proofs at hand of how often one record was delivered, against what verified evidence says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch.appraisal import coverage_maps
from palm_torch.commit import coverage_proof
from palm_torch.errors import ArtifactError

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.digest import Digest
    from palm_torch.statement import Statement


def check(path: Path, end: Statement) -> str:
    """Checks a proof that `palm-torch coverage` wrote, and returns what it shows in words.

    Args:
        path: The proof.
        end: The statement, which was verified.

    Raises:
        EvidenceError: If the file is no such proof, or not well formed.
        ArtifactError: If the evidence has no such dataset, or the proof is of another manifest or does not
            lead to its coverage root.
    """
    shown = coverage_proof.read(path)
    known = {role.rpartition(".")[2]: dataset for role, dataset in coverage_maps.datasets(end)}
    dataset = known.get(shown.dataset)
    if dataset is None:
        raise ArtifactError(
            f"{path}: a proof for the dataset {shown.dataset[:80]!r}; the evidence has "
            f"{', '.join(known) or 'none'}"
        )
    count = shown.check(dataset)
    return (
        f"record {shown.index} of {shown.dataset} was delivered {in_words(count)} for {shown.use}; manifest: "
        f"{manifest_in_words(dataset.manifest)}"
    )


def manifest_in_words(manifest: Digest | None) -> str:
    """Returns which manifest gives the records their numbers."""
    if manifest is None:
        return "none; the number is the one that the run read the record by"
    return f"{manifest}, which numbers the records"


def in_words(count: int) -> str:
    """Returns how often, in words."""
    return "once" if count == 1 else f"{count} times"
