"""Everything at hand against what evidence says: files by role, datasets, proofs for single records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch.appraisal import artifacts, coverage_maps, datasets_at_hand, inclusions
from palm_torch.commit import manifest_file
from palm_torch.errors import ArtifactError
from palm_torch.result import Check

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from palm_torch.appraisal.at_hand import Data
    from palm_torch.roles import Dataset
    from palm_torch.statement import Statement


def compare(
    end: Statement, files: Mapping[str, Path], data: Data, *, checks: list[Check], left_open: list[str]
) -> None:
    """Compares everything at hand with what a statement says.

    Args:
        end: The statement, which was verified.
        files: Files to compare with what it says of a role: role → path.
        data: What is held of its data.
        checks: Takes what was established, as it is.
        left_open: Takes what was not.

    Raises:
        RejectedError: If a file is another one, or shows that the statement contradicts itself.
        InputError: If a file is malformed or cannot be read.
    """
    maps = coverage_maps.recognised(data.coverage, data.evidence, end)
    for role, path in files.items():
        compared = artifacts.compare(role, path, end, maps)
        checks.append(Check(name="artifact", detail=compared.detail))
        left_open += compared.left_open
    for role, held in data.datasets:
        for full, dataset in _meant(role, held.path, end):
            compared = datasets_at_hand.compare(full, full.rpartition(".")[2], held, dataset, maps)
            checks.append(Check(name="dataset", detail=compared.detail))
            left_open += compared.left_open
    checks += [Check(name="inclusion", detail=inclusions.check(path, end)) for path in data.inclusions]


def _meant(role: str, path: Path, end: Statement) -> Iterator[tuple[str, Dataset]]:
    """Yields the dataset of a role; without a role those that name the manifest, or the only one."""
    known = list(coverage_maps.datasets(end))
    if role:
        meant = [item for item in known if item[0] == role]
        among = [item for item in known if item[0].startswith(f"{role}.")]
        meant = meant or (among if len(among) == 1 else [])
    else:
        digest = manifest_file.read_header(path).digest
        meant = [item for item in known if item[1].manifest == digest] or (known if len(known) == 1 else [])
    if not meant:
        names = ", ".join(f"{name} ({dataset.manifest or 'no manifest'})" for name, dataset in known)
        wanted = f"the role {role!r}" if role else "this manifest"
        raise ArtifactError(f"{path}: the evidence has no dataset of {wanted}; it has {names or 'none'}")
    yield from meant
