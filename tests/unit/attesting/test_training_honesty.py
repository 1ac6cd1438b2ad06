"""Ordinary-looking loops whose evidence would mislead: refused, or marked so that a verifier sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import loops
import numpy as np
import pytest
import torch
from loops import Net, loss_of, opened
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from palm_torch import statement
from palm_torch.attesting.attested import attested
from palm_torch.data.loader import DataLoader
from palm_torch.errors import CoverageError, RecordError, SessionError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from palm_torch.attesting.session import Session


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return loops.corpus(tmp_path / "corpus")


@pytest.fixture(scope="module", autouse=True)
def _fresh_process() -> Iterator[None]:
    with loops.fresh_process():
        yield


def claims_of(run: Session) -> Any:
    return statement.decode(run.evidence.bundle.end.statement).claims


def step(net: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> None:
    optimizer.zero_grad()
    loss_of(net, batch).backward()
    optimizer.step()


def test_weights_assigned_after_the_first_step(data: Path) -> None:
    net, stolen = Net(), Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def block() -> None:
        with attested("train"):
            batches = iter(DataLoader(opened(data), batch_size=4))
            step(net, optimizer, next(batches))
            net.load_state_dict(stolen.state_dict(), assign=True)
            step(net, torch.optim.SGD(net.parameters(), lr=0.0), next(batches))

    with pytest.raises(CoverageError, match="not there at its first step"):
        block()


def test_part_of_a_model_trained_by_hand_beside_an_optimizer(data: Path) -> None:
    net = Net()
    parameters = list(net.parameters())
    optimizer = torch.optim.SGD(parameters[-1:], lr=0.1)

    def block() -> None:
        with attested("train"):
            for batch in DataLoader(opened(data), batch_size=4):
                step(net, optimizer, batch)
                with torch.no_grad():
                    parameters[0] -= 50 * parameters[0].grad

    with pytest.raises(CoverageError, match="changed, but no optimizer that was measured has stepped it"):
        block()


def test_a_target_that_asks_for_no_gradient_may_move(data: Path) -> None:
    net = nn.ModuleDict({"online": Net(), "target": Net().requires_grad_(requires_grad=False)})
    optimizer = torch.optim.SGD(net["online"].parameters(), lr=0.1)
    with attested("train") as run:
        for batch in DataLoader(opened(data), batch_size=4):
            step(net["online"], optimizer, batch)
            net["target"].load_state_dict(net["online"].state_dict())
    assert claims_of(run).steps.taken == 6


def test_writes_between_steps_are_counted(data: Path) -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with attested("train") as run:
        for batch in DataLoader(opened(data), batch_size=4):
            step(net, optimizer, batch)
            with torch.no_grad():
                for parameter in net.parameters():
                    parameter.clamp_(-1, 1)
    assert claims_of(run).configuration.value["writes_outside_steps"] == 6


def test_steps_without_new_records_are_counted(data: Path) -> None:
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with attested("train") as run:
        for batch in DataLoader(opened(data), batch_size=4):
            step(net, optimizer, batch)
            step(net, optimizer, batch)
    assert claims_of(run).configuration.value["steps_without_new_records"] == 6


class Forgiving(Dataset[Any]):
    """Swallows what goes wrong below it."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.inner[index]
        except RecordError:
            return self.inner[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_changed_record_that_a_wrapper_swallows(data: Path, workers: int) -> None:
    dataset = opened(data)
    shard = min(data.glob("*.bin"))
    tokens = np.fromfile(shard, np.uint16)
    tokens[dataset.info.layout.record_bytes // 2 * 2] ^= 1  # in the third record
    tokens.tofile(shard)
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

    def block() -> None:
        with attested("train"):
            for batch in DataLoader(Forgiving(dataset), batch_size=4, num_workers=workers):
                step(net, optimizer, batch)

    with pytest.raises((SessionError, CoverageError), match="RecordError"):
        block()


class Shuffling(IterableDataset[Any]):
    """Reads ahead into a buffer, so that more is read than the loop receives."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __iter__(self) -> Iterator[Any]:
        yield from [self.inner[index] for index in range(len(self.inner))]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", ["plain", "wrapped", "collated", "buffered"])
def test_only_an_unbroken_way_from_dataset_to_loop_counts_exactly(
    data: Path, kind: str, workers: int
) -> None:
    if kind == "buffered" and workers:
        pytest.skip("two workers would read everything twice")
    dataset = opened(data)
    loader: DataLoader[Any] = {
        "plain": lambda: DataLoader(dataset, batch_size=4, num_workers=workers),
        "wrapped": lambda: DataLoader(Forgiving(dataset), batch_size=4, num_workers=workers),
        "collated": lambda: DataLoader(dataset, batch_size=4, num_workers=workers, collate_fn=halved),
        "buffered": lambda: DataLoader(Shuffling(dataset), batch_size=4, num_workers=workers),
    }[kind]()
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with attested("train") as run:
        step(net, optimizer, next(iter(loader)))
    (described,) = claims_of(run).data.values()
    assert described.uses["train"].exact is (kind == "plain")


def halved(samples: Any) -> Any:
    return torch.utils.data.default_collate(list(samples)[:2])
