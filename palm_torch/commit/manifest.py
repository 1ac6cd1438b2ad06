"""The header of a manifest: which files a dataset is made of, and what its records are.

It is canonical JSON; the SHA-256 of its bytes is the dataset's identity. It holds the root over the record
digests, which stand after it in the manifest's file: `palm_torch.commit.manifest_file`.

Members: docs/spec/40-data.md, section 2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal

from palm_torch.codec import from_bytes, to_json
from palm_torch.commit import multiset
from palm_torch.digest import SHA256, TAGGED_SHA256, Digest, sha256_digest
from palm_torch.encoding import encode_json
from palm_torch.errors import EncodingError, ManifestError
from palm_torch.roles import Multiset

MAX_HEADER_BYTES: Final = 64 << 20
MAX_RECORDS: Final = 1 << 40
MAX_RECORD_BYTES: Final = 1 << 30
MAX_NAME_BYTES: Final = 1024
OWN_FORMATS: Final = frozenset({"items", "encoded"})
"""Formats whose records are bytes of no file: what a program encodes."""

_WORD: Final = re.compile(r"[a-z0-9]{1,16}")


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of a dataset.

    Attributes:
        name: Path relative to the dataset's folder, POSIX separators, in normal form.
        bytes: Size of the whole file in bytes.
        records: Number of records in it.
        sha256: Plain SHA-256 of the whole file; None if it was not taken, and always in a salted manifest:
            whoever has it can test a guess of the file's content.
    """

    name: str
    bytes: int
    records: int
    sha256: Digest | None

    def __post_init__(self) -> None:
        """Refuses names that lead out of the folder, and counts that cannot be."""
        _check_name(self.name)
        _check_range("bytes", self.bytes, 1, MAX_RECORDS * MAX_RECORD_BYTES)
        _check_range("records", self.records, 1, MAX_RECORDS)
        if self.sha256 is not None:
            _check_algorithm("sha256", self.sha256, SHA256)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a dataset of rows: its name and its type (docs/spec/40-data.md, section 6)."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The header of a manifest: what the dataset is.

    Attributes:
        version: Version of the format.
        format: Name of the shards' file format, such as "bin"; see `palm_torch.data.formats`.
        dtype: Stored element type by its numpy name, little endian; None where records are not elements.
        record_shape: Shape of one record in elements; None where records differ in length.
        record_bytes: Length of one record in bytes; likewise.
        columns: Columns of a dataset of rows; None where records are no rows.
        records: Number of records in all shards.
        shards: The files, in the order that numbers the records.
        digests_root: History root over the group digests.
        multiset: Multiset hash over all records, each counted once per place it stands at.
        salted: Whether the record digests are keyed with a salt that is not in the manifest.

    Raises:
        EncodingError: If the parts contradict each other.
    """

    version: Literal[1]
    format: str
    dtype: str | None
    record_shape: tuple[int, ...] | None
    record_bytes: int | None
    columns: tuple[Column, ...] | None
    records: int
    shards: tuple[Shard, ...]
    digests_root: Digest
    multiset: Multiset
    salted: bool

    def __post_init__(self) -> None:
        """Refuses a header whose numbers do not add up."""
        for name, value in (("format", self.format), ("dtype", self.dtype)):
            if value is not None and not _WORD.fullmatch(value):
                raise EncodingError(f"{name}: expected lower-case letters and digits, got {value[:40]!r}")
        self._check_record()
        _check_range("records", self.records, 1, MAX_RECORDS)
        _check_algorithm("digests_root", self.digests_root, TAGGED_SHA256)
        if self.multiset.scheme not in multiset.POLICY_SCHEMES:
            raise EncodingError(f"multiset: unknown scheme {self.multiset.scheme[:40]!r}")
        names = [shard.name for shard in self.shards]
        if len(set(names)) != len(names):
            raise EncodingError("shards: a name stands there twice")
        if self.salted and any(shard.sha256 is not None for shard in self.shards):
            raise EncodingError(
                "sha256: expected null in a salted manifest: a plain digest lets anybody test a guess"
            )
        in_shards = sum(shard.records for shard in self.shards)
        if in_shards != self.records or self.multiset.count != self.records:
            raise EncodingError(
                f"records: expected one number, got {self.records}, {in_shards} in the shards and "
                f"{self.multiset.count} in the multiset"
            )
        for shard in self.shards:
            if self.record_bytes is not None and shard.bytes < shard.records * self.record_bytes:
                raise EncodingError(
                    f"shard {shard.name!r}: {shard.records} records of {self.record_bytes} bytes do not fit "
                    f"in {shard.bytes} bytes"
                )

    def _check_record(self) -> None:
        """Refuses members that say different things of what a record is."""
        if (self.record_bytes is None) != (self.record_shape is None):
            raise EncodingError("record_bytes, record_shape: expected both or none")
        if self.record_shape is not None and self.dtype is None:
            raise EncodingError("record_shape: expected it only beside an element type, dtype")
        if self.columns is not None:
            _check_columns(self.columns, single=self.dtype is not None)
        if self.record_bytes is not None:
            _check_range("record_bytes", self.record_bytes, 1, MAX_RECORD_BYTES)
        for size in self.record_shape or ():
            _check_range("record_shape", size, 1, MAX_RECORD_BYTES)

    def encode(self) -> bytes:
        """Returns the header's canonical bytes."""
        return encode_json(to_json(self))

    @property
    def kind(self) -> str:
        """What gives a record's bytes their meaning: see `kind_of`."""
        return kind_of(self.format, self.dtype, self.columns)

    @property
    def layout(self) -> str:
        """How the records are read, as `layout_of` says it and evidence repeats it."""
        return layout_of(self.format, self.dtype, self.record_shape, self.columns)

    @property
    def digest(self) -> Digest:
        """SHA-256 of the header's bytes: the identity of the dataset."""
        return sha256_digest(self.encode())


