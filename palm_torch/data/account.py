"""What was delivered of one dataset for one use: multiplicities, order, multiset hash.

One byte per record to begin with, two or four once a count needs them. With a manifest the multiset hash
is not computed while training runs; it follows at the end from the manifest's own hash and the counts
(`palm_torch.data.derived`). Specification: docs/spec/40-data.md, sections 3 and 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from palm_torch import receipt
from palm_torch.commit import coverage, multiset, records
from palm_torch.data import derived
from palm_torch.data.carrier import NUMBER
from palm_torch.digest import TAGGED_SHA256, Digest, tagged_hash
from palm_torch.errors import CoverageError, EvidenceError
from palm_torch.roles import Counts, Delivered, Multiset

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from palm_torch.data.open_datasets import DatasetInfo
    from palm_torch.recorder import Reads

ORDER_TAG: Final = "palm-torch/order/v1"
ORDER_START: Final = bytes(32)
WAITING_BATCHES: Final = 64
"""Batches that may wait to be counted; some 40 bytes per record while they do."""

_WIDER: Final = {1: "<u2", 2: "<u4"}


@dataclass(frozen=True, slots=True)
class LedgerSummary:
    """What was delivered of one dataset for one use.

    Attributes:
        claim: The part that goes into the statement.
        counts: Counts per record, little endian, as a view of bytes: the coverage map's sidecar. None for a
            stream, which has none.
        itemsize: Width of a count in bytes.
    """

    claim: Delivered
    counts: memoryview | None
    itemsize: int


class Account:
    """Counts, order and product of one use.

    Args:
        size: Number of records in the dataset; None for a stream, whose records are not counted one by one.
        multiplies: Whether the multiset hash is multiplied batch by batch: no manifest tells it.
    """

    __slots__ = ("_counts", "_exact", "_order", "_padded", "_product", "_waiting")

    def __init__(self, size: int | None, *, multiplies: bool) -> None:
        self._counts: NDArray[Any] | None = None if size is None else np.zeros(size, dtype=np.uint8)
        self._order = ORDER_START
        self._exact = True
        self._padded: int | None = 0
        self._product = multiset.MultisetHash(number=NUMBER) if multiplies else None
        self._waiting: list[tuple[Reads, str]] = []

    @classmethod
    def resumed(
        cls, size: int | None, held: receipt.DeliveredSoFar, counts: bytes | None, *, multiplies: bool
    ) -> Account:
        """Goes on from what `held` returned.

        Args:
            size: Number of records in the dataset; None for a stream.
            held: The account as the checkpoint's receipt states it.
            counts: The multiplicities, as many little-endian counters of the least width that holds them;
                None for a stream.
            multiplies: As for the class.

        Raises:
            EvidenceError: If the counts are not those the receipt speaks of.
            DataError: If the multiset hash is out of range.
        """
        if (size is None) != (counts is None):
            raise EvidenceError("checkpoint: expected multiplicities exactly where records have an index")
        if (held.product is None) != (not multiplies):
            raise EvidenceError("checkpoint: expected a multiset hash exactly where there is no manifest")
        account = cls(size, multiplies=multiplies)
        if size is not None and counts is not None:
            account._counts = _counters(size, held, counts)
        elif held.product is None or held.product.count != held.delivered:
            raise EvidenceError(
                f"checkpoint: expected a multiset hash of {held.delivered} records of a stream"
            )
        account._order, account._exact = held.order.value, held.exact
        account._padded = held.padded
        if held.product is not None:
            account._product = multiset.MultisetHash.from_state(
                bytes.fromhex(held.product.state), held.product.count, number=NUMBER
            )
        return account

    def add(self, reads: Reads, where: str) -> None:
        """Takes a batch in; it is counted with others, for each alone would find the caches cold.

        Args:
            reads: The batch: indices, record digests, and the product of their multiset elements.
            where: Name of the dataset, for messages.
        """
        self._waiting.append((reads, where))
        if len(self._waiting) >= WAITING_BATCHES:
            self._settle()

    def _settle(self) -> None:
        waiting, self._waiting = self._waiting, []
        for reads, where in waiting:
            self._count(reads, where)

    def _count(self, reads: Reads, where: str) -> None:
        indices = np.frombuffer(reads.indices, dtype="<i8")
        number = len(reads.digests) // records.DIGEST_BYTES
        if len(reads.digests) != number * records.DIGEST_BYTES or not number:
            raise CoverageError(f"{where}: expected 32-byte record digests, got {len(reads.digests)} bytes")
        if len(indices) != (0 if self._counts is None else number):
            raise CoverageError(
                f"{where}: expected {'no' if self._counts is None else 'one'} index per record, got "
                f"{len(indices)} for {number} records"
            )
        if self._counts is not None and int(indices.view("<u8").max()) >= len(self._counts):
            # negative numbers are huge ones
            raise CoverageError(f"{where}: expected records below {len(self._counts)}, got others")
        if self._product is not None:
            self._product.multiply(reads.product, number)
        if self._counts is not None:
            self._counts = _with_room(self._counts, indices, where)
            np.add.at(self._counts, indices, 1)
        self._order = tagged_hash(ORDER_TAG, self._order, reads.digests)
        self._exact &= reads.exact
        known = self._padded is not None and reads.padded is not None
        self._padded = (self._padded or 0) + (reads.padded or 0) if known else None

    def held(self) -> tuple[receipt.DeliveredSoFar, bytes | None]:
        """Returns what a checkpoint has to remember: the account, and the multiplicities (None: a stream)."""
        self._settle()
        made = None if self._product is None else _stated(self._product)
        delivered, root, counts = 0 if made is None else made.count, None, None
        if self._counts is not None:
            width = coverage.narrowest(int(self._counts.max(initial=0)))
            counts = self._counts.astype(f"<u{width}").tobytes()
            delivered, root = int(self._counts.sum()), coverage.coverage_root(counts, width)
        account = receipt.DeliveredSoFar(
            delivered=delivered,
            order=Digest(TAGGED_SHA256, self._order),
            coverage=root,
            exact=self._exact,
            product=made,
            padded=self._padded,
        )
        return account, counts

    def summary(self, info: DatasetInfo | None, where: str) -> LedgerSummary:
        """Returns what was delivered so far; the account can go on.

        Args:
            info: The dataset, if it is open.
            where: Its name, for messages.

        Raises:
            CoverageError: If the dataset is not open, and its manifest is needed.
            ManifestError: If the manifest was rewritten since it was opened.
        """
        self._settle()
        counts, made = self._counts, self._product
        if counts is None:
            return self._summary_of_stream(where)
        tally = derived.tallied(counts)
        view = memoryview(counts.view(np.uint8).data)
        if made is None:
            if info is None:
                raise CoverageError(
                    f"{where}, which was delivered before it, is not open: the multiset hash follows from "
                    "its manifest; open it again with AttestedMmapDataset and keep it alive"
                )
            made = derived.multiset_of(info, counts, tally)
        claim = Delivered(
            delivered=sum(count * times for count, times in tally.items()),
            padded=self._padded,
            counts=Counts(
                distinct=sum(times for count, times in tally.items() if count),
                least=min(tally),
                greatest=max(tally),
                coverage=coverage.coverage_root(view, counts.itemsize),
            ),
            multiset=_stated(made),
            order=(Digest(TAGGED_SHA256, self._order),),
            exact=self._exact,
        )
        return LedgerSummary(claim, view, counts.itemsize)

    def _summary_of_stream(self, where: str) -> LedgerSummary:
        if self._product is None:
            raise CoverageError(f"{where}: a stream without a multiset hash: nothing says what was delivered")
        made = _stated(self._product)
        claim = Delivered(
            delivered=made.count,
            padded=self._padded,
            counts=None,
            multiset=made,
            order=(Digest(TAGGED_SHA256, self._order),),
            exact=self._exact,
        )
        return LedgerSummary(claim, None, 0)


def _counters(size: int, held: receipt.DeliveredSoFar, counts: bytes) -> NDArray[Any]:
    """Returns the multiplicities of a checkpoint, once they are those its receipt speaks of."""
    width = len(counts) // max(size, 1)
    if len(counts) != size * width or width not in (1, *_WIDER, 4):
        raise EvidenceError(
            f"checkpoint: expected {size} counters of 1, 2 or 4 bytes, got {len(counts)} bytes"
        )
    array = np.frombuffer(counts, dtype=f"<u{width}").copy()
    if (least := coverage.narrowest(int(array.max(initial=0)))) != width:
        raise EvidenceError(f"checkpoint: expected counters of {least} bytes, got {width}")
    if coverage.coverage_root(counts, width) != held.coverage or int(array.sum()) != held.delivered:
        raise EvidenceError("checkpoint: the multiplicities are not those its receipt speaks of")
    return array


def _with_room(counts: NDArray[Any], indices: NDArray[np.int64], where: str) -> NDArray[Any]:
    """Returns the counters, wider if one of these records could overflow its own."""
    limit = int(np.iinfo(counts.dtype).max)
    if int(counts[indices].max()) + len(indices) <= limit:
        return counts
    numbers, times = np.unique(indices, return_counts=True)
    greatest = int((counts[numbers].astype(np.int64) + times).max())
    while greatest > np.iinfo(counts.dtype).max:
        wider = _WIDER.get(counts.itemsize)
        if wider is None:
            raise CoverageError(f"{where}: a record was delivered {greatest} times: too often to count")
        counts = counts.astype(wider)
    return counts


def _stated(made: multiset.MultisetHash) -> Multiset:
    return Multiset(scheme=made.parameters.name, count=made.count, state=made.state.hex())
