"""Modules whose parameters `fully_shard` has split: the same model as before, under the same names."""

from __future__ import annotations

import copy
import sys
from typing import TYPE_CHECKING

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard

from palm_torch.attesting.training_model import TrainedModel
from palm_torch.errors import CoverageError
from palm_torch.hooks import architecture, discovery, optimizer_state, tensors, weights, wrappers
from palm_torch.hooks.writes import WriteWatch

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _one_rank(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # torch puts the rank before every line, for good
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 5), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x))


def both() -> tuple[Net, nn.Module]:
    plain = Net()
    split = copy.deepcopy(plain)
    fully_shard(split.a)
    fully_shard(split)
    return plain, split


def owners(module: nn.Module) -> discovery.Owners:
    return discovery.declared(module)


def test_names_classes_and_weights_are_the_authors() -> None:
    plain, split = both()
    assert type(split).__name__ == "FSDPNet"
    assert wrappers.kind_of(split) is Net
    assert wrappers.kind_of(plain) is Net
    assert (wrappers.is_sharded(split), wrappers.is_sharded(split.b)) == (True, False)
    assert owners(split).names == owners(plain).names == ("Net",)
    assert architecture.describe(owners(split)) == architecture.describe(owners(plain))
    measured = weights.WeightsMeter().measure(owners(split).tensors())
    assert measured == weights.WeightsMeter().measure(owners(plain).tensors())


def test_gathered_parameters_are_given_up_before_they_are_read() -> None:
    _, split = both()
    before = list(split.parameters())
    with torch.no_grad():
        split(torch.ones(1, 3))
    assert not all(map(tensors.is_distributed, split.parameters()))
    wrappers.reshard(module for _, module in wrappers.named_modules(split))
    assert all(one is other for one, other in zip(split.parameters(), before, strict=True))


def test_a_part_is_a_tensor_and_the_whole_another() -> None:
    _, split = both()
    parameter = next(split.parameters())
    assert tensors.is_distributed(parameter)
    assert not tensors.is_distributed(torch.ones(1))
    assert tensors.whole(parameter).equal(tensors.local(parameter))
    assert tensors.whole(plain := torch.ones(1)) is tensors.local(plain) is plain
    tensors.require_bytes(parameter, what="a")
    with pytest.raises(CoverageError, match="a DTensor, of which this rank holds a part"):
        tensors.tensor_bytes(parameter)


def test_the_state_of_an_optimizer_is_that_of_its_part() -> None:
    _, split = both()
    optimizer = torch.optim.Adagrad(split.parameters(), lr=0.1)
    assert optimizer_state.begun_with(optimizer) is None
    split(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    before = optimizer_state.begun_with(optimizer)
    assert before is not None
    assert before == optimizer_state.digest_of(optimizer)
    optimizer.step()
    assert optimizer_state.digest_of(optimizer) != before


def test_a_process_alone_cannot_measure_a_part() -> None:
    _, split = both()
    model = TrainedModel(lambda *_: None, WriteWatch())
    model.declare(split)
    optimizer = torch.optim.SGD(split.parameters(), lr=0.1)
    with pytest.raises(CoverageError, match="start the script with torchrun"):
        model.introduce(optimizer, tuple(split.parameters()))
