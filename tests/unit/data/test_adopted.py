"""Torch's own loaders deliver as attested ones do inside a session, and are themselves again after it."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import types
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import torch
import torch.utils.data
from recording import LENGTH, RECORDS, Remembering, recording
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset

import palm_torch
from palm_torch import recorder, statement
from palm_torch.commit import multiset
from palm_torch.data import adopted
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.errors import CoverageError, SessionError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ITER, GET = DataLoader.__iter__, DataLoader._get_iterator


@contextlib.contextmanager
def session(name: str = "session-1") -> Iterator[Remembering]:
    with recording(name) as remembering, adopted.adopting():
        yield remembering
    assert DataLoader.__iter__ is ITER
    assert DataLoader._get_iterator is GET
    assert "__init_subclass__" not in vars(DataLoader)


@pytest.fixture
def data(tokens: Path) -> Any:
    return AttestedMmapDataset(tokens, record_length=LENGTH)


def numbers(batch: torch.Tensor) -> list[int]:
    return batch[:, 0].tolist()


class Own(Dataset[Any]):
    """A dataset of the user's own around another one."""

    def __init__(self, inner: Any, fail_at: int | None = None) -> None:
        self.inner, self.fail_at = inner, fail_at

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Any:
        record = self.inner[index]
        if index == self.fail_at:
            raise ValueError("the user's own trouble")
        return record + 0


class Late(IterableDataset[Any]):
    """Yields numbers of its own first, and attested records after them."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __iter__(self) -> Iterator[Any]:
        yield from (torch.tensor([-1]) for _ in range(4))
        yield from (self.inner[index] for index in range(4))


class Subclass(DataLoader[Any]):
    """A loader as frameworks derive them."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        yield from super().__iter__()


def stack(rows: Any) -> Any:
    return torch.stack(list(rows))


OPTIONS = {
    "plain": {"batch_size": 8},
    "shuffled": {"batch_size": 8, "shuffle": True, "drop_last": True},
    "no batches": {"batch_size": None},
    "own collate": {"batch_size": 8, "collate_fn": stack},
    "batch sampler": {"batch_sampler": [[1, 2], [3], [2, 2, 2]]},
    "generator": {"batch_size": 16, "shuffle": True, "generator": torch.Generator().manual_seed(3)},
}
WORKERS = {
    "none": {},
    "two": {"num_workers": 2, "prefetch_factor": 4},
    "persistent": {"num_workers": 2, "persistent_workers": True},
}


@pytest.mark.parametrize("workers", list(WORKERS))
@pytest.mark.parametrize("name", list(OPTIONS))
def test_delivers_as_an_attested_loader_does(data: Any, name: str, workers: str) -> None:
    received: dict[type, list[Any]] = {}
    sessions = {}
    for kind in (DataLoader, palm_torch.DataLoader):
        torch.manual_seed(3)
        if "generator" in OPTIONS[name]:
            OPTIONS[name]["generator"].manual_seed(3)  # type: ignore[attr-defined]
        with session() as sessions[kind]:
            loader = kind(data, **OPTIONS[name], **WORKERS[workers])
            received[kind] = [batch for _ in range(2) for batch in loader]
            received[kind].append(torch.get_rng_state())
    for batch, expected in zip(*received.values(), strict=True):
        assert type(batch) is torch.Tensor
        assert torch.equal(batch, expected)
    stock, attested = sessions.values()
    assert stock.batches == attested.batches
    assert stock.indices(data.uid) == [
        int(row[0]) for b in received[DataLoader][:-1] for row in b.reshape(-1, 16)
    ]
    assert stock.batches[0][0].product == multiset.product_of(stock.batches[0][0].digests)


@pytest.mark.parametrize("workers", list(WORKERS))
def test_what_was_fetched_and_never_received_does_not_count(data: Any, workers: str) -> None:
    received = []
    with session() as counted:
        loader = DataLoader(data, batch_size=4, **WORKERS[workers])
        for stop in (0, 3, 1):
            for at, batch in enumerate(loader):
                received += numbers(batch)
                if at == stop:
                    break
        assert loader.collate_fn is torch.utils.data.default_collate
        assert loader.worker_init_fn is None
    assert received == counted.indices() == [*range(4), *range(16), *range(8)]


