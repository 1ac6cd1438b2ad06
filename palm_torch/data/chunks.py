"""A file that is read at any offset: every chunk it touches is copied once, hashed, and compared.

A slice of 100 bytes costs one chunk of 4,096: it is the chunk that has a digest, that the manifest knows and
that is counted. Verified copies of a few chunks stay in private memory, so that neighbouring slices share the
hashing; what is counted is what was delivered, whether it was hashed for it or before.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
import struct
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from blake3 import blake3

from palm_torch import private_files, recorder
from palm_torch.commit import records
from palm_torch.data import carrier, expected_manifest, open_datasets, same_files
from palm_torch.data.formats import chunks
from palm_torch.data.formats.table import map_file
from palm_torch.data.open_datasets import DatasetInfo
from palm_torch.encoding import length_prefixed
from palm_torch.errors import DataError, ManifestError, PalmTorchError, RecordError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_torch.data.group_table import GroupTable

K = TypeVar("K")
T = TypeVar("T")

KEPT_CHUNKS: Final = 1024
"""Verified chunks that a process keeps, over all files: 4 MiB."""
KEPT_GROUPS: Final = 8192
"""Verified groups of record digests that a process keeps, over all manifests: 16 MiB, for 2 GiB of data."""

KEPT_FILES: Final = 64
"""Open files that a process keeps though nobody holds them: loops open one anew for every slice."""

_SHIFT: Final = chunks.CHUNK_BYTES.bit_length() - 1
_WITHIN: Final = chunks.CHUNK_BYTES - 1
_NUMBER: Final = struct.Struct("<q")
_leave, _Note = carrier.leave, carrier.Note  # looked up once: a slice costs a few microseconds
_PLAIN: Final = records.record_key()
_kept_chunks: Final[dict[int, tuple[bytes, bytes]]] = {}
_kept_groups: Final[dict[int, bytes]] = {}
_serial: Final = itertools.count()
_opened: Final[weakref.WeakValueDictionary[tuple[object, ...], ChunkedFile]] = weakref.WeakValueDictionary()
_kept_files: Final[dict[tuple[object, ...], ChunkedFile]] = {}


class ChunkedFile:
    """One file by its chunks, as a dataset of format ``chunks``.

    Ask `open_file` for one: the same file is one dataset, however often a script opens it.

    Attributes:
        info: What a session needs to know about it.
        uid: The dataset's name, the same in every process that opens the file in the same way and finds the
            same manifest.
        size_bytes: Size of the file.
    """

    def __init__(self, path: Path, key: bytes, table: GroupTable | None, name: str) -> None:
        self._key = key
        self._table = table
        self._view = chunks.Chunks(map_file(path))
        self._mapping = self._view.mapping
        if key != _PLAIN:
            private_files.keep([path])
        self._idle: list[blake3] = []
        self._base = next(_serial) << 44  # this object's place among the copies that are kept
        self.size_bytes = self._view.size_bytes
        self.info = DatasetInfo(
            name=name,
            path=path,
            layout=self._view.layout,
            records=self._view.records,
            table=table,
            same=same_files.proof([path], key),
        )
        self.uid = self.info.uid
        open_datasets.register(self)

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[bytearray]:
        """Reads parts of the file and leaves one note of all chunks they touch, in order.

        Args:
            ranges: First byte and the byte after the last of each part; none is empty, all lie in the file.

        Returns:
            The bytes of each part, in private memory.

        Raises:
            RecordError: If a chunk's bytes are not those of the manifest.
            ManifestError: If the manifest was rewritten since it was opened.
        """
        numbers: list[int] = []
        digests: list[bytes] = []
        parts: list[bytearray] = []
        kept, base = _kept_chunks, self._base
        try:
            for start, stop in ranges:
                first, last = start >> _SHIFT, (stop - 1) >> _SHIFT
                origin = first << _SHIFT
                chunk, digest = kept.get(base + first) or self._verified(first)
                numbers.append(first)
                digests.append(digest)
                part = bytearray(chunk[start - origin : stop - origin])
                for number in range(first + 1, last + 1):
                    chunk, digest = kept.get(base + number) or self._verified(number)
                    numbers.append(number)
                    digests.append(digest)
                    part += chunk if number < last else chunk[: stop - (last << _SHIFT)]
                parts.append(part)
        except PalmTorchError as error:
            _failed(error)
            raise
        indices = _NUMBER.pack(*numbers) if len(numbers) == 1 else struct.pack(f"<{len(numbers)}q", *numbers)
        _leave(_Note(self.uid, indices, b"".join(digests), self._table is None))
        return parts

    def read_part(self, start: int, stop: int) -> bytearray:
        """Reads one part of the file as `read` does; what lies in one chunk, as short slices do, costs less.

        Raises:
            RecordError: As `read`.
            ManifestError: As `read`.
        """
        number = start >> _SHIFT
        if (stop - 1) >> _SHIFT != number:
            return self.read(((start, stop),))[0]
        try:
            chunk, digest = _kept_chunks.get(self._base + number) or self._verified(number)
        except PalmTorchError as error:
            _failed(error)
            raise
        _leave(_Note(self.uid, _NUMBER.pack(number), digest, self._table is None))
        return bytearray(chunk[start & _WITHIN : (stop - 1 & _WITHIN) + 1])

    def chunk(self, number: int) -> bytes:
        """Returns a verified private copy of a chunk, without delivering it.

        Raises:
            RecordError: As `read`.
            ManifestError: As `read`.
        """
        return (_kept_chunks.get(self._base + number) or self._verified(number))[0]

    def _verified(self, number: int) -> tuple[bytes, bytes]:
        """Copies a chunk out of the mapping, hashes the copy and compares it; returns copy and digest."""
        copy = self._mapping[number << _SHIFT : (number + 1) << _SHIFT]
        try:
            hasher = self._idle.pop()  # every thread has its own
            hasher.reset()
        except IndexError:
            hasher = blake3(key=self._key)
        hasher.update(copy)
        digest = hasher.digest()
        self._idle.append(hasher)
        if self._table is not None:
            place = self._base + (number >> 6)
            group = _kept_groups.get(place)
            if group is None:
                group = _kept_groups[place] = self._table.group(number >> 6)
                if len(_kept_groups) > KEPT_GROUPS:
                    _let_go(_kept_groups)
            if not group.startswith(digest, (number & 63) * records.DIGEST_BYTES):
                raise RecordError(
                    f"{self.info.path}: chunk {number} ({self._view.where(number)}) is not the chunk the "
                    "manifest was made of: the file was changed, or another salt was given; restore the "
                    "file, or run `palm-torch measure --windows` again if the change is meant"
                )
        found = _kept_chunks[self._base + number] = copy, digest
        if len(_kept_chunks) > KEPT_CHUNKS:
            _let_go(_kept_chunks)
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Returns what a copy in another process needs to open the same file."""
        info = self.info
        return {
            "path": info.path,
            "key": self._key,
            "table": info.table,
            "name": info.name,
            "size": self.size_bytes,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Opens the file again and refuses it if its size changed meanwhile."""
        ChunkedFile.__init__(self, state["path"], state["key"], state["table"], state["name"])
        if self.size_bytes != state["size"]:
            kind = DataError if state["table"] is None else ManifestError
            raise kind(
                f"{state['path']}: the file changed while it was on its way to a worker: expected "
                f"{state['size']} bytes, got {self.size_bytes}"
            )


def open_file(
    path: str | os.PathLike[str],
    *,
    manifest: str | os.PathLike[str] | None = "auto",
    salt: bytes | None = None,
) -> ChunkedFile:
    """Opens a file by its chunks; a file that is open already is not opened again unless it was written to.

    Args:
        path: The file, of any type.
        manifest: ``"auto"`` takes the manifest of its chunks beside it if there is one; a path insists on
            that one; None reads without, so that a changed chunk is not noticed but only counted.
        salt: Secret that keys the digests of private data.

    Raises:
        DataError: If the file is missing or empty.
        ManifestError: If the manifest does not parse, or is not that of this file's chunks.
    """
    where = Path(os.path.abspath(path))  # noqa: PTH100 (Path.absolute leaves ".." in, resolve costs more)
    try:
        status = where.stat()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise DataError(f"{where}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    found, written = _manifest_of(where, manifest)
    place = (str(where), str(found or ""), salt)
    seen = (*place, _seen(status), written)
    known = _opened.get(seen)
    if known is None:
        table = None if found is None else _table(where, status.st_size, found, salted=salt is not None)
        key = records.record_key(salt)
        told = "\0".join(map(str, (where, status.st_dev, status.st_ino, status.st_size)))
        name = hashlib.sha256(length_prefixed(told.encode("utf-8", "surrogateescape")) + key).hexdigest()[:32]
        known = ChunkedFile(where, key, table, name)
        if known.size_bytes != status.st_size:
            raise DataError(
                f"{where}: the file changed while it was opened: expected {status.st_size} bytes, got "
                f"{known.size_bytes}"
            )
        _opened[seen] = known
    if _kept_files.get(place) is not known:  # what was kept of a file that was written to since is let go
        _kept_files[place] = known
        if len(_kept_files) > KEPT_FILES:
            _let_go(_kept_files)
    return known


def _failed(error: PalmTorchError) -> None:
    """Remembers an error: a script that swallows it gets no evidence."""
    recorder.failed(error)
    carrier.note_failure(error)


def _seen(status: os.stat_result) -> tuple[int, ...]:
    """Returns what changes when a file is written to or replaced."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _manifest_of(
    where: Path, manifest: str | os.PathLike[str] | None
) -> tuple[Path | None, tuple[int, ...] | None]:
    """Returns the manifest to compare with, and what is seen of its file."""
    if manifest is None:
        return None, None
    found = chunks.manifest_path(where) if manifest == "auto" else Path(manifest)
    try:
        status = found.stat()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        if manifest == "auto" and isinstance(error, FileNotFoundError):
            return None, None
        reason = getattr(error, "strerror", None) or error
        raise ManifestError(f"{found}: cannot be read as a manifest: {reason}") from error
    if manifest == "auto" and not stat.S_ISREG(status.st_mode):
        raise ManifestError(f"{found}: expected a manifest, got no regular file")
    return found, _seen(status)


def _table(where: Path, size: int, path: Path, *, salted: bool) -> GroupTable:
    remedy = f"run `palm-torch measure --windows {where}` again if the change is meant"
    count = -(-size // chunks.CHUNK_BYTES)
    table = expected_manifest.open_table(
        path, of=str(where), kind=chunks.NAME, records=count, salted=salted, remedy=remedy
    )
    sizes = [shard.bytes for shard in table.file.manifest.shards]
    if sizes != [size]:
        raise ManifestError(
            f"{path}: not the manifest of {where}: expected {sizes} bytes, got {size}: {remedy}"
        )
    return table


def _let_go(kept: dict[K, T]) -> None:
    """Lets the older half of what is kept go."""
    for place in list(kept)[: len(kept) // 2]:
        kept.pop(place, None)
