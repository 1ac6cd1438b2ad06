"""A training script that loses a worker and goes on as if nothing had happened. Argument: the dataset."""

import contextlib
import os
import signal
import sys
import time

import torch
from torch import nn
from torch.nn import functional

from palm_torch.attesting.attested import attested
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.loader import DataLoader
from palm_torch.errors import SessionError

if __name__ == "__main__":
    net = nn.Sequential(nn.Embedding(16, 4), nn.Linear(4, 16))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    try:
        with attested("train") as run:
            dataset = AttestedMmapDataset(sys.argv[1], targets=True)
            batches = iter(DataLoader(dataset, batch_size=1, num_workers=1, prefetch_factor=1))
            x, y = next(batches)
            functional.cross_entropy(net(x).flatten(0, 1), y.flatten()).backward()
            optimizer.step()
            with contextlib.suppress(RuntimeError):  # torch says so wherever the script happens to be
                os.kill(batches._inner._workers[0].pid, signal.SIGKILL)
                time.sleep(60)
            try:
                list(batches)
            except Exception as error:  # noqa: BLE001 (a script that swallows everything)
                sys.stdout.write(f"{type(error).__name__}: {error}\n")
    except SessionError as error:
        sys.stdout.write(f"{type(error).__name__}: {error}\n")
