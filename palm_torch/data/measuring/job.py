"""Measuring as work that is given out and handed in: what is still to do, and what the results add up to."""

from __future__ import annotations

import dataclasses
import itertools
from collections import deque
from typing import TYPE_CHECKING, Protocol

from palm_torch.commit import manifest as manifests
from palm_torch.commit.records import DIGEST_BYTES
from palm_torch.data.formats import table
from palm_torch.data.measuring import products as reused
from palm_torch.data.measuring import units
from palm_torch.digest import SHA256, Digest
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from palm_torch.data.measuring.products import Products
    from palm_torch.data.measuring.units import Unit
    from palm_torch.data.measuring.writing import ManifestWriter
    from palm_torch.data.shards import ShardFile


class Work(Protocol):
    """Work on a dataset whose units can be done by anyone, in any order."""

    def next(self) -> Unit | None:
        """Returns a unit that nobody has yet, or None. More may come when a unit is `done`."""

    def block(self, unit: Unit, first: int, digests: bytes) -> bool:
        """Takes the next block of a unit; returns whether its product is still wanted, from `fold`.

        Args:
            unit: The unit.
            first: Number of the first record in the file.
            digests: n × 32 bytes.
        """

    def fold(self, digests: bytes, product: bytes) -> None:
        """Takes the product of a block: 384 bytes."""

    def done(self, unit: Unit, sha256: bytes | None) -> None:
        """Takes the end of a unit, with the file's SHA-256 if the unit asked for it."""


class Progress:
    """How many bytes of the files were looked at, from numbers of records."""

    def __init__(self, files: Sequence[ShardFile], tell: Callable[[int, int], None] | None) -> None:
        self._files = files
        self._tell = tell
        self._total = sum(file.size_bytes for file in files)
        self._records = [0] * len(files)
        self._done = 0

    def add(self, shard: int, count: int) -> None:
        """Counts records of a file."""
        file, before = self._files[shard], self._records[shard]
        after = self._records[shard] = before + count
        share = file.size_bytes, file.view.records
        self._done += share[0] * after // share[1] - share[0] * before // share[1]
        if self._tell is not None:
            self._tell(self._done, self._total)


class Measurement:
    """The work of making a manifest.

    Args:
        files: The dataset's files.
        writer: What collects the digests.
        file_digests: Whether the files' own SHA-256 are wanted.
        workers: How many will share the work.
        known: Results to reuse and to keep, or None.
        progress: Called with (bytes so far, bytes in all).
    """

    def __init__(
        self,
        files: Sequence[ShardFile],
        writer: ManifestWriter,
        *,
        file_digests: bool,
        workers: int,
        known: Products | None,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._files = files
        self._writer = writer
        self._known = known
        self._progress = Progress(files, progress)
        self._starts = list(itertools.accumulate((file.view.records for file in files), initial=0))
        self._sha256: dict[int, bytes] = {}
        self._names: dict[int, bytearray] = {}
        self._in_full: dict[int, Unit] = {}
        self._first_pass: dict[int, bytes] = {}
        self._units = deque(units.divide(files, file_digests=file_digests, workers=workers))
        if known is not None and known.names_files:
            self._units = deque(map(self._lighter, self._units))

    def next(self) -> Unit | None:
        """As in `Work`."""
        return self._units.popleft() if self._units else None

    def block(self, unit: Unit, first: int, digests: bytes) -> bool:
        """As in `Work`."""
        if self._known is None:
            self._put(unit, first, digests)
            return True
        name = reused.block_name(digests)
        if self._has_name(unit):
            self._names.setdefault(unit.shard, bytearray()).extend(name)
            if unit.shard in self._first_pass:
                return False
        self._put(unit, first, digests)
        product = self._known.product(name)
        if product is None:
            return True
        self._writer.multiset.multiply(product, len(digests) // DIGEST_BYTES)
        return False

    def fold(self, digests: bytes, product: bytes) -> None:
        """As in `Work`."""
        self._writer.multiset.multiply(product, len(digests) // DIGEST_BYTES)
        if self._known is not None:
            self._known.keep(reused.block_name(digests), product)

    def done(self, unit: Unit, sha256: bytes | None) -> None:
        """As in `Work`: a file without its SHA-256 that is none of those known is given out again, for both.

        Raises:
            DataError: If the second pass over a file did not find what the first one found.
        """
        shard = unit.shard
        if self._known is not None and self._has_name(unit):
            names = bytes(self._names.pop(shard))
            name = reused.file_name(self._files[shard].size_bytes, names)
            in_full = self._in_full.pop(shard, None)
            if in_full is not None:
                sha256 = self._known.sha256(name)
                if sha256 is None:
                    self._first_pass[shard] = names
                    self._units.append(in_full)
            elif sha256 is not None:
                if self._first_pass.pop(shard, names) != names:
                    raise DataError(f"{self._files[shard].path}: it changed while it was measured")
                self._known.keep(name, sha256)
        if sha256 is not None:
            self._sha256[shard] = sha256

    def shards(self) -> list[manifests.Shard]:
        """Returns what the manifest says of the files."""
        return [
            manifests.Shard(
                file.name,
                file.size_bytes,
                file.view.records,
                Digest(SHA256, self._sha256[number]) if number in self._sha256 else None,
            )
            for number, file in enumerate(self._files)
        ]

    def _has_name(self, unit: Unit) -> bool:
        """Whether the file is nothing but records, all of them in this unit, and its SHA-256 is wanted."""
        file = self._files[unit.shard]
        view = file.view
        if not isinstance(view, table.ShardView) or not (unit.hash_file or unit.shard in self._in_full):
            return False
        _, _, size = view.layout.fixed()
        return view.offset == 0 and view.records * size == file.size_bytes

    def _lighter(self, unit: Unit) -> Unit:
        """Returns a unit without the file's SHA-256, where that may be known."""
        if not self._has_name(unit):
            return unit
        self._in_full[unit.shard] = unit
        return dataclasses.replace(unit, hash_file=False, aside=False)

    def _put(self, unit: Unit, first: int, digests: bytes) -> None:
        self._writer.put(self._starts[unit.shard] + first, digests)
        self._progress.add(unit.shard, len(digests) // DIGEST_BYTES)
