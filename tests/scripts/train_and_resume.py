"""Trains a small model in one go, and again with the process killed over and over; saves both evidences.

Usage: train_and_resume.py WITH WITHOUT OUT SEED KILLS, the first two being data with a manifest and without.
Prints after which steps the run was killed. Every attempt is a fork of this process, which has imported torch
and opened nothing.
"""

from __future__ import annotations

import gc
import json
import os
import random
import select
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torchdata.stateful_dataloader.sampler import RandomSampler

import palm_torch
from palm_torch.attesting.attested import attested

STEPS = 60
EVERY = 4
BATCH = 4


class Net(nn.Module):
    """A language model with dropout and with statistics that move in the forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.enc = nn.Embedding(16, 8)
        self.norm = nn.BatchNorm1d(8)
        self.drop = nn.Dropout(0.3)
        self.dec = nn.Linear(8, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.dec(self.drop(self.norm(self.enc(x).transpose(1, 2)).transpose(1, 2)))


def train(data: list[Path], out: Path, progress: int, *, ends: bool) -> None:
    """Trains from the newest checkpoint, if there is one, to the end, and saves evidence.

    Args:
        data: Folders of records.
        out: Where checkpoint and evidence go.
        progress: Descriptor that is told with how many steps it begins, and then of every step.
        ends: Whether to end; otherwise it waits to be killed.
    """
    saved = out / "checkpoint.pt"
    before = torch.load(saved, weights_only=True) if saved.exists() else None
    torch.manual_seed(5)
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002 (the global generator is what evidence speaks of)
    warnings.filterwarnings("ignore", message="'set_vital' is deprecated")
    with attested("train", resume=before["palm"] if before else None) as run:
        net = Net()
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.05)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS)
        parts = [palm_torch.AttestedMmapDataset(path, targets=True, record_length=9) for path in data]
        dataset = torch.utils.data.ConcatDataset(parts)
        loader = palm_torch.StatefulDataLoader(
            dataset,
            batch_size=BATCH,
            sampler=RandomSampler(dataset, generator=torch.Generator().manual_seed(1)),
            num_workers=1,
            generator=torch.Generator(),  # of the workers' seeds: these must not move the global generator
        )
        run.input(recipe=b"the same in every session")
        run.config(dropout=0.3)
        step = 0
        if before:
            net.load_state_dict(before["model"])
            optimizer.load_state_dict(before["optimizer"])
            schedule.load_state_dict(before["schedule"])
            loader.load_state_dict(before["loader"])
            torch.set_rng_state(before["torch"])
            random.setstate(_state(before["python"]))
            step = before["step"]
        os.write(progress, step.to_bytes(4, "big"))
        while step < STEPS:
            for x, y in loader:
                loss = nn.functional.cross_entropy(net(x).flatten(0, 1), y.flatten())
                (loss * (1 + 0.1 * random.random())).backward()
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                step += 1
                run.log(loss=loss.item())
                if step % (3 * EVERY) == 0:
                    net.eval()
                    with torch.no_grad():
                        for x, _ in palm_torch.DataLoader(parts[0], batch_size=BATCH):  # noqa: PLW2901 (again)
                            net(x)
                    net.train()
                if step % EVERY == 0:
                    checkpoint = {
                        "model": net.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "schedule": schedule.state_dict(),
                        "loader": loader.state_dict(),
                        "torch": torch.get_rng_state(),
                        "python": json.dumps(random.getstate()),
                        "step": step,
                        "palm": run.state_dict(),
                    }
                    torch.save(checkpoint, out / "checkpoint.tmp")
                    (out / "checkpoint.tmp").replace(saved)
                os.write(progress, step.to_bytes(4, "big"))
                if step == STEPS:
                    break
        while not ends:
            signal.pause()
        run.output(result=b"the same in the end")
    run.evidence.save(out / "evidence.palm.json")


def _state(text: str) -> tuple[int, tuple[int, ...], None]:
    version, numbers, gauss = json.loads(text)
    return version, tuple(numbers), gauss


def attempt(kill_after: tuple[int, float] | None, **options: object) -> list[int]:
    """Trains in a fork; returns the steps it reported before it ended or was killed.

    Args:
        kill_after: Number of steps and seconds to wait before the kill; None to let it end.
        options: Of `train`.
    """
    heard, told = os.pipe()
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)  # its workers die with it
        os.close(heard)
        try:
            train(progress=told, ends=kill_after is None, **options)  # type: ignore[arg-type]
        except BaseException:  # noqa: BLE001 (a fork must not go on as its parent would)
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    os.close(told)
    steps = []
    while (kill_after is None or len(steps) < kill_after[0]) and (data := os.read(heard, 4)):
        steps.append(int.from_bytes(data, "big"))
        if steps[-1] == STEPS:
            break
    if kill_after is not None:
        time.sleep(kill_after[1])
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    while select.select([heard], [], [], 0)[0] and (data := os.read(heard, 4)):
        steps.append(int.from_bytes(data, "big"))
    os.close(heard)
    expected = 0 if kill_after is None else signal.SIGKILL
    if status != expected:
        raise SystemExit(f"attempt ended with status {status}, expected {expected}")
    return steps


def main() -> None:
    """Runs both."""
    *data, out = map(Path, sys.argv[1:4])
    seed, kills = map(int, sys.argv[4:6])
    gc.freeze()  # a fork copies what its collector touches
    rng = random.Random(seed)
    for name in ("unbroken", "resumed"):
        (out / name).mkdir()
    attempt(None, out=out / "unbroken", data=data)
    killed = []
    for _ in range(kills):
        steps = attempt((rng.randint(1, 8), 0.1 * rng.random()), out=out / "resumed", data=data)
        killed.append(steps[-1])
    attempt(None, out=out / "resumed", data=data)
    sys.stdout.write(json.dumps(killed) + "\n")


if __name__ == "__main__":
    main()
