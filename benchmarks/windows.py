"""Added cost per chunk of slices and windows over one token file, with and without a manifest.

Baseline: the same slices of `numpy.memmap`, converted to int64; for windows the same dataset over it, with
torch's default collate function. Slices and windows lie at random in a 256 MiB file in the page cache, so
that nearly every chunk is copied, hashed and compared anew; "in order" reads windows one after the other,
where the copy of a chunk serves many. The digests of the whole file are soon at hand, as with files of up to
2 GiB; "of a large file" shows what it costs where they are not. Process CPU time, interleaved, median of the
rounds; the fastest rounds stand beside it, because CPU time grows when a neighbour shares the core. Items of
any dataset are compared with the same items unattested. Timed is what a worker does, which includes gathering
and multiplying.

    python benchmarks/windows.py [--rounds N]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import default_collate

from palm_torch.data import carrier, measure
from palm_torch.data import chunks as chunked
from palm_torch.data.generic import AttestedDataset
from palm_torch.data.memmap import memmap
from palm_torch.data.windows import AttestedWindows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FILE_BYTES = 256 << 20
CHUNK_BYTES = 4096
BATCH = 64
BATCHES = 40
BAR_US = 5.0
LENGTHS = (64, 512, 1024, 2048, 8192)
LARGE = 1024


class Plain:
    """Windows of a mapped file, as people write them."""

    def __init__(self, path: Path, length: int) -> None:
        self.data = np.memmap(path, dtype=np.uint16, mode="r")
        self.length = length

    def __getitem__(self, start: int) -> torch.Tensor:
        """Returns the window that begins there."""
        return torch.from_numpy(self.data[start : start + self.length].astype(np.int64))


class Pairs:
    """An image and a label, made by code."""

    def __init__(self) -> None:
        self.images = torch.rand(256, 3, 32, 32)

    def __len__(self) -> int:
        """Returns the number of items."""
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, int]:
        """Returns an image and its number."""
        return self.images[number], number


def sliced(data: Any, length: int) -> Callable[[list[int]], Any]:  # noqa: ANN401 (NumPy's array, or ours)
    """Returns what reads a batch of slices by hand."""
    return lambda batch: [data[at : at + length].astype(np.int64) for at in batch]


def collated(data: Plain | Pairs) -> Callable[[list[int]], Any]:
    """Returns the fetch of one batch as torch's loader does it."""
    return lambda batch: default_collate([data[at] for at in batch])


def cpu_us(function: Callable[[list[int]], Any], batches: Sequence[list[int]]) -> float:
    """Returns process CPU time per item in µs; what is noted along the way is gathered as a worker does."""
    collate = carrier.CarryingCollate(lambda batch: batch)
    begun = time.process_time_ns()
    for batch in batches:
        before = carrier.gather(stacks=True)
        function(batch)
        collate(None)
        carrier.restore(before)
    return (time.process_time_ns() - begun) / 1000 / (len(batches) * len(batches[0]))


def compare(
    what: str,
    ways: dict[str, Callable[[list[int]], Any]],
    batches: list[list[list[int]]],
    chunks: float,
    unit: str,
) -> None:
    """Prints what the ways after the first cost more, per chunk."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for part in batches:
        for name, way in ways.items():
            found[name].append(cpu_us(way, part))
    base, *others = found
    for name in others:
        added = statistics.median(a - b for a, b in zip(found[name], found[base], strict=True)) / chunks
        quiet = (min(found[name]) - min(found[base])) / chunks
        bar = f"bar <= {BAR_US:.1f} us; " if name == "manifest" and unit == "chunk" else ""
        print(
            f"added per {unit}, {what}, {name}: {added:.2f} us ({bar}fastest rounds {quiet:.2f} us; "
            f"{base} {statistics.median(found[base]):.2f} us each)",
            flush=True,
        )


def main() -> None:
    """Prints one line per length and way of accounting."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    random = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens.bin"
        random.integers(0, 256, FILE_BYTES, dtype=np.uint8).tofile(path)
        measure.measure(path, format="chunks")
        arrays = {"manifest": memmap(path, np.uint16), "no manifest": memmap(path, np.uint16, manifest=None)}
        for length in LENGTHS:
            plain = Plain(path, length)
            windows = {
                "manifest": AttestedWindows(path, length),
                "no manifest": AttestedWindows(path, length, manifest=None),
            }
            starts = [
                [random.integers(0, len(windows["manifest"]), BATCH).tolist() for _ in range(BATCHES)]
                for _ in range(rounds)
            ]
            begins = np.array(starts).reshape(-1) * 2
            touched = float(np.mean((begins + 2 * length - 1) // CHUNK_BYTES - begins // CHUNK_BYTES + 1))
            slices = {name: sliced(data, length) for name, data in {"numpy": plain.data, **arrays}.items()}
            said = f"{length} tokens"
            compare(f"slices of {said} ({touched:.2f} chunks)", slices, starts, touched, "chunk")
            batched: dict[str, Callable[[list[int]], Any]] = {"plain": collated(plain)}
            batched.update({name: data.__getitems__ for name, data in windows.items()})
            compare(f"windows of {said} ({touched:.2f} chunks)", batched, starts, touched, "chunk")
            if length == LARGE:
                kept, chunked.KEPT_GROUPS = chunked.KEPT_GROUPS, 64  # type: ignore[misc]
                chunked._kept_groups.clear()  # noqa: SLF001 (so that little of the manifest is at hand)
                compare(f"slices of {said} of a large file", slices, starts, touched, "chunk of a large file")
                compare(
                    f"windows of {said} of a large file", batched, starts, touched, "chunk of a large file"
                )
                chunked.KEPT_GROUPS = kept  # type: ignore[misc]
            in_order = [
                [[at * BATCH + n for n in range(BATCH)] for at in range(turn * BATCHES, (turn + 1) * BATCHES)]
                for turn in range(rounds)
            ]
            compare(f"windows of {said} in order", batched, in_order, 1, "window")
        pairs = Pairs()
        attested: AttestedDataset[Any] = AttestedDataset(pairs)
        attested.measure(Path(folder) / "items")
        checked: AttestedDataset[Any] = AttestedDataset(pairs, manifest=Path(folder) / "items")
        numbers = [[random.integers(0, 256, BATCH).tolist() for _ in range(BATCHES)] for _ in range(rounds)]
        items: dict[str, Callable[[list[int]], Any]] = {
            "plain": collated(pairs),
            "manifest": lambda batch: default_collate(checked.__getitems__(batch)),
            "no manifest": lambda batch: default_collate(attested.__getitems__(batch)),
        }
        compare("a pair of a 12 KiB tensor and a number", items, numbers, 1, "item")


if __name__ == "__main__":
    main()
