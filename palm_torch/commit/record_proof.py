"""The proof, as a file, that a record is in a dataset: manifest header, group of digests, path to the root.

Whoever checks it needs the digest of the manifest and nothing else of the dataset; with the record at hand,
and the salt of a salted one, also that it is this record. Specification: docs/spec/40-data.md, section 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from palm_torch import files
from palm_torch.codec import from_bytes, to_json
from palm_torch.commit import history, manifest_file, records
from palm_torch.commit import manifest as manifests
from palm_torch.digest import sha256_digest
from palm_torch.encoding import encode_json
from palm_torch.errors import ArtifactError, BindingError, DataError, ManifestError

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.digest import Digest

TYPE: Final = "palm-torch/record-proof/v1"
MAX_BYTES: Final = manifests.MAX_HEADER_BYTES // 3 * 4 + (64 << 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordProof:
    """A record's place in a dataset, with what it takes to check it.

    Attributes:
        type: What this file is.
        header: The header of the manifest, its canonical bytes.
        index: Number of the record.
        group: Digests of the 64 records (fewer in the last group) around it, 32 bytes each.
        proof: Sibling hashes of the group's digest, 32 bytes each, as RFC 9162 orders them.
    """

    type: Literal["palm-torch/record-proof/v1"]
    header: bytes
    index: int
    group: bytes
    proof: tuple[bytes, ...]

    def encode(self) -> bytes:
        """Returns the file's bytes, canonical JSON."""
        return encode_json(to_json(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """What a proof shows.

    Attributes:
        manifest: Header of the dataset's manifest.
        index: Number of the record.
        digest: Its record digest, 32 bytes.
    """

    manifest: manifests.Manifest
    index: int
    digest: bytes


def check(shown: RecordProof, expected: Digest) -> Proven:
    """Checks a proof against the digest of a manifest.

    Algorithm:
        1. The header's bytes have the digest: it is the dataset's. *(Stops: a proof for other data.)*
        2. The header is a manifest's, and has the record.
        3. The group has as many digests as the record's group has records. *(Stops: a group cut short.)*
        4. The digest of the group leads to the header's root. *(Stops: a digest that is not in the dataset.)*

    Raises:
        ManifestError: If the header is no manifest's.
        DataError: If the dataset has no such record, or the proof is not well formed.
        ArtifactError: If it belongs to another dataset, or leads to another root.
    """
    what = f"proof for record {shown.index}"
    if (found := sha256_digest(shown.header)) != expected:  # 1
        raise ArtifactError(f"{what}: expected the manifest {expected}, got {found}: it is of other data")
    manifest = manifests.decode_header(shown.header, what=what)  # 2
    if not 0 <= shown.index < manifest.records:
        raise DataError(f"{what}: expected a record from 0 to {manifest.records - 1}")
    at, within = divmod(shown.index, records.GROUP_RECORDS)
    length = min(records.GROUP_RECORDS, manifest.records - at * records.GROUP_RECORDS) * records.DIGEST_BYTES
    if len(shown.group) != length:  # 3
        raise DataError(f"{what}: expected a group of {length} bytes, got {len(shown.group)}")
    groups = -(-manifest.records // records.GROUP_RECORDS)
    try:  # 4
        history.verify_inclusion(
            records.group_digests(shown.group), at, groups, manifest.digests_root.value, shown.proof
        )
    except BindingError as error:
        raise ArtifactError(f"{what}: {error}") from error
    start = within * records.DIGEST_BYTES
    return Proven(
        manifest=manifest, index=shown.index, digest=shown.group[start : start + records.DIGEST_BYTES]
    )


def read(path: Path) -> RecordProof:
    """Reads a proof, without checking it against anything.

    Raises:
        DataError: If the file cannot be read or is not exactly such a proof.
    """
    data = files.read_bounded(path, what="the proof", max_bytes=MAX_BYTES, error=DataError)
    return decode(data, what=str(path))


def decode(data: bytes, *, what: str) -> RecordProof:
    """Parses a proof.

    Args:
        data: The file's bytes.
        what: Name of the file, for messages.

    Raises:
        DataError: If they are not exactly such a proof.
    """
    return from_bytes(RecordProof, data, what=what, max_bytes=MAX_BYTES, error=DataError)


class Search:
    """Looks for records in a manifest that is read once; one owner.

    Args:
        index: The record's number, or None where its digest decides.
        digest: The record's digest, or None where its number decides.

    Attributes:
        found: Numbers of the records that are it, at most `MOST` of them.
        count: How many there are.
    """

    MOST: Final = 100

    def __init__(self, *, index: int | None = None, digest: bytes | None = None) -> None:
        self.found: list[int] = []
        self.count = 0
        self._index = index
        self._digest = digest
        self._seen = 0
        self._group = b""
        self._log = history.History()

    def read(self, path: Path) -> RecordProof | None:
        """Reads a manifest and returns the proof of the first such record; None if there is none.

        Raises:
            ManifestError: If the file is not a whole and consistent manifest.
        """
        manifest = manifest_file.read(path, each=self._look)
        if not self.found:
            return None
        return RecordProof(
            type=TYPE,
            header=manifest.encode(),
            index=self.found[0],
            group=self._group,
            proof=self._log.inclusion_proof(self.found[0] // records.GROUP_RECORDS),
        )

    def _look(self, digests: bytes) -> None:
        """Takes the next digests: whole groups, but for the last."""
        if self._seen % records.GROUP_RECORDS:
            raise ManifestError("the digests came in pieces of other than whole groups")
        groups = records.group_digests(digests)
        for at in range(0, len(groups), records.DIGEST_BYTES):
            self._log.append(groups[at : at + records.DIGEST_BYTES])
        for number in self._matches(digests):
            if not self.found:
                start = number // records.GROUP_RECORDS * records.GROUP_BYTES
                self._group = digests[start : start + records.GROUP_BYTES]
            self.count += 1
            if len(self.found) < self.MOST:
                self.found.append(self._seen + number)
        self._seen += len(digests) // records.DIGEST_BYTES

    def _matches(self, digests: bytes) -> list[int]:
        if self._digest is None:
            number = -1 if self._index is None else self._index - self._seen
            return [number] if 0 <= number < len(digests) // records.DIGEST_BYTES else []
        matches: list[int] = []
        at = digests.find(self._digest)
        while at >= 0:
            if not at % records.DIGEST_BYTES:
                matches.append(at // records.DIGEST_BYTES)
            at = digests.find(self._digest, at + 1)
        return matches
