"""The manifest of a dataset: which files it is made of, and the digest of every record.

A manifest is one file: a magic line, a canonical JSON header, zero padding to a multiple of 64 bytes, then
the record digests, 32 bytes each. Records are taken in groups of 64; the root of the history tree over the
group digests stands in the header. Its reader never trusts the array again after the root was checked:
the group digests are kept in private memory, and every later look-up hashes the group it copied out.

The SHA-256 of the header's bytes is the dataset's identity. Byte table: docs/spec/40-data.md, section 2.
"""

from __future__ import annotations

import io
import mmap
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final, Literal, Self

from palm_torch import files
from palm_torch.codec import from_json, to_json
from palm_torch.commit import history, multiset, records
from palm_torch.digest import SHA256, TAGGED_SHA256, Digest, sha256_digest
from palm_torch.encoding import decode_json, encode_json
from palm_torch.errors import EncodingError, ManifestError
from palm_torch.roles import Multiset

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType
    from typing import BinaryIO

MAGIC: Final = b"palm-torch manifest v1\n"
SUFFIX: Final = ".palm-manifest"
ALIGNMENT_BYTES: Final = 64
MAX_HEADER_BYTES: Final = 64 << 20
MAX_RECORDS: Final = 1 << 40
MAX_RECORD_BYTES: Final = 1 << 30
MAX_NAME_BYTES: Final = 1024
OWN_FORMATS: Final = frozenset({"items", "encoded"})
"""Formats whose records are bytes of no file: what a program encodes."""

_LENGTH_BYTES: Final = 4
_WORD: Final = re.compile(r"[a-z0-9]{1,16}")
_READ_BYTES: Final = records.GROUP_BYTES * 512


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


class ManifestFile:
    """An open manifest whose form was checked, with its record digests mapped.

    Attributes:
        path: The file.
        manifest: Its header.
        mapping: The mapped file. It lies on storage that others can write: hash what was copied out of
            it and compare with `group_digests` before use.
        offset: Where the record digests begin in it, in bytes; they end with the file.
    """

    __slots__ = ("manifest", "mapping", "offset", "path")

    def __init__(self, path: Path, manifest: Manifest, mapping: mmap.mmap, offset: int) -> None:
        self.path = path
        self.manifest = manifest
        self.mapping = mapping
        self.offset = offset

    @classmethod
    def open(cls, path: Path) -> ManifestFile:
        """Opens a manifest and checks everything but the digests.

        Raises:
            ManifestError: If the file is missing or not exactly a manifest: magic line, limits,
                canonical header, zero padding, length.
        """
        try:
            with files.open_regular(path) as stream:
                mapping = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # ValueError: an empty file cannot be mapped
            raise ManifestError(f"{path}: cannot be read as a manifest: {error}") from error
        manifest, offset = _read_head(path, mapping)
        expected = offset + manifest.records * records.DIGEST_BYTES
        if len(mapping) != expected:
            raise ManifestError(
                f"{path}: expected {expected} bytes, got {len(mapping)}: truncated or extended"
            )
        return cls(path, manifest, mapping, offset)

    def group_digests(self) -> bytes:
        """Reads the whole array once and returns its group digests, 32 bytes per 64 records.

        Raises:
            ManifestError: If they do not lead to the root in the header.
        """
        groups = bytearray()
        for start in range(self.offset, len(self.mapping), _READ_BYTES):
            groups += records.group_digests(self.mapping[start : start + _READ_BYTES])
        _check_root(self.path, self.manifest, groups)
        return bytes(groups)

    def close(self) -> None:
        """Unmaps the file."""
        self.mapping.close()

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Unmaps the file."""
        self.close()


def read(path: Path, *, each: Callable[[bytes], object] = bytes) -> Manifest:
    """Reads a manifest once, from beginning to end, and returns its header; every digest was checked.

    Nothing is mapped: a file that is cut short while it is read is an error, not a signal.

    Args:
        path: The file.
        each: Called with the record digests, some groups at a time, in order. What it makes of them counts
            only when `read` has returned: the root is checked last.

    Raises:
        ManifestError: If the file is missing, or not exactly a manifest, or its digests do not lead to the
            root in its header.
    """
    groups = bytearray()
    try:
        with io.BufferedReader(files.open_regular(path)) as stream:
            manifest, _ = _read_head(path, stream)
            left = manifest.records * records.DIGEST_BYTES
            while digests := stream.read(min(left, _READ_BYTES)):
                groups += records.group_digests(digests)
                each(digests)
                left -= len(digests)
            extended = stream.read(1)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read as a manifest: {error}") from error
    if left or extended:
        raise ManifestError(f"{path}: truncated or extended: expected {manifest.records} record digests")
    _check_root(path, manifest, groups)
    return manifest


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


def groups_root(groups: bytes | bytearray) -> Digest:
    """Returns the history root over group digests, given 32 bytes each."""
    size = records.DIGEST_BYTES
    log = history.History()
    for at in range(0, len(groups), size):
        log.append(bytes(groups[at : at + size]))
    return Digest(TAGGED_SHA256, log.root())


def head(manifest: Manifest) -> bytes:
    """Returns what stands before the record digests in a manifest's file: magic line, header, padding."""
    header = manifest.encode()
    length = len(MAGIC) + _LENGTH_BYTES + len(header)
    return MAGIC + len(header).to_bytes(_LENGTH_BYTES, "big") + header + bytes(-length % ALIGNMENT_BYTES)