def test_datasets_around_attested_ones_and_subclasses_of_the_loader(data: Any) -> None:
    mixture = ConcatDataset([Subset(data, [5, 6, 7, 8]), Own(data)])
    with session() as counted:
        received = [n for batch in Subclass(mixture, batch_size=8, num_workers=1) for n in numbers(batch)]
        assert counted.indices() == received == [5, 6, 7, 8, *range(RECORDS)]
        with torch.no_grad():
            next(iter(DataLoader(data)))
    assert counted.grad[0] is True
    assert counted.grad[-1] is False


@pytest.mark.slow
def test_spawned_workers(data: Any) -> None:
    with session() as counted:
        loader = DataLoader(data, batch_size=64, num_workers=1, multiprocessing_context="spawn")
        received = [n for batch in loader for n in numbers(batch)]
    assert received == counted.indices() == list(range(RECORDS))


def test_workers_whose_code_nobody_hashed(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "workers_must_fork", lambda: True)
    method = {"num_workers": 1, "multiprocessing_context": "forkserver"}
    with session() as counted:
        assert len(list(DataLoader(TensorDataset(torch.arange(2)), **method))) == 2
        with pytest.raises(CoverageError, match="'forkserver' load their code anew"):
            next(iter(DataLoader(data, **method)))
        assert len(list(DataLoader(data, batch_size=64, num_workers=1, multiprocessing_context="fork"))) == 2
    assert len(counted.batches) == 2


# Loaders that the session has nothing to do with --------------------------------------------------------


@pytest.mark.parametrize("workers", list(WORKERS))
def test_other_data_passes_untouched(workers: str) -> None:
    rows = TensorDataset(torch.arange(10))
    outside = [batch[0].tolist() for batch in DataLoader(rows, batch_size=4, **WORKERS[workers])]
    with session() as counted:
        loader = DataLoader(rows, batch_size=4, **WORKERS[workers])
        begun = iter(loader)
        assert len(begun) == len(loader)  # type: ignore[arg-type]
        assert begun._num_yielded == 0  # torch's own attributes are found
        assert [batch[0].tolist() for batch in begun] == outside
        left = iter(loader)
        first = next(left)[0]
    assert not counted.batches
    assert first.tolist() == outside[0]
    assert next(left)[0].tolist() == outside[1]  # a pass may go on after the session


@pytest.mark.parametrize("workers", ["none", "persistent"])
def test_errors_in_other_data_stay_the_users_own(workers: str) -> None:
    rows = Own([torch.tensor(n) for n in range(6)], fail_at=2)
    with session() as counted:
        begun = iter(DataLoader(rows, batch_size=2, **WORKERS[workers]))
        next(begun)
        with pytest.raises(ValueError, match="own trouble"):
            next(begun)
        assert next(begun).tolist() == [4, 5]
    assert not counted.batches


def test_another_thread_may_load_other_data_and_no_attested_data(data: Any) -> None:
    caught: list[BaseException] = []

    def load() -> None:
        list(DataLoader(TensorDataset(torch.arange(3))))
        try:
            next(iter(DataLoader(data)))
        except SessionError as error:
            caught.append(error)

    with session() as counted:
        thread = threading.Thread(target=load)
        thread.start()
        thread.join()
    assert len(caught) == 1
    assert not counted.batches


# What cannot be counted ----------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["none", "two"])
def test_a_pass_that_failed_delivers_no_more_records(data: Any, workers: str) -> None:
    with session() as counted:
        begun = iter(DataLoader(Own(data, fail_at=2), batch_size=2, **WORKERS[workers]))
        next(begun)
        with pytest.raises(ValueError, match="own trouble"):
            next(begun)
        with pytest.raises(CoverageError, match=r"broke earlier.*ValueError"):
            next(begun)
    assert counted.indices() == [0, 1]


@pytest.mark.parametrize("workers", ["none", "two"])
def test_a_pass_does_not_outlive_its_session(data: Any, workers: str) -> None:
    with session():
        begun = iter(DataLoader(data, batch_size=2, **WORKERS[workers]))
        next(begun)
    with pytest.raises(SessionError, match="in a session that has ended"):
        next(begun)


