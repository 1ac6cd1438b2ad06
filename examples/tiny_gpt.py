"""Train a small GPT on token shards, and seal what was done: an ordinary script plus three lines.

    palm-torch measure corpus/ --record-length 257
    python examples/tiny_gpt.py corpus/

The lines that palm-torch asks for are marked.
"""

from __future__ import annotations

import sys
from typing import Any

import safetensors.torch
import torch
from tiny_gpt_model import TinyGPT
from torch.nn import functional

import palm_torch


def main(folder: str) -> None:
    """Trains for one epoch over the records of a folder of uint16 shards."""
    torch.manual_seed(0)
    model = TinyGPT(context=256)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    with palm_torch.attested("train") as run:  # 1: around the loop
        data = palm_torch.AttestedMmapDataset(folder, record_length=257, targets=True)  # 2: hashed as sampled
        loader: palm_torch.DataLoader[Any] = palm_torch.DataLoader(  # 3: counts what the loop received
            data, batch_size=64, shuffle=True, num_workers=2
        )
        for step, (tokens, targets) in enumerate(loader):
            loss = functional.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch's own
            optimizer.step()
            run.log(loss=loss)
            if step % 50 == 0:
                print(f"step {step}: loss {loss.item():.3f}")

    safetensors.torch.save_file(model.state_dict(), "model.safetensors")
    print("sealed in", run.evidence.save("train.palm.json"))


if __name__ == "__main__":
    main(sys.argv[1])
