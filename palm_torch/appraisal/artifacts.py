"""Files at hand against the roles of a statement: is this the model, the manifest, the file it speaks of?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from palm_torch.appraisal import coverage_maps, datasets_at_hand
from palm_torch.appraisal.at_hand import Held
from palm_torch.appraisal.datasets_at_hand import Compared
from palm_torch.commit import manifest_file, safetensors_file
from palm_torch.digest import sha256_file
from palm_torch.errors import ArtifactError, DataError
from palm_torch.roles import MANIFEST, Artifact, Dataset, Weights, Written

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from palm_torch.statement import Statement

NO_MAPS: Final = coverage_maps.Maps()


def compare(role: str, path: Path, end: Statement, maps: coverage_maps.Maps = NO_MAPS) -> Compared:
    """Compares a file with what a statement says of a role, and returns what that established.

    Args:
        role: ``model``, ``initial`` and other weights take a safetensors file or index; ``data`` or
            ``data.NAME``, ``produced.NAME`` and the ``manifest`` of a binding take a manifest; every other
            role the file whose SHA-256 was taken.
        path: The file.
        end: The statement.
        maps: Coverage maps at hand, for the manifests of datasets.

    Raises:
        ArtifactError: If the file is another one, or the statement has no such role.
        DataError: If the file is malformed or cannot be read.
    """
    filled = _filled(role, end)
    if isinstance(filled, Dataset):
        name = next(name for name, dataset in coverage_maps.datasets(end) if dataset is filled)
        return datasets_at_hand.compare(role, name.rpartition(".")[2], Held(path), filled, maps)
    if isinstance(filled, Weights):
        safetensors_file.compare(path, filled.tensors)
    elif isinstance(filled, Written) or filled.kind == MANIFEST:
        _compare_bound(role, path, filled)
    elif filled.digest is None:
        raise ArtifactError(f"{role}: the evidence says there was none")
    else:
        compare_file(role, path, filled)
    return Compared(f"{path} is the {role} of the evidence")


def _filled(role: str, end: Statement) -> Weights | Dataset | Written | Artifact:
    head, dot, name = role.partition(".")
    filled = end.roles().get(head)
    if isinstance(filled, dict):
        if not dot and len(filled) == 1:
            (name,) = filled
        filled = filled.get(name)
    elif dot:  # a dot leads into several of a kind, and nowhere else
        filled = None
    filled = filled or end.run.outputs.get(role) or end.run.inputs.get(role)
    if not isinstance(filled, (Weights, Dataset, Written, Artifact)):
        known = list(_comparable(end))
        raise ArtifactError(
            f"the evidence has no role {role!r} to compare a file with; it has {', '.join(known)}"
        )
    return filled


def _comparable(end: Statement) -> Iterator[str]:
    """Yields the names of everything a file can be compared with."""
    for role, filled in {**end.roles(), **end.run.inputs, **end.run.outputs}.items():
        if isinstance(filled, dict):
            yield from (f"{role}.{name}" for name in filled)
        elif isinstance(filled, (Weights, Dataset, Written, Artifact)):
            yield role


def compare_file(role: str, path: Path, artifact: Artifact) -> None:
    """Compares a file with an artifact whose SHA-256 was taken.

    Args:
        role: The artifact's role, for messages.
        path: The file.
        artifact: What the evidence says of the role.

    Raises:
        ArtifactError: If the file is another one.
        DataError: If it cannot be read.
    """
    try:
        found = sha256_file(path)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', error)}") from error
    if found != artifact.digest:
        raise ArtifactError(
            f"{path} is not the {role} of the evidence: expected {artifact.digest}, got {found}"
        )


def _compare_bound(role: str, path: Path, bound: Written | Artifact) -> None:
    """Compares a manifest at hand, which has to be whole, with one that the run wrote."""
    if path.is_dir():
        raise DataError(f"{path}: a folder; its manifest is {path / 'manifest.palm-manifest'}")
    found = manifest_file.read(path).digest
    if found != bound.digest:
        raise ArtifactError(
            f"{path} is not the {role} of the evidence: expected the manifest {bound.digest}, got {found}"
        )
