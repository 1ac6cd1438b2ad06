"""A training script that never ends: interrupted, it leaves nothing behind. Argument: the dataset."""

import signal
import sys

import torch
from torch import nn
from torch.nn import functional

from palm_torch.attesting.attested import attested
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.loader import DataLoader

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell start deaf
    net = nn.Sequential(nn.Embedding(16, 4), nn.Linear(4, 16))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with attested("train") as run:
        loader = DataLoader(AttestedMmapDataset(sys.argv[1], targets=True), batch_size=4, num_workers=1)
        while True:
            for x, y in loader:
                functional.cross_entropy(net(x).flatten(0, 1), y.flatten()).backward()
                optimizer.step()
            sys.stdout.write("an epoch\n")
            sys.stdout.flush()
    run.evidence.save("train.palm.json")
