"""What evidence says of a dataset that was read or written whole: files, framing, identity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from palm_torch import codec
from palm_torch.roles import MANIFEST, SHARD, Artifact, Source, Written

if TYPE_CHECKING:
    from palm_torch.commit.manifest import Manifest


def written(manifest: Manifest) -> Written:
    """Returns what evidence says of a dataset whose every byte was hashed before it was written."""
    return Written(
        source=Source.MEASURED,
        framing=framing(manifest),
        files=files(manifest),
        digest=manifest.digest,
        records_root=manifest.digests_root,
        records=manifest.records,
        multiset=manifest.multiset,
    )


def framing(manifest: Manifest) -> dict[str, Any]:
    """Returns how the records of a dataset lie, as evidence says it."""
    return {
        "format": manifest.format,
        "dtype": manifest.dtype,
        "record_shape": None if manifest.record_shape is None else list(manifest.record_shape),
        "record_bytes": manifest.record_bytes,
        "columns": codec.to_json(manifest.columns),
        "salted": manifest.salted,
    }


def in_a_row(manifest: Manifest) -> bool:
    """Returns whether records of one length lie in a row: then files and records are hashed in one reading.

    Records of every other kind are copied out by their format, and the SHA-256 of their file is of a reading
    of its own, which says nothing of the records.
    """
    return manifest.dtype is not None and manifest.record_shape is not None


def files(manifest: Manifest) -> dict[str, Artifact]:
    """Returns the files of a dataset by name; only those whose digest was taken."""
    return {
        shard.name: Artifact(source=Source.MEASURED, kind=SHARD, digest=shard.sha256)
        for shard in manifest.shards
        if shard.sha256 is not None
    }


def manifest_artifact(manifest: Manifest) -> Artifact:
    """Returns a manifest as evidence names it: by the digest of its header."""
    return Artifact(source=Source.MEASURED, kind=MANIFEST, digest=manifest.digest)
