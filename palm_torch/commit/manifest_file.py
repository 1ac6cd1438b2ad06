"""The file of a manifest: its header, and after it the digest of every record.

A manifest is one file: a magic line, a canonical JSON header, zero padding to a multiple of 64 bytes, then
the record digests, 32 bytes each. Records are taken in groups of 64; the root of the history tree over the
group digests stands in the header. Its reader never trusts the array again after the root was checked:
the group digests are kept in private memory, and every later look-up hashes the group it copied out.

What the header says: `palm_torch.commit.manifest`. Byte table: docs/spec/40-data.md, section 2.
"""

from __future__ import annotations

import io
import mmap
from typing import TYPE_CHECKING, Final, Self

from palm_torch import files
from palm_torch.commit import history, records
from palm_torch.commit import manifest as manifests
from palm_torch.digest import TAGGED_SHA256, Digest
from palm_torch.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import TracebackType
    from typing import BinaryIO

    from palm_torch.commit.manifest import Manifest

MAGIC: Final = b"palm-torch manifest v1\n"
SUFFIX: Final = ".palm-manifest"
ALIGNMENT_BYTES: Final = 64

_LENGTH_BYTES: Final = 4
_READ_BYTES: Final = records.GROUP_BYTES * 512


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


def _read_head(path: Path, stream: mmap.mmap | BinaryIO) -> tuple[Manifest, int]:
    """Reads magic line, header and padding; returns the header and the offset of the digests."""
    start = len(MAGIC) + _LENGTH_BYTES
    begin = stream.read(start)
    if not begin.startswith(MAGIC):
        raise ManifestError(f"{path}: expected a file that begins {MAGIC!r}, got {begin[: len(MAGIC)]!r}")
    length = int.from_bytes(begin[len(MAGIC) :], "big")
    if length > manifests.MAX_HEADER_BYTES:
        raise ManifestError(
            f"{path}: expected a header of at most {manifests.MAX_HEADER_BYTES} bytes, got {length}"
        )
    offset = start + length + -(start + length) % ALIGNMENT_BYTES
    rest = stream.read(offset - start)
    if len(begin) + len(rest) < offset:
        raise ManifestError(f"{path}: expected at least {offset} bytes: truncated")
    if any(rest[length:]):
        raise ManifestError(f"{path}: expected zero bytes between header and digests")
    return manifests.decode_header(rest[:length], what=str(path)), offset


def _check_root(path: Path, manifest: Manifest, groups: bytes | bytearray) -> None:
    root = groups_root(groups)
    if root != manifest.digests_root:
        raise ManifestError(
            f"{path}: the record digests do not lead to the header's root: expected "
            f"{manifest.digests_root}, got {root}; run `palm-torch measure` again"
        )
