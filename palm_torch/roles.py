"""What the roles of a property are filled with: artifacts, values, datasets, weights.

Every value says where it comes from: measured by palm-torch, reported by the code that ran, or declared
by whoever ran it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

from palm_torch.digest import Digest
from palm_torch.encoding import decode_hex
from palm_torch.errors import EncodingError

Use: TypeAlias = Literal["train", "eval", "read"]

FILE: Final = "file"
"""Kind of an artifact that was hashed where it lay; the script read or wrote it separately."""

BYTES: Final = "bytes"
"""Kind of an artifact whose very bytes were handed over."""

SHARD: Final = "shard"
"""Kind of a dataset's file whose digest is of the very bytes that the record digests were computed from."""

MANIFEST: Final = "manifest"
"""Kind of a manifest; its digest is the dataset's identity, SHA-256 of the manifest's header."""

FUNCTION: Final = "function"
"""Kind of a function; its digest is of its name and the files that define it."""

OPENED: Final = "opened"
"""Kind of an input that the script opened by itself: its digest is of the file as it lay there."""

COMMAND: Final = "command"
"""Input of the words that ``palm-torch run`` was given; ``command#N`` for the Nth session of a run."""

EMPTY: Final = "none"
"""Kind of a role that the run left empty and says so."""


class Source(enum.StrEnum):
    """Where a value comes from, in falling order of strength."""

    MEASURED = "measured"
    REPORTED = "reported by code"
    DECLARED = "declared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One thing with an identity: a file, an architecture, a function, a tokenizer.

    Attributes:
        source: Where the digest comes from.
        kind: What the digest is of: `FILE`, `BYTES`, `OPENED`, or e.g. ``architecture``; or `EMPTY`.
        digest: The identity; None exactly when the kind is `EMPTY`.
    """

    source: Source
    kind: str
    digest: Digest | None

    def __post_init__(self) -> None:
        """Keeps an absent thing from having a digest, and the reverse."""
        if (self.kind == EMPTY) != (self.digest is None):
            raise EncodingError(f"artifact of kind {self.kind!r} with digest {self.digest}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One value that is small enough to travel itself: settings, a metric, a seed."""

    source: Source
    value: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Multiset:
    """Multiset hash of records: scheme, number of elements and group element.

    Attributes:
        scheme: Name of the parameter set, ``mset-mu-3072``.
        count: Number of elements with multiplicity.
        state: The group element, 384 bytes big endian in hex.
    """

    scheme: str
    count: int
    state: str

    def __post_init__(self) -> None:
        """Refuses a negative count and a state of another length."""
        decode_hex(self.state, what="multiset state", length_bytes=384)
        if self.count < 0:
            raise EncodingError(f"multiset count is negative: {self.count}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How often the records of a dataset were delivered, each by its index.

    Attributes:
        distinct: Different indices among the records delivered.
        least: Smallest multiplicity over all records of the dataset (0 if one was never delivered).
        greatest: Largest multiplicity.
        coverage: Root of the map of multiplicities by index.
    """

    distinct: int
    least: int
    greatest: int
    coverage: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivered:
    """The records of one dataset that the loop received for one use.

    Attributes:
        delivered: Records received, with multiplicity.
        padded: How many of them a sampler repeated so that every rank got as many; None if that is not known.
        counts: How often each; None for a stream, whose records have no index.
        multiset: Multiset hash of what was delivered.
        order: Hash chain over the record digests in the order delivered, one for each rank, in their order.
        exact: Whether the batches consisted of these very records. Otherwise code between the dataset and
            the loop may have dropped records, and what is counted is what was read for the loop.
    """

    delivered: int
    padded: int | None
    counts: Counts | None
    multiset: Multiset
    order: tuple[Digest, ...]
    exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A dataset and what was delivered of it.

    Attributes:
        source: Always `Source.MEASURED` for an attested dataset.
        format: Name of the storage format.
        manifest: Digest of the manifest that authenticated each record, or None.
        records: Number of records in the dataset; None for a stream, whose end nobody knows.
        record_bytes: Size of one record in bytes; None where they differ.
        layout: How a record's bytes are read: element type and shape, columns, or the format's name.
        uses: What was delivered, by use: ``train`` (gradients on, and a step followed), ``eval``, or
            ``read`` where nothing is trained.
    """

    source: Source
    format: str
    manifest: Digest | None
    records: int | None
    record_bytes: int | None
    layout: str
    uses: dict[str, Delivered]

    def __post_init__(self) -> None:
        """Refuses unknown uses."""
        unknown = self.uses.keys() - set(get_args(Use))
        if unknown:
            raise EncodingError(f"unknown use of a dataset: {min(unknown)!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A dataset that the run wrote: digests of the bytes as they left the process.

    Attributes:
        source: Always `Source.MEASURED`.
        framing: How the records lie: format, element type, shape and columns, and whether the digests are
            keyed.
        files: The shards by name, hashed while they were written.
        digest: Identity of its manifest, under which whoever uses the dataset names it.
        records_root: History root over the record digests, as the manifest's header has it.
        records: Number of records.
        multiset: Multiset hash of the records.
    """

    source: Source
    framing: dict[str, Any]
    files: dict[str, Artifact]
    digest: Digest
    records_root: Digest
    records: int
    multiset: Multiset


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor of a model: canonical name, further names of tied weights, dtype, shape, Merkle root."""

    name: str
    aliases: tuple[str, ...]
    dtype: str
    shape: tuple[int, ...]
    root: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A model's exact weights.

    Attributes:
        source: Where the digest comes from.
        digest: The weights root (docs/spec/20-commitments.md).
        tensors: The tensors under it, sorted by name.
        taken: When the bytes were read: ``first_step`` and ``end`` speak for themselves; with
            ``first_delivery`` buffers were read before the first batch reached the loop, parameters
            before the first step moved them.
    """

    source: Source
    digest: Digest
    tensors: tuple[Tensor, ...]
    taken: Literal["first_delivery", "first_step", "end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Optimizer steps: taken (parameters moved) and skipped by a gradient scaler."""

    source: Source
    taken: int
    skipped: int

    def __post_init__(self) -> None:
        """Refuses negative counts."""
        if self.taken < 0 or self.skipped < 0:
            raise EncodingError(f"steps are negative: {self.taken} taken, {self.skipped} skipped")
