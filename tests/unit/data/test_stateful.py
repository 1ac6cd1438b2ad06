"""The stateful loader goes on in the middle of an epoch and counts each batch once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from recording import LENGTH, RECORDS, Remembering, recording, write_tokens
from torch.utils.data import IterableDataset, get_worker_info
from torchdata import stateful_dataloader

import palm_torch
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.errors import CoverageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata 0.11 calls it

BATCH = 8


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "tokens"
    write_tokens(folder)
    return folder


def loader(folder: Path, seed: int, **options: Any) -> Any:
    torch.manual_seed(seed)
    dataset = AttestedMmapDataset(folder, record_length=LENGTH)
    return palm_torch.StatefulDataLoader(dataset, **({"batch_size": BATCH, "shuffle": True} | options))


def digests(session: Remembering) -> list[bytes]:
    return [reads.digests for batch in session.batches for reads in batch]


@pytest.mark.parametrize("every", [1, 4])
@pytest.mark.parametrize(("workers", "persistent"), [(0, False), (2, False), (2, True)])
def test_resumed_pass_is_the_rest_of_the_unbroken_one(
    tokens: Path, workers: int, *, persistent: bool, every: int
) -> None:
    options = {
        "num_workers": workers,
        "persistent_workers": persistent,
        "snapshot_every_n_steps": every,
    }
    with recording() as unbroken:
        whole = loader(tokens, 3, **options)
        expected = [batch.tolist() for _ in range(2) for batch in whole]
    with recording() as first:
        iterator = iter(begun := loader(tokens, 3, **options))
        got = [next(iterator).tolist() for _ in range(5)]
        state = begun.state_dict()
    del iterator, begun
    with recording() as second:
        resumed = loader(tokens, 99, **options)
        resumed.load_state_dict(state)
        got += [batch.tolist() for _ in range(2) for batch in resumed]
    assert got == expected
    assert len(first.batches) == 5  # what workers had prefetched is not among them
    assert digests(first) + digests(second) == digests(unbroken)
    assert all(reads.exact for batch in second.batches for reads in batch)


def test_state_before_the_first_batch_counts_nothing(tokens: Path) -> None:
    with recording() as session:
        state = loader(tokens, 3, num_workers=0).state_dict()
        fresh = loader(tokens, 99)
        fresh.load_state_dict(state)
        assert session.batches == []
        assert len(list(fresh)) == len(session.batches) == -(-RECORDS // BATCH)


class Stream(IterableDataset[torch.Tensor]):
    """Reads an attested dataset front to back; torchdata finds its place again by reading."""

    def __init__(self, folder: Path) -> None:
        self.records = AttestedMmapDataset(folder, record_length=LENGTH)

    def __iter__(self) -> Iterator[torch.Tensor]:
        worker = get_worker_info()
        start, step = (worker.id, worker.num_workers) if worker else (0, 1)
        for number in range(start, RECORDS, step):
            yield self.records[number]


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_stream_skips_to_find_its_place_is_not_delivered(tokens: Path, workers: int) -> None:
    def stream() -> Any:
        return palm_torch.StatefulDataLoader(Stream(tokens), batch_size=BATCH, num_workers=workers)

    with recording() as first:
        iterator = iter(begun := stream())
        for _ in range(4):
            next(iterator)
        state = begun.state_dict()
    del iterator, begun
    with recording() as second:
        resumed = stream()
        resumed.load_state_dict(state)
        assert sum(len(batch) for batch in resumed) == RECORDS - len(first.indices())
    assert sorted(first.indices() + second.indices()) == list(range(RECORDS))


def test_torchdatas_own_loader_with_workers_raises(tokens: Path) -> None:
    dataset = AttestedMmapDataset(tokens, record_length=LENGTH)
    stock = stateful_dataloader.StatefulDataLoader(dataset, batch_size=BATCH, num_workers=1)
    with recording(), pytest.raises(CoverageError, match=r"palm_torch\.StatefulDataLoader"):
        next(iter(stock))


def test_twin_without_workers_torchdatas_own_loader_counts(tokens: Path) -> None:
    dataset = AttestedMmapDataset(tokens, record_length=LENGTH)
    with recording() as session:
        list(stateful_dataloader.StatefulDataLoader(dataset, batch_size=BATCH))
    assert session.indices() == list(range(RECORDS))
