"""Added cost per record: hashing, authenticating or multiplying, over a plain dataset of the same kind.

Baseline: a map-style dataset whose ``__getitems__`` slices each record out of ``np.asarray(memmap)`` and
converts it to int64, and torch's default collate function. In brackets, the same against the fastest plain
dataset we know, which takes and converts the rows of a batch in one call. Batches of 64 random records of
a 256 MiB file in the page cache, process CPU time, interleaved, median of the rounds; the fastest rounds
stand beside it, because CPU time grows when a neighbour shares the core. Timed is what a loader does to make
one batch; on our side that includes gathering and multiplying the digests.

    python benchmarks/records.py [--rounds N]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from support import baseline
from torch.utils.data import default_collate

from palm_torch.data import carrier, dataset, measure

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

FILE_BYTES = 256 << 20
BATCH = 64
BARS_US = {512: (3.5, 6.0), 2048: (4.0, 7.0), 8192: (5.0, 9.0), 65536: (15.0, 25.0)}


def cpu_us(function: Callable[[list[int]], Any], batches: list[list[int]]) -> float:
    """Returns process CPU time per record in µs."""
    begun = time.process_time_ns()
    for batch in batches:
        function(batch)
    return (time.process_time_ns() - begun) / 1000 / (len(batches) * BATCH)


def collated(read: Callable[[list[int]], list[torch.Tensor]]) -> Callable[[list[int]], Any]:
    """Returns the fetch of one batch as torch's loader does it."""
    return lambda indices: default_collate(read(indices))


def carried(records: dataset.AttestedMmapDataset) -> Callable[[list[int]], Any]:
    """Returns the fetch of one batch as a worker does it: read, then gather the digests."""
    collate = carrier.CarryingCollate(default_collate)

    def fetch(indices: list[int]) -> Any:  # noqa: ANN401 (a carrier)
        before = carrier.gather(stacks=True)
        batch = collate(records.__getitems__(indices))
        carrier.restore(before)
        return batch

    return fetch


def main() -> None:
    """Prints one line per record size and way of accounting."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    random = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens.bin"
        random.integers(0, 256, FILE_BYTES, dtype=np.uint8).tofile(path)
        for size, bars in BARS_US.items():
            measure.measure(path, record_length=size // 2)
            plain = baseline.Plain(path, size)
            ways = {
                "baseline": collated(plain.__getitems__),
                "at once": collated(plain.at_once),
                "manifest": carried(dataset.AttestedMmapDataset(path)),
                "no manifest": carried(
                    dataset.AttestedMmapDataset(path, record_length=size // 2, manifest=None)
                ),
            }
            batches_per_round = max(10, min(150, (48 << 20) // (size * BATCH)))
            found: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(rounds):
                batches = [random.integers(0, len(plain), BATCH).tolist() for _ in range(batches_per_round)]
                for name, way in ways.items():
                    found[name].append(cpu_us(way, batches))
            base = statistics.median(found["baseline"])
            for name, bar in zip(("manifest", "no manifest"), bars, strict=True):
                added, strict = (
                    statistics.median(a - b for a, b in zip(found[name], found[plainly], strict=True))
                    for plainly in ("baseline", "at once")
                )
                quiet = min(found[name]) - min(found["baseline"])
                print(
                    f"added per record of {size} B, {name}: {added:.2f} us (bar <= {bar:.1f} us; "
                    f"baseline {base:.2f} us; fastest rounds {quiet:.2f} us) "
                    f"[over the fastest plain dataset: {strict:.2f} us]",
                    flush=True,
                )


if __name__ == "__main__":
    main()