def decode_header(data: bytes, *, what: str) -> Manifest:
    """Parses the header of a manifest.

    Args:
        data: Its canonical bytes.
        what: Name of the file, for messages.

    Raises:
        ManifestError: If they are not exactly a header.
    """
    try:
        value = decode_json(data, what=what, max_bytes=MAX_HEADER_BYTES)
    except EncodingError as error:
        raise ManifestError(str(error)) from error
    return from_json(Manifest, value, what=what, error=ManifestError)


def read_header(path: Path) -> Manifest:
    """Reads the header of a manifest alone: nothing says yet that the record digests are its own.

    Raises:
        ManifestError: If the file is missing, or does not begin as a manifest does.
    """
    try:
        with io.BufferedReader(files.open_regular(path)) as stream:
            return _read_head(path, stream)[0]
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise ManifestError(f"{path}: cannot be read as a manifest: {error}") from error


def path_beside(dataset: Path) -> Path:
    """Returns where a dataset's manifest lies: inside a folder, beside a file."""
    if dataset.is_dir():
        return dataset / f"manifest{SUFFIX}"
    return dataset.with_name(dataset.name + SUFFIX)


def _read_head(path: Path, stream: mmap.mmap | BinaryIO) -> tuple[Manifest, int]:
    """Reads magic line, header and padding; returns the header and the offset of the digests."""
    start = len(MAGIC) + _LENGTH_BYTES
    begin = stream.read(start)
    if not begin.startswith(MAGIC):
        raise ManifestError(f"{path}: expected a file that begins {MAGIC!r}, got {begin[: len(MAGIC)]!r}")
    length = int.from_bytes(begin[len(MAGIC) :], "big")
    if length > MAX_HEADER_BYTES:
        raise ManifestError(f"{path}: expected a header of at most {MAX_HEADER_BYTES} bytes, got {length}")
    offset = start + length + -(start + length) % ALIGNMENT_BYTES
    rest = stream.read(offset - start)
    if len(begin) + len(rest) < offset:
        raise ManifestError(f"{path}: expected at least {offset} bytes: truncated")
    if any(rest[length:]):
        raise ManifestError(f"{path}: expected zero bytes between header and digests")
    return decode_header(rest[:length], what=str(path)), offset


def _check_root(path: Path, manifest: Manifest, groups: bytes | bytearray) -> None:
    root = groups_root(groups)
    if root != manifest.digests_root:
        raise ManifestError(
            f"{path}: the record digests do not lead to the header's root: expected "
            f"{manifest.digests_root}, got {root}; run `palm-torch measure` again"
        )


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
