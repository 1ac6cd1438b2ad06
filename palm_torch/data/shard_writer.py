"""`ShardWriter`: writes a dataset, hashing every byte before it leaves the process.

Records gather in private memory until a shard is full. Its record digests and its SHA-256 are taken of those
bytes, and then the bytes go to the disk; what happens to them there is for whoever reads the dataset to find
out, with the manifest. All of it lies in a hidden folder, which gets its name when the manifest is written.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from blake3 import blake3

from palm_torch import private_files, recorder
from palm_torch.commit import manifest as manifests
from palm_torch.commit import manifest_file, records
from palm_torch.data import described, written_records
from palm_torch.data.measuring.writing import ManifestWriter
from palm_torch.digest import SHA256, Digest
from palm_torch.errors import DataError, SessionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import TracebackType

    from palm_torch.commit.manifest import Manifest

SHARD_BYTES: Final = 64 << 20
"""Size at which a shard is closed: so much memory does a writer take."""

MAX_NAME_CHARACTERS: Final = 100


class ShardWriter:
    """Writes a folder of shards and their manifest; used in a ``with`` block.

    The folder appears when the block ends well, whole. Inside ``attested("preprocess")`` it is the session's
    product; several writers are several products, such as splits.

    Example:
        >>> with ShardWriter("tokens/train", record_length=512) as train:  # doctest: +SKIP
        ...     train.write(tokens)

    Args:
        path: The folder to make. One that is there must be empty.
        format: ``bin`` (a flat row of elements), ``npy`` (an array a shard) or ``jsonl`` (a line a record).
        record_length: Elements per record of a ``bin``; the first record decides if None.
        dtype: Stored element type of ``bin`` and ``npy``, by its numpy name; ``uint16`` for ``bin`` and the
            first record's for ``npy`` if None.
        name: What evidence calls the product; the folder's name if None.
        salt: Secret that keys the record digests, for private data; needed again to read it.
        shard_bytes: Size at which a shard is closed.

    Attributes:
        manifest: The manifest, once the block has ended well.

    Raises:
        DataError: If the folder is there and not empty, or an argument cannot be.
        SessionError: Inside a session of another operation, or if a product of that name was begun.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        format: str = "bin",  # noqa: A002 (the word for it everywhere else)
        record_length: int | None = None,
        dtype: str | None = None,
        name: str | None = None,
        salt: bytes | None = None,
        shard_bytes: int = SHARD_BYTES,
    ) -> None:
        self._path = Path(path).absolute()
        self._name = _checked(self._path.name if name is None else name)
        self._format = written_records.format_of(format, record_length=record_length, dtype=dtype)
        if shard_bytes < 1:
            raise DataError(f"shard_bytes: expected at least 1, got {shard_bytes}")
        self._shard_bytes = shard_bytes
        records.check_salt(salt)
        self._salt = salt
        self._state = "new"
        self._keeper: recorder.Keeper | None = None
        self._stack = contextlib.ExitStack()
        self._bytes = bytearray()
        self._ends: list[int] = []
        self._shards: list[manifests.Shard] = []
        self.manifest: Manifest | None = None

    def __enter__(self) -> Self:
        """Makes the hidden folder, and tells the session if there is one."""
        if self._state != "new":
            raise SessionError(f"ShardWriter: used once; this one is {self._state}")
        with self._saying():
            if self._path.exists() and (not self._path.is_dir() or any(self._path.iterdir())):
                raise DataError(f"{self._path}: expected no file and no full folder there; name a new folder")
            self._path.parent.mkdir(parents=True, exist_ok=True)
        self._keeper = _keeper()
        if self._keeper is not None:
            self._keeper.begin_output(self._name)
        with contextlib.ExitStack() as stack, self._saying():
            hidden = tempfile.mkdtemp(
                prefix=f".{self._path.name}.", suffix=".palm-partial", dir=self._path.parent
            )
            stack.callback(shutil.rmtree, hidden, ignore_errors=True)
            self._folder = Path(hidden)
            self._manifest = stack.enter_context(ManifestWriter(manifest_file.path_beside(self._folder)))
            self._stack = stack.pop_all()
        self._state = "open"
        return self

    def write(self, record: object) -> None:
        """Appends one record.

        Args:
            record: Elements, as a tensor, an array or a list of numbers; for ``jsonl`` any JSON value, or the
                bytes of a line without its line feed.

        Raises:
            DataError: If it is no record of this dataset; nothing of it is written.
            SessionError: Outside of the block.
        """
        if self._state != "open":
            raise SessionError(
                f"ShardWriter.write: the writer is {self._state}; call it inside its with block"
            )
        at = sum(shard.records for shard in self._shards) + len(self._ends)
        data = self._format.encode(record, where=f"{self._path}: record {at}")
        if self._ends and len(self._bytes) + len(data) > self._shard_bytes:
            self._close_shard()
        self._bytes += data
        self._ends.append(len(self._bytes))

    def write_all(self, items: Iterable[object]) -> None:
        """Appends every record of `items`; see `write`."""
        for item in items:
            self.write(item)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Writes the manifest and gives the folder its name, unless the block raised: then nothing stays."""
        self._state = "given up"
        with self._stack:
            if error is not None:
                return
            if self._ends:
                self._close_shard()
            if not self._shards:
                raise DataError(f"{self._path}: no record was written; a dataset has at least one")
            layout = self._format.layout()
            manifest = self._manifest.finish(
                layout=layout, shards=self._shards, salted=self._salt is not None
            )
            with self._saying():
                _settle(self._folder)
                self._folder.rename(self._path)
                _flush(self._path.parent)
        self.manifest, self._state = manifest, "written"
        if self._keeper is not None:
            self._keeper.end_output(self._name, described.written(manifest))

    # ------------------------------------------------------------------------------------------------------

    def _close_shard(self) -> None:
        """Hashes the records that wait, and only then writes them."""
        data, ends = bytes(self._bytes), self._ends
        key = records.record_key(self._salt, kind=self._format.layout().kind)
        hasher = blake3(key=key)
        pieces = []
        view = memoryview(data)
        for start, end in itertools.pairwise([0, *ends]):
            one = hasher.copy()
            one.update(self._format.record(view[start:end]))
            pieces.append(one.digest())
        digests = b"".join(pieces)
        self._manifest.add(digests)
        self._manifest.multiset.add_many(digests)
        head = self._format.head(len(ends))
        name = f"shard-{len(self._shards):05d}.{self._format.suffix}"
        whole = hashlib.sha256(head)
        whole.update(data)
        with self._saying(), (self._folder / name).open("xb", buffering=0) as stream:
            for part in (head, data):
                _write(stream.fileno(), part)
            os.fsync(stream.fileno())
        if self._salt is not None:
            private_files.keep([self._path / name])
        self._shards.append(
            manifests.Shard(
                name,
                len(head) + len(data),
                len(ends),
                Digest(SHA256, whole.digest()) if self._salt is None else None,
            )
        )
        self._bytes.clear()
        self._ends = []

    @contextlib.contextmanager
    def _saying(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(
                f"{self._path}: cannot be written: {error.strerror or error}; nothing was left behind"
            ) from error


def _keeper() -> recorder.Keeper | None:
    running = recorder.current()
    if running is None:
        return None
    if not isinstance(running, recorder.Keeper):
        raise SessionError("ShardWriter: what records here keeps no datasets that are written")
    return running


def _checked(name: str) -> str:
    if not 0 < len(name) <= MAX_NAME_CHARACTERS or not name.isprintable() or "." in name:
        raise DataError(
            f"name: expected 1 to {MAX_NAME_CHARACTERS} printable characters without a dot, got "
            f"{name[:MAX_NAME_CHARACTERS]!r}: the path is that of a folder to make; or pass name="
        )
    return name


def _write(descriptor: int, data: bytes) -> None:
    view, done = memoryview(data), 0
    while done < len(view):
        done += os.write(descriptor, view[done:])


def _settle(folder: Path) -> None:
    """Gives a finished folder the rights that folders have, and flushes its list of names."""
    mask = os.umask(0)
    os.umask(mask)
    folder.chmod(0o777 & ~mask)
    _flush(folder)


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
