"""Added cost per record: hashing, authenticating or multiplying, over a plain dataset of the same kind.

Baseline: a map-style dataset whose ``__getitems__`` slices each record out of ``np.asarray(memmap)`` and
converts it to int64, and torch's default collate function. In brackets, the same against the fastest plain
dataset we know, which takes and converts the rows of a batch in one call. Batches of 64 random records of
a 256 MiB file in the page cache, process CPU time, interleaved, median of the rounds; the fastest rounds
stand beside it, because CPU time grows when a neighbour shares the core. Timed is what a loader does to make
one batch; on our side that includes gathering and multiplying the digests. Every format is compared with a
plain dataset of its own, which decodes what ours decodes: `support/formats.py`.

    python benchmarks/records.py [--rounds N] [--formats NAME ...] [--sizes BYTES ...]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from support import formats
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
    """Prints one line per format, record size and way of accounting."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--formats", nargs="*", default=list(formats.MAKERS), choices=formats.MAKERS)
    parser.add_argument("--sizes", nargs="*", type=int, default=list(BARS_US), choices=BARS_US)
    arguments = parser.parse_args()
    for name in arguments.formats:
        for size in arguments.sizes:
            with tempfile.TemporaryDirectory() as folder:
                compare(name, Path(folder), size, arguments.rounds)


def compare(name: str, folder: Path, size: int, rounds: int) -> None:
    """Prints the lines of one format and record size."""
    make, factor = formats.MAKERS[name]
    case = make(folder, size, FILE_BYTES)
    measure.measure(case.path, **case.arguments)
    open_dataset = dataset.AttestedMmapDataset
    ways = {
        "baseline": collated(case.plain),
        "manifest": carried(open_dataset(case.path, **case.arguments)),
        "no manifest": carried(open_dataset(case.path, manifest=None, **case.arguments)),
    }
    if case.at_once is not None:
        ways["at once"] = collated(case.at_once)
    random = np.random.default_rng(1)
    batches_per_round = max(10, min(150, (48 << 20) // (size * BATCH)))
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        batches = [random.integers(0, case.records, BATCH).tolist() for _ in range(batches_per_round)]
        for way, fetch in ways.items():
            found[way].append(cpu_us(fetch, batches))
    base = statistics.median(found["baseline"])
    for way, bar in zip(("manifest", "no manifest"), BARS_US[size], strict=True):
        over = {
            plainly: statistics.median(a - b for a, b in zip(found[way], found[plainly], strict=True))
            for plainly in ("baseline", "at once")
            if plainly in found
        }
        quiet = min(found[way]) - min(found["baseline"])
        strict = f" [over the fastest plain dataset: {over['at once']:.2f} us]" if "at once" in over else ""
        print(
            f"added per record of {size} B, .{name}, {way}: {over['baseline']:.2f} us "
            f"(bar <= {bar * factor:.1f} us; baseline {base:.2f} us; fastest rounds {quiet:.2f} us){strict}",
            flush=True,
        )


if __name__ == "__main__":
    main()
