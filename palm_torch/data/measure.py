"""Measuring a dataset: one pass over every file makes the manifest.

This is what the paper calls binding (PAL*M, arXiv 2601.16199): afterwards each record can be authenticated
when it is read, and the dataset has one name. Memory stays bounded whatever the size of the data; the
digests wait in an unnamed temporary file until the header before them can be written.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from blake3 import blake3

from palm_torch.commit import manifest as manifests
from palm_torch.commit import multiset, records
from palm_torch.data import shards
from palm_torch.data.carrier import NUMBER
from palm_torch.data.formats import table
from palm_torch.digest import SHA256, Digest
from palm_torch.errors import DataError, EncodingError
from palm_torch.files import write_atomically
from palm_torch.roles import Multiset

if TYPE_CHECKING:
    import io
    import os
    from collections.abc import Callable, Iterator

_READ_BYTES: Final = 4 << 20
_COPY_BYTES: Final = 1 << 20


def measure(
    path: str | os.PathLike[str],
    *,
    record_length: int | None = None,
    token_dtype: str | None = None,
    salt: bytes | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> manifests.Manifest:
    """Reads every file of a dataset once and writes the manifest beside it.

    Args:
        path: A ``.bin`` or ``.npy`` file, or a folder of one kind of them.
        record_length: Elements per record, where the files do not say it.
        token_dtype: Stored element type by its numpy name; ``"uint16"`` for ``.bin`` unless given.
        salt: Secret that keys the record digests, for private data; needed again whenever they are read.
        progress: Called with (bytes read so far, bytes in all) after every few MiB.

    Returns:
        The manifest as written. One that was there is replaced, or stays untouched if this fails.

    Raises:
        DataError: If the data is missing, empty, ragged or mixed, changes while it is read, or the
            manifest cannot be written (no permission, disk full); nothing half-written stays.
    """
    where = Path(path)
    files = shards.open_all(where, table.Wanted(record_length, token_dtype))
    target = manifests.path_beside(where)
    with _spool(target) as spool, _naming(where):
        work = _Pass(spool, records.record_key(salt), sum(file.size_bytes for file in files), progress)
        entries = tuple(work.shard(file) for file in files)
        layout = files[0].view.layout
        total = sum(entry.records for entry in entries)
        manifest = manifests.Manifest(
            version=1,
            format=layout.format,
            dtype=layout.dtype,
            record_shape=layout.shape,
            record_bytes=layout.record_bytes,
            columns=layout.columns,
            records=total,
            shards=entries,
            digests_root=work.finish(),
            multiset=Multiset(
                scheme=work.multiset.parameters.name, count=total, state=work.multiset.state.hex()
            ),
            salted=salt is not None,
        )
        spool.seek(0)
        copied = iter(lambda: spool.read(_COPY_BYTES), b"")
        write_atomically(target, itertools.chain([manifests.head(manifest)], copied), error=DataError)
    return manifest


class _Pass:
    """One pass over the files: hashes, digests and multiset so far."""

    def __init__(
        self, spool: IO[bytes], key: bytes, total_bytes: int, progress: Callable[[int, int], None] | None
    ) -> None:
        self.multiset = multiset.MultisetHash(number=NUMBER)
        self._spool = spool
        self._record_hasher = blake3(key=key)
        self._total_bytes = total_bytes
        self._progress = progress
        self._done_bytes = 0
        self._groups = bytearray()
        self._pending = b""

    def shard(self, file: shards.ShardFile) -> manifests.Shard:
        """Reads one file from its first byte to its last."""
        size = file.view.layout.record_bytes
        whole = hashlib.sha256()
        counted = 0
        for read_bytes, part in self._parts(file, whole.update):
            digests = self._digests(part, size)
            counted += len(digests) // records.DIGEST_BYTES
            self._take(digests)
            self._done_bytes += read_bytes
            if self._progress is not None:
                self._progress(self._done_bytes, self._total_bytes)
        if counted != file.view.records:
            raise DataError(
                f"{file.path}: expected {file.view.records} records, got {counted}: it changed meanwhile"
            )
        return manifests.Shard(file.name, file.size_bytes, counted, Digest(SHA256, whole.digest()))

    def finish(self) -> Digest:
        """Closes the last group and returns the root over all groups."""
        self._groups += records.group_digests(self._pending)
        return manifests.groups_root(self._groups)

    def _parts(
        self, file: shards.ShardFile, hash_whole: Callable[[memoryview], None]
    ) -> Iterator[tuple[int, memoryview]]:
        """Yields (bytes read, whole records) until the file ends; every byte is also hashed as such."""
        size = file.view.layout.record_bytes
        room = memoryview(bytearray(max(size, _READ_BYTES // size * size)))
        try:
            with file.path.open("rb", buffering=0) as stream:
                before = stream.read(file.view.offset)
                hash_whole(memoryview(before))
                read = len(before)
                while got := _fill(stream, room):
                    hash_whole(room[:got])
                    if got % size:
                        raise DataError(f"{file.path}: its length changed while it was read")
                    yield read + got, room[:got]
                    read = 0
        except OSError as error:
            raise DataError(f"{file.path}: cannot be read: {error.strerror or error}") from error

    def _digests(self, part: memoryview, size: int) -> bytes:
        hasher = self._record_hasher
        reset, update, digest = hasher.reset, hasher.update, hasher.digest
        found: list[bytes] = []
        append = found.append
        for start in range(0, len(part), size):
            reset()
            update(part[start : start + size])
            append(digest())
        return b"".join(found)

    def _take(self, digests: bytes) -> None:
        self._spool.write(digests)
        self.multiset.add_many(digests)
        pending = self._pending + digests
        whole = len(pending) // records.GROUP_BYTES * records.GROUP_BYTES
        self._groups += records.group_digests(pending[:whole])
        self._pending = pending[whole:]


@contextlib.contextmanager
def _naming(where: Path) -> Iterator[None]:
    """Turns what a manifest cannot say (a file name with a backslash, say) into an error of the dataset."""
    try:
        yield
    except EncodingError as error:
        raise DataError(f"{where}: no manifest can be written: {error}") from error


@contextlib.contextmanager
def _spool(target: Path) -> Iterator[IO[bytes]]:
    """Opens an unnamed temporary file on the disk that the manifest will be written to."""
    try:
        with tempfile.TemporaryFile(dir=target.parent) as stream:
            yield stream
    except OSError as error:
        raise DataError(
            f"{target}: the manifest cannot be written: {error.strerror or error}; nothing was left behind"
        ) from error


def _fill(stream: io.FileIO, room: memoryview) -> int:
    """Reads until the room is full or the file ends; returns the number of bytes."""
    filled = 0
    while filled < len(room):
        got = stream.readinto(room[filled:])
        if not got:
            break
        filled += got
    return filled
