"""What shares of ranks make together, and what cannot be put together."""

from __future__ import annotations

import dataclasses

import pytest

from palm_torch.commit import coverage, multiset
from palm_torch.data import shares
from palm_torch.data.shares import CountMap, Share
from palm_torch.digest import SHA256, TAGGED_SHA256, Digest
from palm_torch.errors import CoverageError, EvidenceError
from palm_torch.roles import Counts, Dataset, Delivered, Multiset, Source

EMPTY = multiset.MultisetHash()


def dataset(
    counts: bytes | None, *, manifest: int | None = 0, padded: int | None = 0, exact: bool = True
) -> Dataset:
    summed = None if counts is None else coverage.summary(counts, 1)
    return Dataset(
        source=Source.MEASURED,
        format="bin",
        manifest=None if manifest is None else Digest(SHA256, bytes([manifest]) * 32),
        records=None if counts is None else len(counts),
        record_bytes=2,
        layout="uint8[2]",
        uses={
            "train": Delivered(
                delivered=3,
                padded=padded,
                counts=None
                if summed is None or counts is None
                else Counts(
                    distinct=summed.distinct,
                    least=summed.least,
                    greatest=summed.greatest,
                    coverage=coverage.coverage_root(counts, 1),
                ),
                multiset=Multiset(scheme="mset-mu-3072", count=0, state=EMPTY.state.hex()),
                order=(Digest(TAGGED_SHA256, bytes([7]) * 32),),
                exact=exact,
            )
        },
    )


def share(
    *held: Dataset, maps: dict[tuple[str, str], CountMap] | None = None, same: int | None = None
) -> Share:
    data = {f"dataset{number}": item for number, item in enumerate(held, 1)}
    proof = {} if same is None else {"dataset1": Digest(TAGGED_SHA256, bytes([same]) * 32)}
    return Share(data=data, maps=maps or {}, same=proof)


def test_padding_adds_up_and_one_inexact_rank_makes_all_inexact() -> None:
    found = shares.merge([share(dataset(None, padded=1)), share(dataset(None, padded=2, exact=False))])
    use = found.data["dataset1"].uses["train"]
    assert (use.delivered, use.padded, use.exact, use.counts, found.unmapped) == (6, 3, False, None, ())


def test_padding_that_one_rank_does_not_know_is_not_known() -> None:
    found = shares.merge([share(dataset(None, padded=1)), share(dataset(None, padded=None))])
    assert found.data["dataset1"].uses["train"].padded is None


def test_without_a_manifest_nothing_but_a_proof_makes_two_one() -> None:
    held = dataset(b"\1\1\1", manifest=None)
    maps = {("dataset1", "train"): CountMap(b"\1\1\1", 1)}

    def numbers(*given: Share) -> list[int]:
        return [item.uses["train"].delivered for item in shares.merge(given).data.values()]

    assert numbers(share(held, maps=maps), share(held, maps=maps)) == [3, 3]
    assert numbers(share(held, maps=maps, same=1), share(held, maps=maps, same=2)) == [3, 3]
    assert numbers(share(held, maps=maps, same=1), share(held, maps=maps)) == [3, 3]
    assert numbers(share(held, maps=maps, same=1), share(held, maps=maps, same=1)) == [6]
    apart = shares.merge([share(held, maps=maps), share(held, maps=maps)])
    assert [found.uses["train"].order[number] for number, found in enumerate(apart.data.values())] == [
        held.uses["train"].order[0]
    ] * 2
    assert apart.unmapped == ()
    assert sorted(apart.maps) == [("dataset1", "train"), ("dataset2", "train")]
    stream = dataset(None, manifest=None)
    assert numbers(share(stream), share(stream), share(stream)) == [3, 3, 3]


def test_datasets_are_one_by_identity_and_not_by_name() -> None:
    first, second = dataset(b"\1\1\1", manifest=1), dataset(b"\0\1\2", manifest=2)
    found = shares.merge([share(first, second), share(second)])
    assert [item.manifest for item in found.data.values()] == [first.manifest, second.manifest]
    assert found.data["dataset1"].uses["train"].order == (
        first.uses["train"].order[0],
        shares.NOTHING_DELIVERED,
    )
    assert found.data["dataset1"].uses["train"].counts == first.uses["train"].counts
    assert found.unmapped == (("dataset2", "train"),)
    assert found.data["dataset2"].uses["train"].counts is None


def test_the_second_of_two_alike_goes_with_the_second() -> None:
    alike = dataset(None)
    found = shares.merge([share(alike, alike), share(alike)])
    assert [use.uses["train"].delivered for use in found.data.values()] == [6, 3]


def test_counts_that_outgrow_a_byte_take_two() -> None:
    found = shares.add_maps([CountMap(bytes([200, 1]), 1), CountMap(bytes([100, 1]), 1)])
    assert found == CountMap((300).to_bytes(2, "little") + (2).to_bytes(2, "little"), 2)


def test_counts_that_outgrow_everything_are_refused() -> None:
    most = CountMap(b"\xff\xff\xff\xff", 4)
    with pytest.raises(CoverageError, match="too often to count"):
        shares.add_maps([most, CountMap(b"\1", 1)])
    assert shares.add_maps([CountMap(b"\1\0\0\0", 4), CountMap(b"\1", 1)]) == CountMap(b"\2", 1)


def test_a_map_of_something_else_is_refused() -> None:
    held = dataset(b"\1\1\1")
    other = {("dataset1", "train"): CountMap(b"\1\1\2", 1)}
    with pytest.raises(EvidenceError, match="coverage of dataset1, train: expected palm-sha256"):
        shares.merge([share(held, maps=other)])
    short = {("dataset1", "train"): CountMap(b"\1\1", 1)}
    with pytest.raises(EvidenceError, match="expected 3 counts, got 2"):
        shares.merge([share(held, maps=short)])
    with pytest.raises(EvidenceError, match="of one number of records"):
        shares.add_maps([CountMap(b"\1", 1), CountMap(b"\1\1", 1)])


def test_names_are_those_of_the_order_of_first_use() -> None:
    first, second = dataset(None, manifest=1), dataset(None, manifest=2)
    found = shares.merge([share(first), dataclasses.replace(share(second, first), ranks=1)])
    assert [item.manifest for item in found.data.values()] == [first.manifest, second.manifest]
