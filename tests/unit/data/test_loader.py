from __future__ import annotations

import os
import pickle
import signal
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.utils.data
from recording import LENGTH, recording
from torch.utils.data import ConcatDataset, Dataset, IterableDataset, Subset, TensorDataset, default_collate

from palm_torch import recorder
from palm_torch.commit import multiset
from palm_torch.data import carrier, measure
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.loader import DataLoader
from palm_torch.errors import CoverageError, RecordError, SessionError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

N = 123


@pytest.fixture
def data(tokens: Path) -> Any:
    return AttestedMmapDataset(tokens, record_length=LENGTH)


def numbers(batch: Any) -> list[int]:
    """The record numbers in a batch: each record's first token."""
    x = batch[0] if isinstance(batch, (list, tuple)) else batch
    return torch.as_tensor(x).reshape(-1, x.shape[-1])[:, 0].tolist()


class Wrapped(Dataset):
    """A dataset of the user's own, with a transform, over an attested one."""

    def __init__(self, inner: Any, *, fail_at: Any = None) -> None:
        self.inner = inner
        self.fail_at = fail_at

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Any:
        record = self.inner[index]
        if index == self.fail_at:
            raise RuntimeError("the user's own trouble")
        return record + 0


class Streaming(IterableDataset):
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __iter__(self) -> Iterator[Any]:
        worker = torch.utils.data.get_worker_info()
        step = worker.num_workers if worker else 1
        for index in range(worker.id if worker else 0, len(self.inner), step):
            yield self.inner[index]


