"""The loop that people copy: random slices of one mapped file of tokens, mapped anew for every batch.

The only line that knows of palm-torch is the import: `palm_torch.memmap` stands where `numpy.memmap` stood.
"""

# An ordinary script, without annotations and with print, as people write them.
# ruff: noqa: ANN001, ANN201, T201

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import palm_torch

folder, steps = Path(sys.argv[1]), int(sys.argv[2])
block, batch = 32, 4
torch.manual_seed(1337)
seen = []


def get_batch(split):
    data = palm_torch.memmap(folder / f"{split}.bin", dtype=np.uint16, mode="r")
    ix = torch.randint(len(data) - block, (batch,))
    x = torch.stack([torch.from_numpy((data[i : i + block]).astype(np.int64)) for i in ix])
    y = torch.stack([torch.from_numpy((data[i + 1 : i + 1 + block]).astype(np.int64)) for i in ix])
    seen.append((split, [int(i) for i in ix]))
    return x, y


model = nn.Sequential(nn.Embedding(64, 16), nn.Linear(16, 64))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)


def loss_of(x, y):
    return functional.cross_entropy(model(x).flatten(0, 1), y.flatten())


with palm_torch.attested("train") as run:
    for step in range(steps):
        if step % 2 == 0:
            with torch.no_grad():
                loss_of(*get_batch("val"))
        loss = loss_of(*get_batch("train"))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

print(f"{steps} steps, loss {loss.item():.4f}")
