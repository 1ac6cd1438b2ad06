"""The proof, as a file, of how often a run was given one record of a dataset.

The proof counts for nothing by itself: it is checked against the coverage root that verified evidence seals.
Specification: docs/spec/40-data.md, section 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, get_args

from palm_torch import files
from palm_torch.codec import from_bytes, to_json
from palm_torch.commit import coverage
from palm_torch.digest import Digest
from palm_torch.encoding import encode_json
from palm_torch.errors import ArtifactError, BindingError, EncodingError, EvidenceError
from palm_torch.roles import Use

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.roles import Dataset

TYPE: Final = "palm-torch/coverage-proof/v1"
MAX_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageProof:
    """How often one record was delivered, with what it takes to check it.

    Attributes:
        type: What this file is.
        dataset: Name of the dataset in the evidence.
        manifest: Digest of the manifest that the evidence names for it, in whose order the records have their
            numbers; None where it names none: then the number is the one that the run read the record by.
        use: ``train``, ``eval`` or ``read``.
        index: The record.
        records: Number of records in the dataset.
        root: Coverage root that the proof leads to; verified evidence says whether it is the right one.
        leaf: Counts of the 1,024 records (fewer at the end) around it, 4 bytes each, little endian.
        proof: Sibling hashes of the leaf, 32 bytes each, as RFC 9162 orders them.
    """

    type: Literal["palm-torch/coverage-proof/v1"]
    dataset: str
    manifest: Digest | None
    use: str
    index: int
    records: int
    root: Digest
    leaf: bytes
    proof: tuple[bytes, ...]

    def __post_init__(self) -> None:
        """Refuses a use that no evidence speaks of."""
        if self.use not in get_args(Use):
            raise EncodingError(f"use: expected one of {', '.join(get_args(Use))}, got {self.use[:40]!r}")

    @classmethod
    def of(
        cls, shown: coverage.Inclusion, *, dataset: str, manifest: Digest | None, use: str, root: Digest
    ) -> CoverageProof:
        """Returns the proof of a count, for a file."""
        return cls(
            type=TYPE,
            dataset=dataset,
            manifest=manifest,
            use=use,
            index=shown.index,
            records=shown.records,
            root=root,
            leaf=shown.leaf,
            proof=shown.proof,
        )

    def encode(self) -> bytes:
        """Returns the file's bytes, canonical JSON."""
        return encode_json(to_json(self))

    def check(self, dataset: Dataset) -> int:
        """Checks the proof against what evidence says of the dataset, and returns the record's count.

        Args:
            dataset: What the evidence says of the dataset that the proof names.

        Raises:
            EvidenceError: If the proof speaks of a record that is not there, or is not well formed.
            ArtifactError: If it belongs to another run or another manifest, or leads to another root.
        """
        what = f"proof for record {self.index} of {self.dataset}"
        if self.manifest != dataset.manifest:
            raise ArtifactError(
                f"{what}: expected the manifest {dataset.manifest or 'none'}, as the evidence says, got "
                f"{self.manifest or 'none'}: its records have other numbers"
            )
        delivered = dataset.uses.get(self.use)
        if delivered is None:
            raise ArtifactError(f"{what}: the evidence says nothing of {self.use}")
        counts = delivered.counts
        if counts is None or dataset.records is None:
            raise ArtifactError(f"{what}: a stream, whose records have no index")
        if self.root != counts.coverage:
            raise ArtifactError(
                f"{what}: expected the coverage root {counts.coverage}, got {self.root}: it is of another run"
            )
        shown = coverage.Inclusion(self.index, self.records, self.leaf, self.proof)
        try:
            return coverage.verify_inclusion(shown, counts.coverage, records=dataset.records)
        except BindingError as error:
            raise ArtifactError(f"{what}: {error}") from error


def read(path: Path) -> CoverageProof:
    """Reads a proof, without checking it against anything.

    Raises:
        EvidenceError: If the file cannot be read or is not exactly such a proof.
    """
    data = files.read_bounded(path, what="the proof", max_bytes=MAX_BYTES, error=EvidenceError)
    return decode(data, what=str(path))


def decode(data: bytes, *, what: str) -> CoverageProof:
    """Parses a proof.

    Args:
        data: The file's bytes.
        what: Name of the file, for messages.

    Raises:
        EvidenceError: If they are not exactly such a proof.
    """
    return from_bytes(CoverageProof, data, what=what, max_bytes=MAX_BYTES, error=EvidenceError)