class Kills(Dataset):
    """Kills its own worker when one record is asked for."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Any:
        if index == 20:
            os.kill(os.getpid(), signal.SIGKILL)
        return self.inner[index]


def as_pairs(samples: Any) -> Any:
    return default_collate(samples), "something else"


def mark_worker(worker_id: int) -> None:
    os.environ["PALM_TEST_WORKER"] = str(worker_id)


OPTIONS = {
    "plain": {"batch_size": 8},
    "one by one": {},
    "shuffled": {"batch_size": 8, "shuffle": True},
    "drop_last": {"batch_size": 8, "shuffle": True, "drop_last": True},
    "no batches": {"batch_size": None},
    "sampler": {"batch_size": 10, "sampler": [3, 3, 3, 100, 5, 0, 122]},
    "batch sampler": {"batch_sampler": [[1, 2], [3], [2, 2, 2]]},
    "generator": {"batch_size": 16, "shuffle": True, "generator": torch.Generator().manual_seed(3)},
    "own collate": {"batch_size": 8, "collate_fn": as_pairs},
}
WORKER_OPTIONS = {
    "workers": {"num_workers": 2, "prefetch_factor": 4},
    "out of order": {"num_workers": 2, "in_order": False, "timeout": 60},
    "persistent": {"num_workers": 2, "persistent_workers": True, "worker_init_fn": mark_worker},
}


@pytest.mark.parametrize(
    ("name", "workers"),
    [(name, workers) for name in OPTIONS for workers in ("none", "workers")]
    + [(name, workers) for name in ("shuffled", "no batches") for workers in ("out of order", "persistent")],
)
def test_counts_exactly_what_the_loop_received(data: AttestedMmapDataset, name: str, workers: str) -> None:
    received = []
    with recording() as session:
        loader = DataLoader(data, **OPTIONS[name], **WORKER_OPTIONS.get(workers, {}))
        for _ in range(2):
            for batch in loader:
                received += numbers(batch)
                assert len(session.batches[-1]) == 1
            assert len(received) == len(session.indices(data.uid))
    assert received == session.indices(data.uid)
    for batch in session.batches:
        assert batch[0].product == multiset.product_of(batch[0].digests)


@pytest.mark.parametrize("workers", [0, 2])
def test_early_break_counts_what_came_and_not_what_was_fetched(
    data: AttestedMmapDataset, workers: int
) -> None:
    options = {"num_workers": workers, "persistent_workers": True, "prefetch_factor": 8} if workers else {}
    received = []
    with recording() as session:
        loader = DataLoader(data, batch_size=4, **options)
        for stop in (0, 3, 1):
            for at, batch in enumerate(loader):
                received += numbers(batch)
                if at == stop:
                    break
    assert received == session.indices() == [*range(4), *range(16), *range(8)]


@pytest.mark.parametrize("workers", [0, 2])
def test_nested_loaders_two_datasets_and_uses(data: AttestedMmapDataset, tokens: Path, workers: int) -> None:
    other = AttestedMmapDataset(tokens, record_length=LENGTH)
    with recording() as session:
        evaluation = DataLoader(other, batch_size=16, num_workers=workers)
        for step, _ in enumerate(DataLoader(data, batch_size=32, num_workers=workers)):
            if step % 2:
                with torch.no_grad():
                    for _ in evaluation:
                        pass
    assert session.indices(data.uid) == list(range(N))
    assert session.indices(other.uid) == list(range(N)) * 2
    uses = {(batch[0].dataset, grad) for batch, grad in zip(session.batches, session.grad, strict=True)}
    assert uses == {(data.uid, True), (other.uid, False)}


@pytest.mark.parametrize("workers", [0, 2])
def test_datasets_around_attested_ones(data: AttestedMmapDataset, tokens: Path, workers: int) -> None:
    other = AttestedMmapDataset(tokens, record_length=LENGTH)
    mixture = ConcatDataset([Subset(data, [5, 6, 7, 8]), Wrapped(other)])
    with recording() as session:
        received = [
            n for batch in DataLoader(mixture, batch_size=8, num_workers=workers) for n in numbers(batch)
        ]
    assert session.indices(data.uid) == [5, 6, 7, 8]
    assert session.indices(other.uid) == list(range(N))
    assert received == [5, 6, 7, 8, *range(N)]
    assert [reads.dataset for reads in session.batches[0]] == [data.uid, other.uid]


def test_iterable_dataset_over_an_attested_one(data: AttestedMmapDataset) -> None:
    with recording() as session:
        received = [
            n for batch in DataLoader(Streaming(data), batch_size=8, num_workers=2) for n in numbers(batch)
        ]
    assert received == session.indices()
    assert sorted(received) == list(range(N))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_other_ways_to_start_workers(tokens: Path, method: str) -> None:
    measure.measure(tokens, record_length=LENGTH)
    data = AttestedMmapDataset(tokens)
    with recording() as session:
        loader = DataLoader(data, batch_size=32, num_workers=1, multiprocessing_context=method)
        received = [n for batch in loader for n in numbers(batch)]
    assert received == session.indices(data.uid) == list(range(N))
    assert session.batches[0][0].product == b""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("chosen", [True, False])
def test_workers_whose_code_nobody_hashed_are_refused(
    data: AttestedMmapDataset,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    chosen: bool,  # noqa: FBT001 (a parameter of the test)
) -> None:
    monkeypatch.setattr(recorder, "workers_must_fork", lambda: True)
    context = method if chosen else None
    loader = DataLoader(data, batch_size=32, num_workers=1, multiprocessing_context=context)
    if not chosen:
        monkeypatch.setattr("multiprocessing.get_start_method", lambda **_: method)
    with pytest.raises(CoverageError, match=f"by '{method}' load their code anew"):
        iter(loader)
    assert len(list(DataLoader(data, batch_size=32, multiprocessing_context=None))) == 4
    forked = DataLoader(data, batch_size=32, num_workers=1, multiprocessing_context="fork")
    assert len(list(forked)) == 4


def test_a_session_says_whether_workers_must_fork(data: AttestedMmapDataset) -> None:
    assert not recorder.workers_must_fork()
    nobody: Any = None
    with recorder.install(nobody, "x", forks=True):
        assert recorder.workers_must_fork()
        loader = DataLoader(data, num_workers=1, multiprocessing_context="spawn")
        with pytest.raises(CoverageError):
            iter(loader)
    with recorder.install(nobody, "x"):
        assert not recorder.workers_must_fork()


def test_outside_a_session_it_is_torchs_loader(data: AttestedMmapDataset, rows: np.ndarray) -> None:
    got = torch.cat(list(DataLoader(data, batch_size=10, num_workers=2)))
    assert torch.equal(got, torch.from_numpy(rows.astype(np.int64)))
    loader = DataLoader(TensorDataset(torch.arange(4)), batch_size=2)
    assert [batch[0].tolist() for batch in loader] == [[0, 1], [2, 3]]
    assert len(iter(loader)) == len(loader) == 2
    assert iter(iterator := iter(loader)) is iterator


def test_reading_by_hand_is_delivering(data: AttestedMmapDataset) -> None:
    with recording() as session:
        data[3]
        with torch.no_grad():
            data.__getitems__([1, 2])
        for _ in torch.utils.data.DataLoader(Subset(data, [7, 9]), batch_size=2):
            pass
    assert session.indices() == [3, 1, 2, 7, 9]
    assert session.grad == [True, False, True]
    data[4]
    assert len(session.batches) == 3


def test_a_loader_keeps_its_own_functions(data: AttestedMmapDataset) -> None:
    loader = DataLoader(data, batch_size=4, worker_init_fn=mark_worker, num_workers=1)
    for _ in loader:
        break
    assert loader.collate_fn is default_collate
    assert loader.worker_init_fn is mark_worker


def test_carrying_collate_of_a_stock_loader_makes_plain_batches(data: AttestedMmapDataset) -> None:
    collate = carrier.CarryingCollate(default_collate)
    with recording() as session:
        loader = torch.utils.data.DataLoader(data, batch_size=4, collate_fn=collate)
        assert isinstance(next(iter(loader)), torch.Tensor)
    assert session.indices() == [0, 1, 2, 3]
    pickle.loads(pickle.dumps(collate))  # noqa: S301 (bytes this test made)


def test_carrier_pins_its_batch() -> None:
    class Pinned:
        def pin_memory(self) -> Any:
            return "pinned"

    carried = carrier.Carrier([Pinned()], ()).pin_memory()
    assert carried == carrier.Carrier(["pinned"], ())


# What cannot be counted ------------------------------------------------------------------------------


def test_stock_loader_with_workers_says_what_to_write(data: AttestedMmapDataset) -> None:
    with pytest.raises(CoverageError, match=r"use\s+palm_torch\.DataLoader"):
        next(iter(torch.utils.data.DataLoader(data, num_workers=1)))


def test_batch_without_an_attested_dataset() -> None:
    with recording(), pytest.raises(CoverageError, match=r"TensorDataset.*AttestedMmapDataset"):
        next(iter(DataLoader(TensorDataset(torch.arange(4)))))


def test_pass_begun_before_the_session(data: AttestedMmapDataset) -> None:
    begun = iter(DataLoader(data, batch_size=4))
    next(begun)
    with recording() as session, pytest.raises(SessionError, match="before the session began"):
        next(begun)
    assert not session.batches


def test_pass_continued_after_the_session(data: AttestedMmapDataset) -> None:
    with recording("one"):
        begun = iter(DataLoader(data, batch_size=4))
        next(begun)
    with pytest.raises(SessionError, match="has ended"):
        next(begun)
    with recording("two"):
        begun_again = iter(DataLoader(data, batch_size=4))
    with recording("three"), pytest.raises(SessionError):
        next(begun_again)


def test_loader_made_before_the_session_is_fine(data: AttestedMmapDataset) -> None:
    loader = DataLoader(data, batch_size=64, num_workers=1, persistent_workers=True)
    for _ in loader:
        pass
    with recording() as session:
        for _ in loader:
            pass
    assert session.indices() == list(range(N))


def test_another_thread(data: AttestedMmapDataset) -> None:
    errors = []

    def read() -> None:
        for use in (lambda: next(iter(DataLoader(data))), lambda: data[0]):
            try:
                use()
            except SessionError as error:
                errors.append(error)

    with recording() as session:
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    assert len(errors) == 2
    assert not session.batches


def test_changed_record_in_a_worker_keeps_its_class(tokens: Path) -> None:
    measure.measure(tokens, record_length=LENGTH)
    data = AttestedMmapDataset(tokens)
    with (tokens / "part-0.bin").open("r+b") as stream:
        stream.seek(10 * 32)
        stream.write(b"\xff\xff")
    with recording() as session:
        loader = DataLoader(data, batch_size=4, num_workers=1)
        begun = iter(loader)
        next(begun)
        next(begun)
        with pytest.raises(RecordError, match="record 10 "):
            next(begun)
        with pytest.raises(CoverageError, match=r"broke earlier.*RecordError"):
            next(begun)
    assert session.indices() == list(range(8))


def test_killed_worker(data: AttestedMmapDataset) -> None:
    with recording() as session:
        begun = iter(DataLoader(Kills(data), batch_size=4, num_workers=1, prefetch_factor=1))
        with pytest.raises(CoverageError, match=r"lost its workers.*pid.*\d+") as caught:
            for _ in begun:
                pass
        assert isinstance(caught.value.__cause__, RuntimeError)
        with pytest.raises(CoverageError, match="broke earlier"):
            next(begun)
    assert set(session.indices()) <= set(range(20))


@pytest.mark.parametrize("workers", [0, 1])
def test_errors_of_the_users_own_stay_theirs(data: AttestedMmapDataset, workers: int) -> None:
    options = {"num_workers": workers, "persistent_workers": bool(workers)}
    with recording() as session:
        loader = DataLoader(Wrapped(data, fail_at=2), batch_size=2, **options)
        begun = iter(loader)
        next(begun)
        with pytest.raises(RuntimeError, match="own trouble"):
            next(begun)
        assert session.indices() == [0, 1]
        next(iter(loader))  # a new pass has nothing of the broken batch
    assert session.indices() == [0, 1, 0, 1]


def test_recorder_that_refuses_breaks_the_pass(data: AttestedMmapDataset) -> None:
    with recording() as session:
        begun = iter(DataLoader(data))

        def refuse(_reads: object, **_: object) -> None:
            raise CoverageError("cannot account for it")

        session.deliver = refuse
        with pytest.raises(CoverageError, match="account for it"):
            next(begun)
        with pytest.raises(CoverageError, match="broke earlier"):
            next(begun)