def test_a_pass_begun_before_the_session(data: Any) -> None:
    late = iter(DataLoader(Late(data), batch_size=4, num_workers=1, prefetch_factor=2))
    with session() as counted:
        next(late)
        with pytest.raises(CoverageError, match="nothing carries the digests"):
            next(late)
    assert not counted.batches


def test_a_worker_that_dies_takes_the_account_with_it(data: Any) -> None:
    def die() -> None:
        raise RuntimeError("DataLoader worker (pid 1) is killed")

    with session():
        loader = DataLoader(data, batch_size=2, num_workers=1)
        begun = iter(loader)
        next(begun)
        begun._inner._next_data = die
        with pytest.raises(CoverageError, match="lost its workers"):
            next(begun)


# After the session ---------------------------------------------------------------------------------------


def test_persistent_workers_carry_nothing_after_the_session(data: Any) -> None:
    loader = DataLoader(data, batch_size=8, num_workers=1, persistent_workers=True)
    others = DataLoader(TensorDataset(torch.arange(4)), batch_size=4, num_workers=1, persistent_workers=True)
    with session():
        next(iter(loader))
        next(iter(others))
    assert [type(batch) for batch in others] == [list]
    with session("again") as counted:
        assert len([n for batch in loader for n in numbers(batch)]) == RECORDS
    assert counted.indices() == list(range(RECORDS))
    with pytest.raises(CoverageError, match="begin the pass inside the session"):
        next(iter(loader))


def test_a_patch_by_somebody_else_stays_and_ours_is_inert(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DataLoader, "__iter__", ITER)  # so that it is put back
    with recording(), adopted.adopting():
        theirs = functools.partialmethod(lambda loader, begin: begin(loader), DataLoader.__iter__)
        monkeypatch.setattr(DataLoader, "__iter__", theirs)
        assert type(iter(DataLoader(data))) is adopted.AdoptedIterator
    assert vars(DataLoader)["__iter__"] is theirs
    assert type(iter(DataLoader(data))) is not adopted.AdoptedIterator


def test_a_loader_class_of_torchdata_that_is_defined_in_the_session(
    data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, adopted._STATEFUL, raising=False)

    def body(space: dict[str, Any]) -> None:
        space["__module__"] = adopted._STATEFUL
        space["__iter__"] = lambda loader: loader._get_iterator()  # nothing of torch's is called
        space["_get_iterator"] = GET
        space["state_dict"] = lambda loader: loader.dataset[7] is None

    with session() as counted:
        kind: Any = types.new_class("StatefulDataLoader", (DataLoader,), exec_body=body)
        ours = vars(kind)["__iter__"]
        types.new_class("Other", (DataLoader,), exec_body=body)
        loader = kind(data, batch_size=64, num_workers=1)
        assert not loader.state_dict()  # a loader that reads on the way to its position delivers nothing
        assert [n for batch in loader for n in numbers(batch)] == list(range(RECORDS))
    assert counted.indices() == list(range(RECORDS))
    assert vars(kind)["__iter__"] is not ours


def test_loaders_die_with_their_last_name(data: Any) -> None:
    with session():
        loader = DataLoader(data, batch_size=8, num_workers=1)
        begun = iter(loader)
        next(begun)
        inner, dead = begun._inner._workers[0], weakref.ref(begun)  # type: ignore[attr-defined]
        del begun
        assert dead() is None
        assert not inner.is_alive()
        dead = weakref.ref(loader)
        del loader
        assert dead() is None


def test_a_session_adopts(tokens: Path) -> None:
    model = torch.nn.Linear(LENGTH, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    rows = AttestedMmapDataset(tokens, record_length=LENGTH)
    with palm_torch.attested("train") as run:
        for batch in DataLoader(rows, batch_size=40, num_workers=1):
            model(batch.float()).mean().backward()
            optimizer.step()
    uses = statement.decode(run.evidence.bundle.end.statement).claims.data["dataset1"].uses
    assert uses["train"].delivered == RECORDS
    assert DataLoader.__iter__ is ITER
