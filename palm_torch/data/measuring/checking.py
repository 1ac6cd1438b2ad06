"""Checking a dataset against its manifest: every record, every product, every file, once."""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING

from palm_torch.commit import multiset
from palm_torch.commit.records import DIGEST_BYTES, GROUP_RECORDS
from palm_torch.data import authentic
from palm_torch.data.formats import table
from palm_torch.data.measuring import units
from palm_torch.data.measuring.job import Progress
from palm_torch.data.measuring.writing import NUMBER
from palm_torch.errors import ManifestError, RecordError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from palm_torch.data.group_table import GroupTable
    from palm_torch.data.measuring.units import Unit
    from palm_torch.data.shards import ShardFile


class Check:
    """The work of comparing a dataset with its manifest; as `palm_torch.data.measuring.job.Work`.

    Args:
        files: The dataset's files, which are those the manifest names.
        table: The manifest, whose digests lead to its root.
        file_digests: Whether to compare the files' own SHA-256, where the manifest has them.
        workers: How many will share the work.
        progress: Called with (bytes so far, bytes in all).
    """

    def __init__(
        self,
        files: Sequence[ShardFile],
        table: GroupTable,
        *,
        file_digests: bool,
        workers: int,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self._files = files
        self._table = table
        self._progress = Progress(files, progress)
        self._starts = list(itertools.accumulate((file.view.records for file in files), initial=0))
        known = file_digests and all(shard.sha256 is not None for shard in table.file.manifest.shards)
        self._units = deque(units.divide(files, file_digests=known, workers=workers))
        self._multiset = multiset.MultisetHash(number=NUMBER)
        self._bad = 0
        self._first_bad: int | None = None
        self._bad_files: list[int] = []

    def next(self) -> Unit | None:
        """As in `Work`."""
        return self._units.popleft() if self._units else None

    def block(self, unit: Unit, first: int, digests: bytes) -> bool:
        """As in `Work`: the product is of no interest once a record is bad."""
        number = self._starts[unit.shard] + first
        count = len(digests) // DIGEST_BYTES
        expected = self._expected(number, count)
        if expected != digests:
            for at in range(0, len(digests), DIGEST_BYTES):
                if digests[at : at + DIGEST_BYTES] != expected[at : at + DIGEST_BYTES]:
                    self._found(number + at // DIGEST_BYTES)
        self._progress.add(unit.shard, count)
        return not self._bad

    def fold(self, digests: bytes, product: bytes) -> None:
        """As in `Work`."""
        self._multiset.multiply(product, len(digests) // DIGEST_BYTES)

    def done(self, unit: Unit, sha256: bytes | None) -> None:
        """As in `Work`."""
        said = self._table.file.manifest.shards[unit.shard].sha256
        if sha256 is not None and said is not None and said.value != sha256:
            self._bad_files.append(unit.shard)

    def finish(self) -> None:
        """Says what was found.

        Raises:
            RecordError: If a record, or a file beside its records, is not what the manifest was made of.
            ManifestError: If the manifest's multiset is not that of its records.
        """
        if self._first_bad is not None:
            raise self._changed(self._first_bad)
        if self._bad_files:
            file = self._files[min(self._bad_files)]
            raise RecordError(
                f"{file.path}: every record is as the manifest says, but the file is not: its SHA-256 "
                "differs, so bytes outside of the records were changed, such as a header"
            )
        said = self._table.file.manifest.multiset
        if (self._multiset.count, self._multiset.state.hex()) != (said.count, said.state):
            raise ManifestError(
                f"{self._table.file.path}: the multiset in the header is not that of the records; run "
                "`palm-torch measure` again"
            )

    def _expected(self, number: int, count: int) -> bytes:
        """Returns the manifest's digests of consecutive records, each group checked as it is copied out."""
        first, last = number // GROUP_RECORDS, (number + count - 1) // GROUP_RECORDS
        joined = b"".join(map(self._table.group, range(first, last + 1)))
        start = (number - first * GROUP_RECORDS) * DIGEST_BYTES
        return joined[start : start + count * DIGEST_BYTES]

    def _found(self, number: int) -> None:
        self._bad += 1
        self._first_bad = number if self._first_bad is None else min(self._first_bad, number)

    def _changed(self, number: int) -> RecordError:
        shard = next(at for at in range(len(self._files)) if number < self._starts[at + 1])
        file, within = self._files[shard], number - self._starts[shard]
        if isinstance(file.view, table.ShardView):
            _, _, size = file.view.layout.fixed()
            start = file.view.offset + within * size
            where = f"bytes {start} to {start + size - 1} of the file"
        else:
            where = file.view.where(within)
        more = self._bad - 1
        rest = f"; {more} more {'record differs' if more == 1 else 'records differ'}" if more else ""
        return RecordError(f"{authentic.changed(file.path, number, where)}{rest}")
