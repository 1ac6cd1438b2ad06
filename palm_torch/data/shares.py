"""What several ranks received of their datasets, put together: ranks of one machine, or parts of one run.

Every rank counts what it received itself. Multiset hashes are multiplied, multiplicities added, record by
record; order chains stand side by side, one for each rank. The result is what one rank would say that had
received all of it, but for the order. Nothing here needs torch or NumPy: a verifier uses the same code.
Specification: docs/spec/45-ranks.md, section 3.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

from palm_torch.commit import coverage, multiset
from palm_torch.digest import TAGGED_SHA256, Digest
from palm_torch.errors import CoverageError, EvidenceError
from palm_torch.roles import Counts, Dataset, Delivered, Multiset

if TYPE_CHECKING:
    from collections.abc import Sequence

    Key: TypeAlias = tuple[str, str]

NOTHING_DELIVERED: Final = Digest(TAGGED_SHA256, bytes(32))
"""The order chain of a rank that received nothing."""

_LEAF_BYTES: Final = coverage.LEAF_RECORDS * coverage.LEAF_COUNT_BYTES
_MAX_COUNT: Final = (1 << 8 * coverage.LEAF_COUNT_BYTES) - 1


@dataclass(frozen=True, slots=True)
class CountMap:
    """How often each record was delivered.

    Attributes:
        counts: The counters, little endian.
        itemsize: Width of a counter in bytes: 1, 2 or 4.
    """

    counts: bytes | memoryview
    itemsize: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one rank, or several together, received.

    Attributes:
        data: Datasets by name, in the order of their first use.
        maps: How often each record, by name and use; a map may be missing.
        ranks: How many ranks it stands for: so many order chains has each use.
        same: What proves, by name, that datasets without a manifest are of the same files: only ranks of one
            machine can show each other that.
    """

    data: Mapping[str, Dataset]
    maps: Mapping[Key, CountMap]
    ranks: int = 1
    same: Mapping[str, Digest] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What all received.

    Attributes:
        data: As in `Share`, with names of its own: ``dataset1``, ``dataset2`` …
        maps: As in `Share`.
        unmapped: Names and uses that several shares received and no map is at hand for: their `counts` are
            None although their records have an index.
    """

    data: dict[str, Dataset]
    maps: dict[Key, CountMap]
    unmapped: tuple[Key, ...]


def merge(shares: Sequence[Share], *, number: type[int] = int) -> Merged:
    """Returns what all shares received together.

    Datasets are one if format, manifest, number and size of records are; without a manifest, if they are
    proved to be of the same files. The n-th of several like it in one share goes with the n-th in another.
    What nothing proves to be one, streams among them, stays apart, for each share under a name of its own.

    Args:
        shares: In the order of their ranks.
        number: Integer type of the arithmetic, as for `multiset.MultisetHash`.

    Raises:
        CoverageError: If a record was delivered more often than can be counted.
        EvidenceError: If a map is not that of its dataset, or has not one count for each record.
        DataError: If a multiset hash is out of range.
    """
    names = [_identities(share, place) for place, share in enumerate(shares)]
    data: dict[str, Dataset] = {}
    maps: dict[Key, CountMap] = {}
    unmapped: list[Key] = []
    for place, identity in enumerate(dict.fromkeys(itertools.chain.from_iterable(names)), 1):
        holders = [(share, named.get(identity)) for share, named in zip(shares, names, strict=True)]
        first = next(share.data[name] for share, name in holders if name is not None)
        uses: dict[str, Delivered] = {}
        for use in sorted({use for share, name in holders if name for use in share.data[name].uses}):
            key = (f"dataset{place}", use)
            found, count_map = _merge_use(holders, use, first.records, number)
            uses[use] = found
            if count_map is not None:
                maps[key] = count_map
            elif found.counts is None and first.records is not None:
                unmapped.append(key)
        data[f"dataset{place}"] = Dataset(
            source=first.source,
            format=first.format,
            manifest=first.manifest,
            records=first.records,
            record_bytes=first.record_bytes,
            layout=first.layout,
            uses=uses,
        )
    return Merged(data=data, maps=maps, unmapped=tuple(unmapped))


def add_maps(maps: Sequence[CountMap]) -> CountMap:
    """Returns the sum of maps, record by record, in the least width that holds it.

    Raises:
        CoverageError: If a record was delivered more often than 4 bytes can count.
        EvidenceError: If the maps are of different numbers of records.
    """
    sizes = {len(item.counts) // item.itemsize for item in maps}
    if len(sizes) != 1:
        raise EvidenceError(f"coverage: expected maps of one number of records, got {sorted(sizes)}")
    most = sum((1 << 8 * item.itemsize) - 1 for item in maps)
    if most > _MAX_COUNT:  # no more than could be; see what there is
        most = sum(coverage.summary(item.counts, item.itemsize).greatest for item in maps)
    if most > _MAX_COUNT:
        raise CoverageError(f"a record was delivered up to {most} times: too often to count")
    width = coverage.narrowest(most)
    # Counters that cannot overflow are added many at once, as the digits of one large number.
    total = b"".join(
        sum(int.from_bytes(leaf, "little") for leaf in leaves).to_bytes(len(leaves[0]), "little")
        for leaves in zip(*(_leaves(item, width) for item in maps), strict=True)
    )
    greatest = coverage.summary(total, width).greatest
    return _resized(CountMap(total, width), coverage.narrowest(greatest))


def _merge_use(
    holders: Sequence[tuple[Share, str | None]], use: str, records: int | None, number: type[int]
) -> tuple[Delivered, CountMap | None]:
    parts = [
        (share, name, share.data[name].uses[use])
        for share, name in holders
        if name is not None and use in share.data[name].uses
    ]
    total = multiset.MultisetHash(number=number)
    for _, _, part in parts:
        total.multiply(bytes.fromhex(part.multiset.state), part.multiset.count)
    order = [
        share.data[name].uses[use].order
        if name is not None and use in share.data[name].uses
        else (NOTHING_DELIVERED,) * share.ranks
        for share, name in holders
    ]
    found = [_map_of(share, name, use, part, records) for share, name, part in parts]
    maps = [item for item in found if item is not None]
    counts, together = (parts[0][2].counts if len(parts) == 1 else None), None
    if records is not None and len(maps) == len(parts):
        together = add_maps(maps)
        counts = _counts_of(together)
    return (
        Delivered(
            delivered=sum(part.delivered for _, _, part in parts),
            padded=_sum([part.padded for _, _, part in parts]),
            counts=counts,
            multiset=Multiset(scheme=total.parameters.name, count=total.count, state=total.state.hex()),
            order=tuple(itertools.chain.from_iterable(order)),
            exact=all(part.exact for _, _, part in parts),
        ),
        together,
    )


def _sum(numbers: Sequence[int | None]) -> int | None:
    """Returns the sum; None if one of them is not known."""
    known = [number for number in numbers if number is not None]
    return sum(known) if len(known) == len(numbers) else None


def _map_of(share: Share, name: str, use: str, part: Delivered, records: int | None) -> CountMap | None:
    """Returns the map of one use, checked against the root that goes with it."""
    found = share.maps.get((name, use))
    if found is None or part.counts is None or records is None:
        return None
    if len(found.counts) != records * found.itemsize:
        raise EvidenceError(
            f"coverage of {name}, {use}: expected {records} counts, got {len(found.counts) // found.itemsize}"
        )
    root = coverage.coverage_root(found.counts, found.itemsize)
    if root != part.counts.coverage:
        raise EvidenceError(f"coverage of {name}, {use}: expected {part.counts.coverage}, got {root}")
    return found


def _counts_of(found: CountMap) -> Counts:
    said = coverage.summary(found.counts, found.itemsize)
    return Counts(
        distinct=said.distinct,
        least=said.least,
        greatest=said.greatest,
        coverage=coverage.coverage_root(found.counts, found.itemsize),
    )


def _identities(share: Share, place: int) -> dict[tuple[object, ...], str]:
    """Returns what tells datasets from each other, in one share and in all, with their names, in order."""
    seen: Counter[tuple[object, ...]] = Counter()
    found: dict[tuple[object, ...], str] = {}
    for name, item in share.data.items():
        proof: object = item.manifest or share.same.get(name)
        kind = (item.format, item.records, item.record_bytes, item.layout, place if proof is None else proof)
        seen[kind] += 1
        found[*kind, seen[kind]] = name
    return found


def _leaves(item: CountMap, width: int) -> list[bytes]:
    counts = bytes(_resized(item, width).counts)
    return [counts[start : start + _LEAF_BYTES] for start in range(0, len(counts), _LEAF_BYTES)]


def _resized(item: CountMap, width: int) -> CountMap:
    """Spells counters in another width that holds them, byte column by byte column."""
    if item.itemsize == width:
        return item
    records = len(item.counts) // item.itemsize
    spelled = bytearray(records * width)
    for column in range(min(width, item.itemsize)):
        spelled[column::width] = bytes(item.counts)[column :: item.itemsize]
    return CountMap(bytes(spelled), width)
