"""Files at hand against the roles of a statement: is this the model, the manifest, the file it speaks of?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from palm_torch.commit import multiset, safetensors_file
from palm_torch.commit.manifest import ManifestFile
from palm_torch.commit.records import DIGEST_BYTES
from palm_torch.digest import sha256_file
from palm_torch.errors import ArtifactError, DataError
from palm_torch.roles import Artifact, Dataset, Multiset, Weights

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from palm_torch.statement import Statement

_DIGESTS_AT_ONCE: Final = 4096


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
        _compare_file(role, path, filled)


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


def _compare_file(role: str, path: Path, artifact: Artifact) -> None:
    try:
        found = sha256_file(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if found != artifact.digest:
        raise ArtifactError(
            f"{path} is not the {role} of the evidence: expected {artifact.digest}, got {found}"
        )


def _compare_manifest(role: str, path: Path, dataset: Dataset) -> None:
    if path.is_dir():
        raise DataError(f"{path}: a folder; its manifest is {path / 'manifest.palm-manifest'}")
    with ManifestFile.open(path) as file:
        file.group_digests()  # the record digests are those of the header
        recomputed = _multiset_of(file) if dataset.manifest is None else file.manifest.multiset
        manifest = file.manifest
    if dataset.manifest is not None and manifest.digest != dataset.manifest:
        raise ArtifactError(
            f"{path} is not the manifest of {role}: expected {dataset.manifest}, got {manifest.digest}"
        )
    if (manifest.records, manifest.record_bytes) != (dataset.records, dataset.record_bytes):
        raise ArtifactError(
            f"{path}: {manifest.records} records of {manifest.record_bytes} bytes, not those of {role}"
        )
    whole = manifest.multiset if dataset.manifest is not None else recomputed
    bound = dataset.manifest is not None
    for use, delivered in dataset.uses.items():
        if delivered.least != delivered.greatest or not delivered.least:
            continue  # partial epochs are bound by the coverage root alone
        bound = True
        expected = multiset.MultisetHash.from_state(bytes.fromhex(whole.state), whole.count)
        expected.power(delivered.least)
        if expected.state.hex() != delivered.multiset.state:
            raise ArtifactError(
                f"{path}: {delivered.least} whole epochs of it are not what {role} delivered for {use}"
            )
    if not bound:
        raise ArtifactError(
            f"{path}: cannot be compared with {role}: the evidence names no manifest and no whole epoch of it"
        )


def _multiset_of(file: ManifestFile) -> Multiset:
    """Computes the multiset hash from the record digests: nothing else vouches for what the header says."""
    start, end = file.offset, file.offset + file.manifest.records * DIGEST_BYTES
    if file.manifest.salted:
        raise ArtifactError(
            f"{file.path}: a salted manifest, which the evidence does not name, proves nothing"
        )
    hashed = multiset.MultisetHash()
    for at in range(start, end, _DIGESTS_AT_ONCE * DIGEST_BYTES):
        hashed.add_many(file.mapping[at : min(at + _DIGESTS_AT_ONCE * DIGEST_BYTES, end)])
    return Multiset(scheme=hashed.parameters.name, count=hashed.count, state=hashed.state.hex())
