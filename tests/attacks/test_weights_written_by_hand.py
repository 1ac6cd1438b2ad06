"""Weights are written between steps, where a look at the first and last parameter of a group is blind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import loops
import pytest
import torch
from resumable import Killed
from torch import nn

from palm_torch.attesting.attested import attested
from palm_torch.data.loader import DataLoader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from palm_torch.attesting.session import Session

pytestmark = pytest.mark.usefixtures("fresh_process")

WRITES, UNSTEPPED = "writes_outside_steps", "parameters_changed_without_steps"


class Deep(loops.Net):
    """Two parts, with a frozen parameter and a buffer between them."""

    def __init__(self) -> None:
        super().__init__()
        self.middle = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
        self.frozen = nn.Parameter(torch.zeros(8), requires_grad=False)
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.dec(self.middle(self.enc(x)) + self.frozen + self.mean)
        return result


def trained(
    data: Path, write: Callable[[Any], None], *, optimizers: int = 1, at: int = 2, then: int | None = None
) -> Session:
    """Trains six steps; something is written after one of them, and again after a later one."""
    torch.manual_seed(1)
    net = Deep()
    parts = [net] if optimizers == 1 else [net.enc, nn.ModuleList([net.middle, net.dec])]
    made = [
        torch.optim.SGD([item for item in part.parameters() if item.requires_grad], lr=0.01) for part in parts
    ]
    with attested("train") as run:
        batch: Any
        for number, batch in enumerate(DataLoader(loops.opened(data), batch_size=4)):
            loops.loss_of(net, batch).backward()
            for place, optimizer in enumerate(made):
                if place == 0 or number > at:  # the second one begins after the write
                    optimizer.step()
            net.zero_grad()
            if number in (at, then):
                with torch.no_grad():
                    write(net)
    return run


def counts(run: Session, folder: Path) -> dict[str, int]:
    found = loops.check(run, folder)
    value = found.claims.configuration.value
    reasons = "; ".join(item.reason for item in found.result.reservations)
    assert ("times parameters were written to" in reasons) is (value[WRITES] > 0)
    assert ("although no optimizer steps them" in reasons) is (value[UNSTEPPED] > 0)
    return {key: value[key] for key in (WRITES, UNSTEPPED) if value[key]}


def test_a_parameter_in_the_middle_of_its_group(data: Path, tmp_path: Path) -> None:
    run = trained(data, lambda net: net.middle[0].bias.fill_(6))
    assert counts(run, tmp_path) == {WRITES: 1}


def test_a_parameter_after_the_last_step(data: Path, tmp_path: Path) -> None:
    run = trained(data, lambda net: net.middle[0].bias.fill_(6), at=5)
    assert counts(run, tmp_path) == {WRITES: 1}


def test_parameters_of_an_optimizer_that_has_not_stepped_yet(data: Path, tmp_path: Path) -> None:
    run = trained(data, lambda net: net.middle[0].bias.fill_(6), optimizers=2)
    assert counts(run, tmp_path) == {WRITES: 1}


def test_a_frozen_parameter(data: Path, tmp_path: Path) -> None:
    run = trained(data, lambda net: net.frozen.fill_(6))
    assert counts(run, tmp_path) == {UNSTEPPED: 1}


def test_a_frozen_parameter_that_is_put_back_before_the_end(data: Path, tmp_path: Path) -> None:
    run = trained(data, lambda net: net.frozen.copy_(1 - net.frozen), then=4)
    assert counts(run, tmp_path) == {UNSTEPPED: 1}


def test_a_frozen_parameter_behind_its_counter(data: Path, tmp_path: Path) -> None:
    run = trained(data, lambda net: net.frozen.data.fill_(6))
    assert counts(run, tmp_path) == {UNSTEPPED: 1}


def test_what_stays_unseen_is_in_the_final_weights(data: Path, tmp_path: Path) -> None:
    """Buffers move in every forward pass of many models: only their last values are known."""
    run = trained(data, lambda net: net.mean.fill_(6))
    assert counts(run, tmp_path) == {}
    (mean,) = [item for item in loops.check(run, tmp_path).claims.model.tensors if item.name == "mean"]
    assert mean not in loops.check(run, tmp_path).claims.initial.tensors


@pytest.mark.parametrize("optimizers", [1, 2])
def test_twin_a_plain_loop_counts_nothing(data: Path, tmp_path: Path, optimizers: int) -> None:
    assert counts(trained(data, lambda _: None, optimizers=optimizers), tmp_path) == {}


def test_twin_an_optimizer_around_another_is_no_other_code(data: Path, tmp_path: Path) -> None:
    """The outer one moves what the inner one has stepped, and both are optimizers."""

    class Around(torch.optim.Optimizer):
        def __init__(self, inner: torch.optim.Optimizer) -> None:
            super().__init__(inner.param_groups[0]["params"], {})
            self.inner = inner

        def step(self, closure: Any = None) -> Any:
            self.inner.step(closure)
            with torch.no_grad():
                for group in self.param_groups:
                    for tensor in group["params"]:
                        tensor.mul_(0.5)

    net = loops.Net()
    optimizer = Around(torch.optim.SGD(net.parameters(), lr=0.1))
    with attested("train") as run:
        loops.train(net, optimizer, DataLoader(loops.opened(data), batch_size=4))
    assert counts(run, tmp_path) == {}


def test_a_frozen_parameter_before_a_checkpoint_stays_counted(data: Path, tmp_path: Path) -> None:
    def build(model: dict[str, Any] | None = None) -> tuple[Deep, torch.optim.Optimizer]:
        torch.manual_seed(1)
        net = Deep()
        if model is not None:
            net.load_state_dict(model)
        return net, torch.optim.SGD([item for item in net.parameters() if item.requires_grad], lr=0.01)

    with pytest.raises(Killed), attested("train") as run:  # noqa: PT012 (the whole block is under test)
        net, optimizer = build()
        loops.train(net, optimizer, DataLoader(loops.opened(data), batch_size=24))
        net.frozen.data.fill_(6)
        state = {"model": loops.copy_of(net), "palm": run.state_dict()}
        raise Killed
    with attested("train", resume=state["palm"]) as run:
        net, optimizer = build(state["model"])
        loops.train(net, optimizer, DataLoader(loops.opened(data), batch_size=24))
    assert counts(run, tmp_path) == {UNSTEPPED: 1}
