"""What a receipt and a checkpoint cost, beside what a quote costs.

Run ``python benchmarks/receipts.py``. Receipts speak of 32 bytes, so that no file is hashed. The simulated
quote is the production code's, on the same core and in turn with the receipts; it is no measure of hardware,
where PAL*M (arXiv 2601.16199) reports 0.7 to 1.3 s for a quote. The checkpoint is of a model of 9 million
parameters under AdamW and of a dataset of a million records, all of it measured anew.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from support.timing import seconds
from torch import nn

from palm_torch.attesting.attested import attested
from palm_torch.cvm import simulated
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.loader import DataLoader
from palm_torch.data.measure import measure

PAIRS: Final = 200
CHECKPOINTS: Final = 7
WIDTH: Final = 1024
LAYERS: Final = 9
RECORDS: Final = 1_000_000
LENGTH: Final = 8
BATCH: Final = 4096
STEPS: Final = 4


def train(data: AttestedMmapDataset, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Takes a few steps."""
    loader: DataLoader[torch.Tensor] = DataLoader(data, batch_size=BATCH, shuffle=True)
    for _, batch in zip(range(STEPS), loader, strict=False):
        model(batch[:2, :1].float().expand(-1, WIDTH)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def main() -> None:
    """Measures and prints."""
    machine = simulated.SimulatedTdx()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens"
        path.mkdir()
        np.random.default_rng(0).integers(0, 100, RECORDS * LENGTH, dtype=np.uint16).tofile(path / "a.bin")
        measure(path, record_length=LENGTH)
        data = AttestedMmapDataset(path)
        model = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS)))
        optimizer = torch.optim.AdamW(model.parameters())
        with attested("train", attester="simulated") as run:
            train(data, model, optimizer)
            run.receipt(first=bytes(32))  # looks at the loaded modules once
            pairs = [
                (seconds(lambda: run.receipt(note=bytes(32))), seconds(lambda: machine.quote(bytes(64))))
                for _ in range(PAIRS)
            ]
            state: dict[str, Any] = {}
            times = [seconds(lambda: state.update(run.state_dict())) for _ in range(CHECKPOINTS)]
    receipts, quotes = (statistics.median(column) for column in zip(*pairs, strict=True))
    size = sum(item.numel() for item in state.values() if isinstance(item, torch.Tensor))
    print(f"receipt, nothing to hash: {receipts * 1e6:.0f} us; simulated quote: {quotes * 1e6:.0f} us")
    print(f"receipt / simulated quote: {receipts / quotes:.2f}")
    print(f"receipt / quote of real hardware, 0.7 s: {receipts / 0.7:.1e}")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"run.state_dict(), {parameters / 1e6:.1f} M parameters, AdamW, {RECORDS:.0e} records: "
        f"{statistics.median(times) * 1e3:.0f} ms, {size / 1e6:.2f} MB"
    )


if __name__ == "__main__":
    main()
