"""The host keeps the checkpoint's file, and training goes on in the very bytes of that file.

``torch.load(mmap=True)`` with ``load_state_dict(assign=True)`` leaves tensors in a mapping: they equal the
checkpoint at the first step, are edited on the disk while the model computes, and put back before the end.
"""

# ruff: noqa: PT012 (the whole block of a session is under test)
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import loops
import pytest
import torch
from resumable import Killed

from palm_torch.attesting.attested import attested
from palm_torch.data.loader import DataLoader
from palm_torch.errors import CoverageError

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("fresh_process")

WIDTH = 20_000  # several pages


class Scaled(loops.Net):
    """Has a frozen part that every forward pass uses."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = torch.nn.Parameter(torch.ones(WIDTH), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = super().forward(x) * self.frozen.mean()
        return result


def trainable(net: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter for name, parameter in net.named_parameters() if name != "frozen"]


def step(net: Scaled, optimizer: torch.optim.Optimizer, data: Path) -> None:
    batch: Any
    for batch in DataLoader(loops.opened(data), batch_size=24):
        loops.loss_of(net, batch).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.fixture
def path(data: Path, tmp_path: Path) -> Path:
    """The file of a checkpoint."""
    net = Scaled()
    optimizer = torch.optim.Adam(trainable(net), lr=0.1)
    with pytest.raises(Killed), attested("train") as run:
        step(net, optimizer, data)
        saved = {"model": net.state_dict(), "optimizer": optimizer.state_dict(), "palm": run.state_dict()}
        torch.save(saved, tmp_path / "last.pt")
        raise Killed
    return tmp_path / "last.pt"


def resume(data: Path, path: Path, *, model: dict[str, Any], optimizer: dict[str, Any]) -> None:
    saved = torch.load(path)
    with attested("train", resume=saved["palm"]) as run:
        net = Scaled()
        net.load_state_dict(torch.load(path, **model)["model"], assign=True)
        net.frozen.requires_grad_(requires_grad=False)
        own = torch.optim.Adam(trainable(net), lr=0.1)
        own.load_state_dict(torch.load(path, **optimizer)["optimizer"])
        step(net, own, data)
    assert run.evidence


def test_weights_that_lie_in_the_file_are_refused_before_the_first_step(data: Path, path: Path) -> None:
    with pytest.raises(CoverageError, match=r"^tensor .* lies in the mapped file .*last\.pt"):
        resume(data, path, model={"mmap": True}, optimizer={})


def test_moments_that_lie_in_the_file_are_refused_before_the_first_step(data: Path, path: Path) -> None:
    with pytest.raises(CoverageError, match=r"^Adam: state.* lies in the mapped file .*last\.pt"):
        resume(data, path, model={}, optimizer={"mmap": True})


def test_twin_read_into_memory_they_are_taken(data: Path, path: Path) -> None:
    resume(data, path, model={}, optimizer={})


def test_a_tensor_that_is_moved_into_a_file_later(data: Path, tmp_path: Path) -> None:
    torch.save(torch.ones(WIDTH), tmp_path / "ones.pt")
    net = Scaled()
    optimizer = torch.optim.SGD(trainable(net), lr=0.1)
    with pytest.raises(CoverageError, match=r"^tensor frozen lies in the mapped file"), attested("train"):
        step(net, optimizer, data)
        net.frozen.data = torch.load(tmp_path / "ones.pt", mmap=True)
