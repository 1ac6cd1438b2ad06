"""The multiset hash of what was delivered, from the records' digests and how often each was delivered.

With b any number, MSH(D) the multiset hash of the whole dataset and mᵢ the count of record i, it is
MSH(D)^b · Π eᵢ^(mᵢ − b). Records whose count is b cost nothing; b = 0 needs no MSH(D). Every other element is
multiplied once for each digit, in base 256, of its distance from b: there is one product per digit and place,
each raised once in the end. So memory stays below 2 MB whatever the counts, and counts below 256 cost one
multiplication per record.
"""

from __future__ import annotations

import collections
from typing import Final

from palm_torch.commit import coverage_file, multiset
from palm_torch.errors import DataError

_DIGEST: Final = multiset.RECORD_DIGEST_BYTES
_BASE_BITS: Final = 8
_DIGITS: Final = 1 << _BASE_BITS


class Deliveries:
    """A multiset hash in the making: one owner, records are added in any order.

    Args:
        base: The count that costs nothing.
        whole: The multiset hash of the whole dataset; with `base` 0 it is not needed.

    Raises:
        DataError: If there is a base, and no multiset hash of the whole dataset.
    """

    __slots__ = ("_base", "_less", "_more", "_whole")

    def __init__(self, *, base: int = 0, whole: multiset.MultisetHash | None = None) -> None:
        if base and whole is None:
            raise DataError(f"deliveries: {base} times the whole dataset, whose multiset hash is not given")
        self._base = base
        self._whole = whole
        self._more: collections.defaultdict[int, multiset.MultisetHash] = collections.defaultdict(
            multiset.MultisetHash
        )
        self._less: collections.defaultdict[int, multiset.MultisetHash] = collections.defaultdict(
            multiset.MultisetHash
        )

    def add(self, digests: bytes, counts: bytes, width: int) -> None:
        """Adds records, each as often as it was delivered.

        Args:
            digests: Record digests, n × 32 bytes.
            counts: How often each was delivered, n little-endian counters.
            width: Bytes per counter: 1, 2 or 4.

        Raises:
            DataError: If there are not as many counters as digests.
        """
        number = len(digests) // _DIGEST
        if len(digests) != number * _DIGEST or len(counts) != number * width:
            raise DataError(
                f"deliveries: expected one counter per digest, got {len(digests)} bytes of digests and "
                f"{len(counts)} of counters, {width} each"
            )
        if self._base < 1 << 8 * width and counts == self._base.to_bytes(width, "little") * number:
            return
        alike: collections.defaultdict[int, list[bytes]] = collections.defaultdict(list)
        for at, count in enumerate(coverage_file.numbers(counts, width)):
            alike[count].append(digests[at * _DIGEST : (at + 1) * _DIGEST])
        alike.pop(self._base, None)
        for count, some in alike.items():
            product = multiset.MultisetHash()
            product.add_many(b"".join(some))
            distance = abs(count - self._base)
            into = self._more if count > self._base else self._less
            for place in range(0, distance.bit_length(), _BASE_BITS):
                if digit := distance >> place & _DIGITS - 1:
                    into[place * _DIGITS + digit].union(product)

    def total(self) -> multiset.MultisetHash:
        """Returns the multiset hash of the records added so far, those that count `base` being all others.

        Raises:
            DataError: If the records are more than one hash may hold, or not all of the whole dataset's.
        """
        made = multiset.MultisetHash() if self._whole is None else self._whole.copy()
        made.power(self._base)
        made.union(_raised(self._more))
        made.difference(_raised(self._less))
        return made


def _raised(products: dict[int, multiset.MultisetHash]) -> multiset.MultisetHash:
    """Returns the union of the products, each as often as its digit and place say."""
    made = multiset.MultisetHash()
    places = sorted({key // _DIGITS for key in products})
    for place in places:
        running, at_place = multiset.MultisetHash(), multiset.MultisetHash()
        for digit in range(_DIGITS - 1, 0, -1):  # the product of digit d is in `running` for d rounds
            found = products.get(place * _DIGITS + digit)
            if found is not None:
                running.union(found)
            if running.count:
                at_place.union(running)
        at_place.power(1 << place)
        made.union(at_place)
    return made
