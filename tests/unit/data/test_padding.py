"""Records that a sampler repeats so that every rank gets as many: counted where they are delivered."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from recording import recording
from torch.utils.data import BatchSampler, ConcatDataset, DistributedSampler, Sampler, Subset

from palm_torch.data import adopted, padding
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.loader import DataLoader
from palm_torch.data.padding import Padding

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def data(tmp_path: Path) -> AttestedMmapDataset:
    np.arange(20, dtype=np.uint16).tofile(tmp_path / "a.bin")
    return AttestedMmapDataset(tmp_path / "a.bin", record_length=2)


def sampler_of(data: Any, ranks: int, rank: int, **more: Any) -> DistributedSampler[Any]:
    return DistributedSampler(data, num_replicas=ranks, rank=rank, **more)


def delivered(
    loader: DataLoader[Any], *, batches: int | None = None, passes: int = 1
) -> tuple[int, int | None]:
    """Returns how many records the loop received, and how many of them were marked as repeated."""
    with recording() as session:
        for _ in range(passes):
            for number, _batch in enumerate(loader, 1):
                if number == batches:
                    break
    reads = [item for batch in session.batches for item in batch]
    padded = [item.padded for item in reads if item.padded is not None]
    return sum(len(item.indices) // 8 for item in reads), sum(padded) if len(padded) == len(reads) else None


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("batch_size", [1, 2, 5, None])
def test_ten_records_on_four_ranks_give_twelve(
    data: AttestedMmapDataset, batch_size: int | None, *, shuffle: bool
) -> None:
    found = [
        delivered(DataLoader(data, batch_size=batch_size, sampler=sampler_of(data, 4, rank, shuffle=shuffle)))
        for rank in range(4)
    ]
    assert found == [(3, 0), (3, 0), (3, 1), (3, 1)]


def test_each_pass_counts_anew_and_an_early_exit_what_it_reached(data: AttestedMmapDataset) -> None:
    loader = DataLoader(data, batch_size=1, sampler=sampler_of(data, 4, 3))
    assert delivered(loader, passes=3) == (9, 3)
    assert delivered(loader, passes=3, batches=2) == (6, 0)


def test_dropping_the_rest_repeats_nothing(data: AttestedMmapDataset) -> None:
    for rank in range(4):
        assert delivered(DataLoader(data, sampler=sampler_of(data, 4, rank, drop_last=True))) == (2, 0)
    dropping = DataLoader(data, batch_size=2, drop_last=True, sampler=sampler_of(data, 4, 3))
    assert delivered(dropping) == (2, 0)  # the batch with the repeated record is not delivered


def test_more_ranks_than_records_repeat_all_of_the_rest(data: AttestedMmapDataset) -> None:
    part = Subset(data, [4, 5])
    found = [delivered(DataLoader(part, sampler=sampler_of(part, 5, rank))) for rank in range(5)]
    assert found == [(1, 0), (1, 0), (1, 1), (1, 1), (1, 1)]


@pytest.mark.parametrize("records", range(1, 11))
@pytest.mark.parametrize("ranks", [2, 3, 7])
def test_what_is_marked_is_what_the_sampler_added(
    data: AttestedMmapDataset, records: int, ranks: int
) -> None:
    part = Subset(data, list(range(records)))
    found = [
        delivered(DataLoader(part, batch_size=3, sampler=sampler_of(part, ranks, rank)))
        for rank in range(ranks)
    ]
    assert sum(number for number, _ in found) == math.ceil(records / ranks) * ranks
    assert sum(padded or 0 for _, padded in found) == math.ceil(records / ranks) * ranks - records


def test_workers_change_nothing(data: AttestedMmapDataset) -> None:
    loader = DataLoader(data, batch_size=2, sampler=sampler_of(data, 4, 3), num_workers=2)
    assert delivered(loader) == (3, 1)


def test_what_is_not_one_record_a_sample_is_not_marked(data: AttestedMmapDataset) -> None:
    both = ConcatDataset([data, Subset(data, [0])])
    loader = DataLoader(both, batch_size=6, sampler=sampler_of(both, 2, 1, shuffle=False))
    assert delivered(loader) == (6, 1)  # records of one dataset all the same

    class Pairs(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: int) -> Any:
            return data[index], data[index + 1]

    pairs = Pairs()
    assert delivered(DataLoader(pairs, batch_size=3, sampler=sampler_of(pairs, 2, 1))) == (6, None)
    assert delivered(DataLoader(pairs, batch_size=3, sampler=sampler_of(pairs, 2, 0))) == (6, 0)


def test_a_loader_of_torch_marks_as_ours_does(data: AttestedMmapDataset) -> None:
    loader = torch.utils.data.DataLoader(data, batch_size=2, sampler=sampler_of(data, 4, 3))
    assert Padding.of(loader) == Padding(2, 3, 2)
    with adopted.adopting():
        assert delivered(loader) == (3, 1)  # type: ignore[arg-type]  # of torch's kind


def test_what_other_samplers_repeat_is_not_known_among_ranks(
    data: AttestedMmapDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Own(DistributedSampler[Any]):
        pass

    class Reversed(Sampler[int]):
        def __iter__(self) -> Iterator[int]:
            return iter(range(9, -1, -1))

        def __len__(self) -> int:
            return 10

    own = DataLoader(data, sampler=Own(data, num_replicas=4, rank=3))
    assert Padding.of(own) == padding.UNKNOWN
    assert delivered(own) == (3, None)
    assert Padding.of(DataLoader(data, sampler=Reversed())) is None
    monkeypatch.setattr(padding, "_ranks", lambda: True)
    assert delivered(DataLoader(data, batch_size=5, sampler=Reversed())) == (10, None)
    assert Padding.of(DataLoader(data, batch_size=2)) is None
    assert Padding.of(DataLoader(data, shuffle=True)) is None

    class Batches(BatchSampler):
        pass

    batches = Batches(sampler_of(data, 4, 3), 2, drop_last=False)
    assert Padding.of(DataLoader(data, batch_sampler=batches)) == padding.UNKNOWN
    plain = BatchSampler(sampler_of(data, 4, 3), 2, drop_last=False)
    assert Padding.of(torch.utils.data.DataLoader(data, batch_sampler=plain)) == Padding(2, 3, 2)
