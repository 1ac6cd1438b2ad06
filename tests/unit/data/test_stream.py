from __future__ import annotations

import dataclasses
import pickle
from typing import TYPE_CHECKING, Any

import any_data
import pytest
from any_data import ITEMS, Stream, apart, digest, digests_of, item
from recording import recording
from torch.utils.data import ChainDataset, IterableDataset

from palm_torch.data import account, ledger, open_datasets
from palm_torch.data.loader import DataLoader
from palm_torch.data.stateful import StatefulDataLoader
from palm_torch.data.stream import AttestedIterableDataset
from palm_torch.errors import CoverageError, DataError, EvidenceError
from palm_torch.recorder import Reads

if TYPE_CHECKING:
    from collections.abc import Iterator


pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata 0.11 calls it


def received(batches: Any) -> list[bytes]:
    return [digest(one) for batch in batches for one in apart(batch)]


def test_by_hand_every_item_counts_as_it_comes() -> None:
    data: AttestedIterableDataset[Any] = AttestedIterableDataset(Stream())
    with recording() as session:
        items = iter(data)
        assert [next(items)["y"] for _ in range(3)] == [0, 1, 2]
    assert digests_of(session.batches) == [digest(item(number)) for number in range(3)]
    (reads,) = session.batches[0]
    assert (reads.dataset, reads.indices, len(reads.product)) == (data.uid, b"", 384)


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize("batches", [1, None], ids=["early exit", "whole"])
def test_what_the_loop_receives_is_what_counts(workers: int, batches: int | None) -> None:
    data: AttestedIterableDataset[Any] = AttestedIterableDataset(Stream())
    got = []
    with recording() as session:
        for batch in DataLoader(data, batch_size=4, num_workers=workers):
            got.append(batch)
            if len(got) == batches:
                break
    assert digests_of(session.batches) == received(got)
    assert all(reads.exact for (reads,) in session.batches)


@pytest.mark.parametrize("loader", [DataLoader, StatefulDataLoader])
@pytest.mark.parametrize("workers", [0, 1])
def test_items_that_drop_last_leaves_out_do_not_count(workers: int, loader: Any) -> None:
    data: AttestedIterableDataset[Any] = AttestedIterableDataset(Stream(10))
    batches = loader(
        data, batch_size=4, drop_last=True, num_workers=workers, persistent_workers=bool(workers)
    )
    with recording() as session:
        got = [batch for _ in range(3) for batch in batches]
    assert len(got) == 6
    assert digests_of(session.batches) == received(got)


def test_a_stream_that_begins_anew_within_a_batch_loses_nothing() -> None:
    data: AttestedIterableDataset[Any] = AttestedIterableDataset(Stream(5))
    for workers in (0, 1):
        with recording() as session:
            got = list(DataLoader(ChainDataset([data, data]), batch_size=4, num_workers=workers))
        assert digests_of(session.batches) == received(got)
        assert not session.batches[0][0].exact


