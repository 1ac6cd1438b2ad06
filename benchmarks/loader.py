"""Time per epoch of the attested DataLoader over torch's, two workers, authenticated records.

Baseline: torch's loader over the plain dataset of `records.py`, batch 64, default collate. Pairs of whole
epochs are interleaved; printed is the median of the pairs' ratios.

    python benchmarks/loader.py [--pairs N]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch.utils.data
from support import baseline

from palm_torch import recorder
from palm_torch.data import dataset, loader, measure

FILE_BYTES = 256 << 20
BARS = {2048: 1.25, 8192: 1.15}


def seconds(batches: torch.utils.data.DataLoader[Any]) -> float:
    """Returns the wall-clock time of one epoch after its first batch, which pays for starting workers."""
    running = iter(batches)
    next(running)
    begun = time.perf_counter()
    for _ in running:
        pass
    return time.perf_counter() - begun


def main() -> None:
    """Prints one ratio per record size."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=15)
    pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens.bin"
        np.random.default_rng(1).integers(0, 256, FILE_BYTES, dtype=np.uint8).tofile(path)
        for size, bar in BARS.items():
            measure.measure(path, record_length=size // 2)
            data = dataset.AttestedMmapDataset(path)
            options: dict[str, Any] = {"batch_size": 64, "shuffle": True, "num_workers": 2}
            stock = torch.utils.data.DataLoader(baseline.Plain(path, size), **options)
            attested: loader.DataLoader[Any] = loader.DataLoader(data, **options)
            ratios = []
            for _ in range(pairs):
                base = seconds(stock)
                with recorder.install(baseline.Counting(data), "benchmark"):
                    ratios.append(seconds(attested) / base)
            low, high = sorted(ratios)[len(ratios) // 4], sorted(ratios)[-1 - len(ratios) // 4]
            print(
                f"attested / stock DataLoader, 2 workers, {size} B: {statistics.median(ratios):.3f} "
                f"(bar <= {bar}; quartiles {low:.3f} to {high:.3f}; {pairs} pairs)",
                flush=True,
            )


if __name__ == "__main__":
    main()
