"""Writing a manifest: record digests come in, in any order, and leave as one file that is whole or not there.

Digests wait in an unnamed temporary file until the header before them can be written. What the header says of
them (groups, root, multiset) is computed from the digests as they come in, and never from that file: whoever
rewrites it makes a manifest that no reader accepts.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from typing import IO, TYPE_CHECKING, Final, Self

import gmpy2  # type: ignore[import-untyped]

from palm_torch.commit import manifest as manifests
from palm_torch.commit import manifest_file, records
from palm_torch.commit import multiset as hashes
from palm_torch.errors import DataError, EncodingError
from palm_torch.files import write_atomically
from palm_torch.roles import Multiset

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType

    from palm_torch.data.formats.table import Layout

NUMBER: Final[type[int]] = gmpy2.mpz
"""Integer type for making multiset hashes."""

_COPY_BYTES: Final = 1 << 20
_FULL_GROUP: Final = (1 << records.GROUP_RECORDS) - 1


def write_manifest(
    target: Path,
    *,
    layout: Layout,
    shards: Sequence[manifests.Shard],
    digests: Iterable[bytes],
    multiset: hashes.MultisetHash | None = None,
    salted: bool = False,
) -> manifests.Manifest:
    """Writes the manifest of records whose digests are at hand, in their order.

    Args:
        target: Where the manifest shall be; one that is there is replaced, or stays untouched if this fails.
        layout: What the records are.
        shards: The files that hold them, in order; their records add up to the number of digests. Asked for
            after the last digest came, so a list may be filled meanwhile.
        digests: Record digests, n × 32 bytes a piece.
        multiset: The multiset hash over all of them, if it was computed along the way.
        salted: Whether the digests are keyed with a salt.

    Returns:
        The manifest as written.

    Raises:
        DataError: If there are no digests, the parts contradict each other, or the disk refuses.
    """
    with ManifestWriter(target) as writer:
        for part in digests:
            writer.add(part)
            if multiset is None:
                writer.multiset.add_many(part)
        if multiset is not None:
            writer.multiset.union(multiset)
        return writer.finish(layout=layout, shards=shards, salted=salted)


class ManifestWriter:
    """A manifest in the making: one owner, used in a ``with`` block, nothing stays behind without `finish`.

    Args:
        target: Where the manifest shall be.

    Attributes:
        records: Record digests that came in so far.
        multiset: The multiset hash of the records; whoever adds digests adds them here too, or their product.
    """

    def __init__(self, target: Path) -> None:
        self.records = 0
        self.multiset = hashes.MultisetHash(number=NUMBER)
        self._target = target
        self._open = contextlib.ExitStack()
        self._groups = bytearray()
        self._kept = 0
        self._partial: dict[int, tuple[bytearray, int]] = {}

    def __enter__(self) -> Self:
        """Opens an unnamed temporary file on the disk that the manifest will be written to."""
        with self._saying():
            self._spool: IO[bytes] = self._open.enter_context(
                tempfile.TemporaryFile(dir=self._target.parent, buffering=0)
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Lets go of the temporary file."""
        with self._saying():
            self._open.close()

    def add(self, digests: bytes) -> None:
        """Adds the digests of the records that come after all that were added so far.

        Raises:
            DataError: If they are not n × 32 bytes, or the disk refuses.
        """
        self.put(self.records, digests)

    def put(self, first: int, digests: bytes) -> None:
        """Adds digests of consecutive records; each record's once, in any order of calls.

        Args:
            first: Number of the first record in the dataset.
            digests: n × 32 bytes.

        Raises:
            DataError: If they are not n × 32 bytes, or the disk refuses.
        """
        count, over = divmod(len(digests), records.DIGEST_BYTES)
        if over or first < 0:
            raise DataError(f"record digests: expected n × 32 bytes, got {len(digests)} at record {first}")
        with self._saying():
            written, at = 0, first * records.DIGEST_BYTES
            view = memoryview(digests)
            while written < len(view):
                written += os.pwrite(self._spool.fileno(), view[written:], at + written)
        self._group(first, count, digests)
        self.records += count

    def finish(
        self, *, layout: Layout, shards: Sequence[manifests.Shard], salted: bool
    ) -> manifests.Manifest:
        """Writes the manifest, once every record's digest is there.

        Args:
            layout: What the records are.
            shards: The files that hold them, in order.
            salted: Whether the digests are keyed with a salt.

        Raises:
            DataError: If the parts contradict each other, or the disk refuses.
        """
        self._close_last_group()
        state = self.multiset.state.hex()
        try:
            manifest = manifests.Manifest(
                version=1,
                format=layout.format,
                dtype=layout.dtype,
                record_shape=layout.shape,
                record_bytes=layout.record_bytes,
                columns=layout.columns,
                records=self.records,
                shards=tuple(shards),
                digests_root=manifest_file.groups_root(self._groups),
                multiset=Multiset(
                    scheme=self.multiset.parameters.name, count=self.multiset.count, state=state
                ),
                salted=salted,
            )
            head = manifest_file.head(manifest)
        except EncodingError as error:
            raise DataError(f"{self._target}: no manifest can be written: {error}") from error
        with self._saying():
            self._spool.seek(0)
            copied = iter(lambda: self._spool.read(_COPY_BYTES), b"")
            write_atomically(self._target, itertools.chain([head], copied), error=DataError)
        return manifest

    def _group(self, first: int, count: int, digests: bytes) -> None:
        """Hashes the groups that lie wholly in these digests; the rest waits for what its group lacks."""
        size = records.GROUP_RECORDS
        whole_from, whole_to = -(-first // size), (first + count) // size
        if whole_from < whole_to:
            start = (whole_from * size - first) * records.DIGEST_BYTES
            stop = (whole_to * size - first) * records.DIGEST_BYTES
            self._keep(whole_from, records.group_digests(digests[start:stop]))
            self._part(first, digests[:start])
            self._part(whole_to * size, digests[stop:])
        else:
            middle = max(0, whole_from * size - first) * records.DIGEST_BYTES
            self._part(first, digests[:middle])
            self._part(whole_from * size, digests[middle:])

    def _part(self, first: int, digests: bytes) -> None:
        """Puts some digests of one group into their places; `held` has a bit for each place that is taken."""
        if not digests:
            return
        number, within = divmod(first, records.GROUP_RECORDS)
        room, held = self._partial.pop(number, (bytearray(records.GROUP_BYTES), 0))
        places = ((1 << len(digests) // records.DIGEST_BYTES) - 1) << within
        if held & places:
            raise self._incomplete()
        at = within * records.DIGEST_BYTES
        room[at : at + len(digests)] = digests
        if held | places == _FULL_GROUP:
            self._keep(number, records.group_digests(bytes(room)))
        else:
            self._partial[number] = room, held | places

    def _keep(self, number: int, groups: bytes) -> None:
        at = number * records.DIGEST_BYTES
        if at > len(self._groups):
            self._groups += bytes(at - len(self._groups))
        if any(self._groups[at : at + len(groups)]):
            raise self._incomplete()
        self._groups[at : at + len(groups)] = groups
        self._kept += len(groups) // records.DIGEST_BYTES

    def _close_last_group(self) -> None:
        number, within = divmod(self.records, records.GROUP_RECORDS)
        if within:
            room, held = self._partial.pop(number, (bytearray(), 0))
            if held == (1 << within) - 1:
                self._keep(number, records.group_digests(bytes(room[: within * records.DIGEST_BYTES])))
        expected = -(-self.records // records.GROUP_RECORDS)
        if self._partial or not self._kept == expected == len(self._groups) // records.DIGEST_BYTES:
            raise self._incomplete()

    def _incomplete(self) -> DataError:
        return DataError(f"{self._target}: the digests of some records are missing or came twice")

    @contextlib.contextmanager
    def _saying(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DataError(
                f"{self._target}: the manifest cannot be written: {error.strerror or error}; "
                "nothing was left behind"
            ) from error
