"""However records are dealt out to ranks, together they say what one rank says that received them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gmpy2
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from palm_torch.commit import coverage, multiset
from palm_torch.data import shares
from palm_torch.data.shares import CountMap, Share
from palm_torch.digest import SHA256, TAGGED_SHA256, Digest
from palm_torch.roles import Counts, Dataset, Delivered, Multiset, Source

if TYPE_CHECKING:
    from collections.abc import Sequence

RECORDS = 1500  # more than one leaf of a coverage map

dealt = st.lists(st.lists(st.integers(0, RECORDS - 1), max_size=40), min_size=1, max_size=5).filter(any)


def share(received: Sequence[int], *, width: int = 1, padded: int = 0) -> Share:
    """Returns what a rank says that received these records of one dataset."""
    if not received:
        return Share(data={}, maps={})
    total = multiset.MultisetHash(number=gmpy2.mpz)
    counts = [0] * RECORDS
    for number in received:
        total.add(blake3(number.to_bytes(8, "big")).digest())
        counts[number] += 1
    spelled = b"".join(count.to_bytes(width, "little") for count in counts)
    said = coverage.summary(spelled, width)
    delivered = Delivered(
        delivered=len(received),
        padded=padded,
        counts=Counts(
            distinct=said.distinct,
            least=said.least,
            greatest=said.greatest,
            coverage=coverage.coverage_root(spelled, width),
        ),
        multiset=Multiset(scheme="mset-mu-3072", count=total.count, state=total.state.hex()),
        order=(Digest(TAGGED_SHA256, blake3(received[0].to_bytes(8, "big")).digest()),),
        exact=True,
    )
    dataset = Dataset(
        source=Source.MEASURED,
        format="bin",
        manifest=Digest(SHA256, bytes(32)),
        records=RECORDS,
        record_bytes=18,
        layout="uint8[18]",
        uses={"train": delivered},
    )
    return Share(data={"dataset1": dataset}, maps={("dataset1", "train"): CountMap(spelled, width)})


@settings(max_examples=60, deadline=None)
@given(ranks=dealt, widths=st.lists(st.sampled_from([1, 2, 4]), min_size=5, max_size=5))
def test_ranks_together_say_what_one_rank_says(ranks: list[list[int]], widths: list[int]) -> None:
    together = shares.merge(
        [share(received, width=width) for received, width in zip(ranks, widths, strict=False)]
    )
    alone = share([number for received in ranks for number in received])
    found, expected = together.data["dataset1"].uses["train"], alone.data["dataset1"].uses["train"]
    assert (found.delivered, found.counts, found.multiset) == (
        expected.delivered,
        expected.counts,
        expected.multiset,
    )
    merged = together.maps["dataset1", "train"]
    single = alone.maps["dataset1", "train"]
    assert coverage.summary(merged.counts, merged.itemsize) == coverage.summary(
        single.counts, single.itemsize
    )
    chains = [
        share(received).data["dataset1"].uses["train"].order[0] if received else shares.NOTHING_DELIVERED
        for received in ranks
    ]
    assert list(found.order) == chains


@settings(max_examples=20, deadline=None)
@given(ranks=dealt, cut=st.integers(0, 5))
def test_putting_together_is_associative(ranks: list[list[int]], cut: int) -> None:
    parts = [share(received) for received in ranks]
    left, right = parts[:cut], parts[cut:]
    groups = [
        Share(data=merged.data, maps=merged.maps, ranks=len(group))
        for group in (left, right)
        if group and (merged := shares.merge(group))
    ]
    assert shares.merge(groups) == shares.merge(parts)