def test_what_stands_between_makes_the_count_inexact() -> None:
    class EverySecond(IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return (one for one in data if one["y"] % 2)

    data: AttestedIterableDataset[Any] = AttestedIterableDataset(Stream(8))
    with recording() as session:
        list(DataLoader(EverySecond(), batch_size=2))
    assert len(digests_of(session.batches)) == 8  # what was read for the loop, kept or not
    assert not any(reads.exact for (reads,) in session.batches)


def test_position_is_kept_where_the_stream_keeps_none() -> None:
    data: AttestedIterableDataset[Any] = AttestedIterableDataset(Stream(12))
    first = StatefulDataLoader(data, batch_size=4)
    with recording() as session:
        next(iter(first))
        state = first.state_dict()
    second = StatefulDataLoader(data, batch_size=4)
    second.load_state_dict(state)
    with recording("session-2") as later:
        rest = list(second)
    assert digests_of([*session.batches, *later.batches]) == [digest(item(number)) for number in range(12)]
    assert len(rest) == 2


def test_the_account_of_a_stream_has_no_index() -> None:
    data: AttestedIterableDataset[Any] = AttestedIterableDataset(Stream())
    with recording() as session:
        got = list(DataLoader(data, batch_size=5))
    made = ledger.Ledger(data.info)
    for (reads,) in session.batches:
        made.add(reads, "train")
    summary = made.claim()["train"]
    assert (summary.claim.delivered, summary.claim.counts, summary.counts) == (ITEMS, None, None)
    assert (summary.claim.multiset.state, summary.claim.multiset.count) == any_data.product(received(got))
    assert (made.identity.records, made.identity.record_bytes, made.identity.manifest) == (
        None,
        None,
        None,
    )


def test_the_account_goes_on_from_a_checkpoint() -> None:
    data: AttestedIterableDataset[Any] = AttestedIterableDataset(Stream())
    with recording() as session:
        list(DataLoader(data, batch_size=5))
    whole, half = ledger.Ledger(data.info), ledger.Ledger(data.info)
    for (reads,) in session.batches:
        whole.add(reads, "train")
    for (reads,) in session.batches[:3]:
        half.add(reads, "train")
    held, counts = half.held()
    assert (held.records, held.uses["train"].coverage, counts) == (None, None, {})
    resumed = ledger.Ledger.resumed(held, counts)
    resumed.take_up(data.info)
    for (reads,) in session.batches[3:]:
        resumed.add(reads, "train")
    assert resumed.claim() == whole.claim()
    with pytest.raises(EvidenceError, match="expected counts of"):
        ledger.Ledger.resumed(held, {"train": b""})


def test_an_account_that_a_receipt_does_not_speak_of_is_refused() -> None:
    data: AttestedIterableDataset[Any] = AttestedIterableDataset([1, 2])
    with recording() as session:
        list(data)
    made = account.Account(None, multiplies=True)
    for (reads,) in session.batches:
        made.add(reads, "a stream")
    held, counts = made.held()
    assert (held.delivered, counts) == (2, None)
    assert account.Account.resumed(None, held, None, multiplies=True).held() == (held, None)
    with pytest.raises(EvidenceError, match="multiset hash of 3 records"):
        account.Account.resumed(None, dataclasses.replace(held, delivered=3), None, multiplies=True)
    with pytest.raises(EvidenceError, match="expected multiplicities exactly where"):
        account.Account.resumed(None, held, b"", multiplies=True)
    with pytest.raises(EvidenceError, match="expected multiplicities exactly where"):
        account.Account.resumed(2, held, None, multiplies=True)
    with pytest.raises(CoverageError, match="a stream without a multiset hash"):
        account.Account(None, multiplies=False).summary(data.info, "a stream")


@pytest.mark.parametrize(
    "reads",
    [
        Reads("", bytes(8), bytes(32), bytes(383) + b"\1"),
        Reads("", b"", b"", b""),
        Reads("", b"", bytes(33), bytes(383) + b"\1"),
    ],
    ids=["an index", "nothing", "no whole digest"],
)
def test_reads_that_are_no_streams_are_refused(reads: Reads) -> None:
    data: AttestedIterableDataset[Any] = AttestedIterableDataset(Stream())
    made = ledger.Ledger(data.info)
    made.add(Reads(data.uid, reads.indices, reads.digests, reads.product), "train")
    with pytest.raises(CoverageError, match="expected"):
        made.claim()


def test_length_is_the_inner_datasets() -> None:
    assert len(AttestedIterableDataset([1, 2, 3])) == 3  # a list can be iterated
    with pytest.raises(TypeError):
        len(AttestedIterableDataset(Stream()))
    assert list(AttestedIterableDataset([1, 2, 3])) == [1, 2, 3]


def test_an_item_without_canonical_bytes_is_named() -> None:
    data: AttestedIterableDataset[Any] = AttestedIterableDataset([1, {"a": object()}])
    with (
        recording(),
        pytest.raises(DataError, match=r"list@\w{8}, item 1 of a pass: item\['a'\]: builtins\.object"),
    ):
        list(data)


@pytest.mark.parametrize(
    ("inner", "says"),
    [((one for one in [1]), "got a generator"), (3, "expected an iterable dataset.*AttestedDataset")],
)
def test_what_cannot_be_iterated_anew_is_refused(inner: object, says: str) -> None:
    with pytest.raises(DataError, match=says):
        AttestedIterableDataset(inner)


def test_attributes_are_the_inner_datasets() -> None:
    data: AttestedIterableDataset[Any] = AttestedIterableDataset(Stream())
    data.set_epoch(3)
    assert data.epoch == 3
    with pytest.raises(AttributeError):
        _ = data._private


def test_a_copy_is_the_same_stream() -> None:
    data: AttestedIterableDataset[Any] = AttestedIterableDataset(Stream(2))
    copy = pickle.loads(pickle.dumps(data))  # noqa: S301 (our own bytes)
    assert copy.uid == data.uid
    assert [one["y"] for one in copy] == [0, 1]
    assert open_datasets.info_of(data.uid).records is None


@pytest.mark.parametrize("workers", [0, 2])
def test_streams_of_hugging_face_are_divided_by_their_shards(workers: int) -> None:
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"x": [[float(number)] for number in range(10)], "y": list(range(10))})
    data: AttestedIterableDataset[Any] = AttestedIterableDataset(table.to_iterable_dataset(num_shards=2))
    data.set_epoch(1)
    with recording() as session:
        got = list(DataLoader(data, batch_size=2, num_workers=workers, collate_fn=list))
    received_items = [one for batch in got for one in batch]
    assert sorted(one["y"] for one in received_items) == list(range(10))
    assert digests_of(session.batches) == [digest(one) for one in received_items]
