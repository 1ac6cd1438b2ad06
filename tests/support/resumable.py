"""A training script that saves checkpoints and goes on from them, for tests in one process."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import loops
import torch
from torch.utils.data import Subset

from palm_torch.attesting.attested import attested
from palm_torch.data.loader import DataLoader

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.attesting.session import Session

BATCH = 4


class Killed(BaseException):
    """What ends a session without evidence, as a kill would."""


@dataclass
class Script:
    """A model, an optimizer and a position in the data."""

    net: torch.nn.Module
    optimizer: torch.optim.Optimizer
    data: Any
    step: int = 0

    def train(self, run: Session, steps: int) -> None:
        """Takes steps, reading on where it stands; epochs are whole."""
        for _ in range(steps):
            start = self.step * BATCH % len(self.data)
            for batch in DataLoader(Subset(self.data, range(start, start + BATCH)), batch_size=BATCH):
                loss = loops.loss_of(self.net, batch)
                loss.backward()
                self.optimizer.step()
                self.optimizer.zero_grad()
                run.log(loss=loss.item())
            self.step += 1

    def save(self, run: Session) -> bytes:
        """Returns a checkpoint as a file's bytes."""
        file = io.BytesIO()
        torch.save(
            {
                "model": self.net.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "palm": run.state_dict(),
            },
            file,
        )
        return file.getvalue()

    def load(self, checkpoint: dict[str, Any]) -> Script:
        """Takes up a checkpoint."""
        self.net.load_state_dict(checkpoint["model"])
        self.optimizer.load_state_dict(checkpoint["optimizer"])
        self.step = checkpoint["step"]
        return self


def script(data: Path, *, seed: int = 1, **options: Any) -> Script:
    """Returns the script before its first step."""
    torch.manual_seed(seed)
    net = loops.Net()
    return Script(net, torch.optim.AdamW(net.parameters(), lr=0.1, **options), loops.opened(data))


def opened(file: bytes) -> dict[str, Any]:
    """Reads a checkpoint's bytes as a careful script does."""
    return torch.load(io.BytesIO(file), weights_only=True)


def saved(data: Path, *, steps: int = 3, resume: bytes | None = None, **options: Any) -> bytes:
    """Runs until a checkpoint is saved, and is killed."""
    before = None if resume is None else opened(resume)
    try:
        with attested("train", resume=before and before["palm"], **options) as run:
            one = script(data)
            if before:
                one.load(before)
            one.train(run, steps)
            file = one.save(run)
            raise Killed  # noqa: TRY301 (as a kill would)
    except Killed:
        return file


def finished(data: Path, file: bytes, *, steps: int = 3, **options: Any) -> Session:
    """Goes on from a checkpoint to the end."""
    before = opened(file)
    with attested("train", resume=before["palm"], **options) as run:
        script(data).load(before).train(run, steps)
    return run
