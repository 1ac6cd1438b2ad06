"""Files at hand against the roles of a statement: is this the model, the manifest, the file it speaks of?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch.commit import manifest as manifests
from palm_torch.commit import multiset, safetensors_file
from palm_torch.digest import sha256_file
from palm_torch.errors import ArtifactError, DataError
from palm_torch.roles import Artifact, Dataset, Multiset, Weights

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from palm_torch.statement import Statement


def compare(role: str, path: Path, end: Statement) -> None:
    """Compares a file with what a statement says of a role.

    Args:
        role: ``model``, ``initial`` and other weights take a safetensors file or index; ``data`` or
            ``data.NAME`` a manifest; every other role the file whose SHA-256 was taken.
        path: The file.
        end: The statement.

    Raises:
        ArtifactError: If the file is another one, or the statement has no such role.
        DataError: If the file is malformed or cannot be read.
    """
    filled = _filled(role, end)
    if isinstance(filled, Weights):
        safetensors_file.compare(path, filled.tensors)
    elif isinstance(filled, Dataset):
        _compare_manifest(role, path, filled)
    elif filled.digest is None:
        raise ArtifactError(f"{role}: the evidence says there was none")
    else:
        compare_file(role, path, filled)


def _filled(role: str, end: Statement) -> Weights | Dataset | Artifact:
    head, dot, name = role.partition(".")
    filled = end.roles().get(head)
    if isinstance(filled, dict):
        if not dot and len(filled) == 1:
            (name,) = filled
        filled = filled.get(name)
    elif dot:  # a dot leads into several of a kind, and nowhere else
        filled = None
    filled = filled or end.run.outputs.get(role) or end.run.inputs.get(role)
    if not isinstance(filled, (Weights, Dataset, Artifact)):
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
        elif isinstance(filled, (Weights, Dataset, Artifact)):
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


def _compare_manifest(role: str, path: Path, dataset: Dataset) -> None:
    if path.is_dir():
        raise DataError(f"{path}: a folder; its manifest is {path / 'manifest.palm-manifest'}")
    hashed = multiset.MultisetHash()
    each = hashed.add_many if dataset.manifest is None else bytes  # where nothing else vouches for the header
    manifest = manifests.read(path, each=each)
    if dataset.manifest is None and manifest.salted:
        raise ArtifactError(f"{path}: a salted manifest, which the evidence does not name, proves nothing")
    if dataset.manifest is not None and manifest.digest != dataset.manifest:
        raise ArtifactError(
            f"{path} is not the manifest of {role}: expected {dataset.manifest}, got {manifest.digest}"
        )
    if (manifest.records, manifest.record_bytes) != (dataset.records, dataset.record_bytes):
        raise ArtifactError(
            f"{path}: {manifest.records} records of {manifest.record_bytes} bytes, not those of {role}"
        )
    whole = manifest.multiset if dataset.manifest is not None else _as_role(hashed)
    bound = dataset.manifest is not None
    for use, delivered in dataset.uses.items():
        counts = delivered.counts
        if counts is None or counts.least != counts.greatest or not counts.least:
            continue  # partial epochs are bound by the coverage root alone
        bound = True
        expected = multiset.MultisetHash.from_state(bytes.fromhex(whole.state), whole.count)
        expected.power(counts.least)
        if expected.state.hex() != delivered.multiset.state:
            raise ArtifactError(
                f"{path}: {counts.least} whole epochs of it are not what {role} delivered for {use}"
            )
    if not bound:
        raise ArtifactError(
            f"{path}: cannot be compared with {role}: the evidence names no manifest and no whole epoch of it"
        )


def _as_role(hashed: multiset.MultisetHash) -> Multiset:
    return Multiset(scheme=hashed.parameters.name, count=hashed.count, state=hashed.state.hex())
