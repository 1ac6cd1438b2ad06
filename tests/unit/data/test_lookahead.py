"""Accelerate's loaders fetch ahead; what counts is what they hand on, at the moment they do."""

from __future__ import annotations

import contextlib
import itertools
import sys
from typing import TYPE_CHECKING, Any

import accelerate
import pytest
import torch
from accelerate import data_loader
from accelerate.utils import DataLoaderConfiguration
from recording import LENGTH, RECORDS, Remembering, recording
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import palm_torch
from palm_torch.data import adopted
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.lookahead import Lookahead
from palm_torch.errors import CoverageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata 0.11 calls it

BATCH = 8


@contextlib.contextmanager
def session() -> Iterator[Remembering]:
    with recording() as remembering, adopted.adopting():
        yield remembering


@pytest.fixture
def data(tokens: Path) -> Any:
    return AttestedMmapDataset(tokens, record_length=LENGTH)


@pytest.fixture(autouse=True)
def _fresh_state() -> Iterator[None]:
    yield
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()


def prepared(data: Any, *, kind: type = DataLoader, options: Any = None, **config: Any) -> Any:
    accelerator = accelerate.Accelerator(cpu=True, dataloader_config=DataLoaderConfiguration(**config))
    return accelerator.prepare(kind(data, batch_size=BATCH, **(options or {})))


def numbers(batch: torch.Tensor) -> list[int]:
    return batch[:, 0].tolist()


class Stream(IterableDataset[Any]):
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __iter__(self) -> Iterator[Any]:
        return (self.inner[index] for index in range(len(self.inner)))


CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "split": {"split_batches": True},
    "uneven": {"even_batches": False},
    "dispatched": {"dispatch_batches": True},
    "dispatched and split": {"dispatch_batches": True, "split_batches": True},
    "seedable": {"use_seedable_sampler": True},
    "stateful": {"use_stateful_dataloader": True},
}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", list(CONFIGURATIONS))
def test_counts_what_the_loop_received(data: Any, name: str, workers: int) -> None:
    received: list[int] = []
    with session() as counted:
        loader = prepared(data, options={"shuffle": True, "num_workers": workers}, **CONFIGURATIONS[name])
        for stop in (None, 3, 1):
            for batch in itertools.islice(loader, stop):
                received += numbers(batch)
                assert counted.indices() == received  # this one counts, and nothing that was fetched ahead
    assert len(received) == RECORDS + 4 * BATCH


@pytest.mark.parametrize("kind", [palm_torch.DataLoader, DataLoader])
def test_attested_loaders_are_rebuilt_as_stock_ones(data: Any, kind: type) -> None:
    with session() as counted:
        loader = prepared(data, kind=kind, options={"num_workers": 1})
        assert type(loader.base_dataloader) is DataLoader
        assert [n for batch in loader for n in numbers(batch)] == counted.indices() == list(range(RECORDS))


@pytest.mark.parametrize("name", ["plain", "dispatched"])
@pytest.mark.parametrize("streams", [False, True])
def test_skipped_batches_do_not_count(data: Any, name: str, *, streams: bool) -> None:
    with session() as counted:
        loader = prepared(Stream(data) if streams else data, **CONFIGURATIONS[name])
        rest = accelerate.skip_first_batches(loader, 3)
        received = [n for batch in rest for n in numbers(batch)]
    assert received == counted.indices() == list(range(3 * BATCH, RECORDS))


@pytest.mark.parametrize("streams", [False, True])
def test_skipped_batches_of_a_loader_that_was_not_prepared(data: Any, *, streams: bool) -> None:
    loader = DataLoader(Stream(data) if streams else data, batch_size=BATCH)
    with session() as counted:
        rest = accelerate.skip_first_batches(loader, 2)
        received = [n for batch in rest for n in numbers(batch)]
    assert received == counted.indices() == list(range(2 * BATCH, RECORDS))


def test_everything_skipped(data: Any) -> None:
    with session() as counted:
        assert not list(accelerate.skip_first_batches(prepared(Stream(data)), 99))
        assert not list(accelerate.skip_first_batches(DataLoader(Stream(data)), RECORDS))
    assert not counted.batches


def test_gradients_are_looked_at_when_the_loop_receives(data: Any) -> None:
    with session() as counted:
        loader = iter(prepared(data))
        next(loader)
        with torch.no_grad():
            next(loader)
        next(loader)
    assert counted.grad == [True, False, True]


def test_other_data_is_let_pass(data: Any) -> None:
    rows = TensorDataset(torch.arange(20))
    with session() as counted:
        assert sum(len(batch[0]) for batch in prepared(rows)) == 20
        assert not [len(batch) for batch in prepared(data)][RECORDS:]
    assert len(counted.batches) == -(-RECORDS // BATCH)


# What cannot be counted ----------------------------------------------------------------------------------


def test_parts_for_other_processes(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with session() as counted:
        loader = prepared(data, dispatch_batches=True)
        monkeypatch.setitem(loader.state.__dict__, "num_processes", 2)
        with pytest.raises(CoverageError, match="dispatch_batches=False"):
            next(iter(loader))
    assert not counted.batches


class Further:
    """A later version of accelerate's loader that looks two batches ahead, or counts otherwise."""

    def __init__(self, loader: Any) -> None:
        self.base_dataloader = loader


AHEAD = """
def further(self):
    begun = self.base_dataloader.__iter__()
    current, following = next(begun), next(begun)
    batch_index = 0
    for batch in begun:
        yield current
        current, following = following, batch
        batch_index += 1
"""


@pytest.mark.parametrize("name", ["DataLoaderShard.__iter__", "NewLoader.__iter__"])
def test_a_version_that_looks_further_ahead_is_refused(data: Any, name: str) -> None:
    scope: dict[str, Any] = {"__name__": data_loader.__name__}
    exec(AHEAD, scope)  # noqa: S102 (a module of the same name)
    function = scope["further"]
    function.__code__ = function.__code__.replace(co_qualname=name)
    with session() as counted:
        other = function(Further(DataLoader(TensorDataset(torch.arange(9)), batch_size=3)))
        assert len(next(other)[0]) == 3  # of data that is not attested nothing is expected
        with pytest.raises(
            CoverageError, match=r"accelerate 1\.\S+: \w+\.__iter__ fetches its batches in an"
        ):
            next(function(Further(DataLoader(data))))
    assert not counted.batches


def test_who_iterates_is_known_by_its_module() -> None:
    frame = sys._getframe()
    assert Lookahead.of(frame) is None