def kind_of(format_: str, dtype: str | None, columns: tuple[Column, ...] | None) -> str:
    """Returns what gives a record's bytes their meaning, for `palm_torch.commit.records.record_key`.

    Rows of columns: their names and types, as canonical JSON. Items of programs: the format's name. Bytes
    that lie in a file: nothing.
    """
    if dtype is None and columns is not None:
        return encode_json([[column.name, column.type] for column in columns]).decode()
    return format_ if format_ in OWN_FORMATS else ""


def layout_of(
    format_: str,
    dtype: str | None,
    shape: tuple[int, ...] | None,
    columns: tuple[Column, ...] | None,
) -> str:
    """Returns what evidence says of how a dataset's records are read: the same bytes may mean many things.

    Elements of a type: ``uint16[1024]``, in whatever file they lie, or ``uint16[]`` where records differ in
    length. Rows of columns: as `kind_of`. Everything else: the format's name.
    """
    if dtype is None:
        return kind_of(format_, dtype, columns) or format_
    return f"{dtype}[{','.join(map(str, shape or ()))}]"


def decode_header(data: bytes, *, what: str) -> Manifest:
    """Parses the header of a manifest.

    Args:
        data: Its canonical bytes.
        what: Name of the file, for messages.

    Raises:
        ManifestError: If they are not exactly a header.
    """
    return from_bytes(Manifest, data, what=what, max_bytes=MAX_HEADER_BYTES, error=ManifestError)


def _check_name(name: str) -> None:
    path = PurePosixPath(name)
    plain = name == str(path) and "\\" not in name and "\0" not in name
    if not plain or path.is_absolute() or ".." in path.parts or not path.parts or name == ".":
        raise EncodingError(f"shard name: expected a path inside the dataset's folder, got {name[:80]!r}")
    if len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        raise EncodingError(f"shard name: expected at most {MAX_NAME_BYTES} bytes, got {name[:80]!r}")


def _check_columns(columns: tuple[Column, ...], *, single: bool) -> None:
    if not columns or (single and len(columns) != 1):
        raise EncodingError(f"columns: expected {'one' if single else 'some'}, got {len(columns)}")
    if len({column.name for column in columns}) != len(columns):
        raise EncodingError("columns: a name stands there twice")


def _check_range(what: str, value: int, least: int, greatest: int) -> None:
    if not least <= value <= greatest:
        raise EncodingError(f"{what}: expected {least} to {greatest}, got {value}")


def _check_algorithm(what: str, digest: Digest, algorithm: str) -> None:
    if digest.algorithm != algorithm:
        raise EncodingError(f"{what}: expected a {algorithm} digest, got {digest.algorithm}")
