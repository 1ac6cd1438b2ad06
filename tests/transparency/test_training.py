"""The measured run is the unmeasured run: one seed, plain torch against the session, bit for bit."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import loops
import numpy as np
import pytest
import torch
import torch.utils.data
from loops import Net, loss_of, opened
from torch import nn

from palm_torch.attesting.attested import attested
from palm_torch.data.loader import DataLoader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("fresh_process")


class Noisy(Net):
    """Draws random numbers in the forward pass and has statistics that move with it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dec(self.drop(self.norm(self.enc(x).transpose(1, 2)).transpose(1, 2)))


class Plain(torch.utils.data.Dataset[Any]):
    """What a script without palm-torch would write."""

    def __init__(self, folder: Path) -> None:
        shards = [np.memmap(path, dtype="<u2", mode="r") for path in sorted(folder.glob("*.bin"))]
        self._records = np.concatenate(shards).reshape(-1, loops.LENGTH)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        record = torch.from_numpy(self._records[index].astype(np.int64))
        return record[:-1], record[1:]


@dataclass(frozen=True)
class Outcome:
    losses: list[float]
    model: dict[str, bytes]
    moments: list[bytes]
    drawn: tuple[float, float, float]
    states: list[Any]


def seed(value: int = 7) -> None:
    torch.manual_seed(value)
    random.seed(value)
    np.random.seed(value)  # noqa: NPY002 (the global generator is what must not move)


def loop(loader: Any, *, log: Callable[..., None] = lambda **_: None, draw: bool = False) -> Outcome:
    """Two epochs with a schedule, a scaler that skips, clipping and an evaluation in between."""
    net = Noisy()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126)
    losses = []
    for _ in range(2):
        for batch in loader:
            loss = loss_of(net, batch) * (1 + 0.1 * random.random())
            optimizer.zero_grad()
            scaler.scale(loss * 16).backward()
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            scaler.step(optimizer)
            scale = scaler.get_scale()
            scaler.update()
            if scaler.get_scale() == scale:
                schedule.step()
            losses.append(loss.item())
            log(loss=loss)
        if draw:
            torch.rand(1)
        with torch.no_grad():
            losses.extend(loss_of(net, batch).item() for batch in loader)
    assert scaler.get_scale() < 2.0**126  # a step was skipped
    return Outcome(
        losses,
        {name: tensor.numpy().tobytes() for name, tensor in net.state_dict().items()},
        [tensor.numpy().tobytes() for state in optimizer.state.values() for tensor in state.values()],
        (torch.rand(()).item(), random.random(), np.random.rand()),  # noqa: NPY002 (as above)
        [torch.get_rng_state().tolist(), random.getstate(), repr(np.random.get_state())],  # noqa: NPY002
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_attested_loop_is_the_plain_loop(data: Path, workers: int) -> None:
    options = {"batch_size": 8, "shuffle": True, "num_workers": workers}
    seed()
    plain = loop(torch.utils.data.DataLoader(Plain(data), **options))
    seed()
    with attested("train") as run:
        measured = loop(DataLoader(opened(data), **options), log=run.log)
    assert measured == plain
    assert run.evidence.bundle.end.statement


def test_one_number_drawn_in_between_is_noticed(data: Path) -> None:
    seed()
    plain = loop(DataLoader(opened(data), batch_size=8, shuffle=True))
    seed()
    other = loop(DataLoader(opened(data), batch_size=8, shuffle=True), draw=True)
    assert other != plain
    assert other.states != plain.states
