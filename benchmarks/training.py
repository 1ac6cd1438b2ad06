"""What measuring costs a training run: the demo's loop, by accounting and by comparison.

Accounting: the time that passes inside palm-torch's own code on the loop's thread (delivering batches, step
hooks, `run.log`), plus the CPU time that hashing and carrying digests adds in the workers (attested fetch
minus plain fetch of the same records), as a share of the loop's duration. The library is not changed for
it: the clock is put around its functions from here. Bar 0.5 %.

Comparison: the same short loop with and without attestation, interleaved, one seed: the ratio's median and
its 95 % interval stand beside the accounting, for two whole runs differ by some per cent anyway. Losses must
be equal to the last bit.

    python benchmarks/training.py [--steps N] [--pairs N]
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import os
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Subset
from torch.utils.data.dataloader import _BaseDataLoaderIter

import palm_torch
from palm_torch.attesting.session import Session
from palm_torch.data import carrier, loader, measure
from palm_torch.demo import corpus, loop, story
from palm_torch.demo.model import TinyGPT
from palm_torch.hooks import meter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BAR_PERCENT = 0.5
BATCH = story.FULL.batch
WORKERS = story.FULL.workers
PAIR_STEPS = 25
VALIDATION_RECORDS = story.FULL.validation_records


class Plain(Dataset[Any]):
    """The demo's shards as a careful user would read them by hand."""

    def __init__(self, folder: Path) -> None:
        self.shards = [
            np.asarray(np.memmap(path, dtype=np.uint16, mode="r")).reshape(-1, corpus.RECORD_TOKENS)
            for path in sorted(folder.glob("*.bin"))
        ]
        self.starts = np.cumsum([0, *(len(shard) for shard in self.shards)])

    def __len__(self) -> int:
        """Returns the number of records."""
        return int(self.starts[-1])

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """Reads a batch of pairs (tokens, next tokens)."""
        which = np.searchsorted(self.starts, indices, side="right") - 1
        rows = np.stack(
            [
                self.shards[shard][index - self.starts[shard]]
                for shard, index in zip(which, indices, strict=True)
            ]
        )
        batch = torch.from_numpy(rows.astype(np.int64))
        return list(zip(batch[:, :-1].unbind(0), batch[:, 1:].unbind(0), strict=True))


def main() -> int:
    """Prints both figures; returns 1 if the accounting misses its bar."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=625)
    parser.add_argument("--pairs", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # as in the demo
    with tempfile.TemporaryDirectory() as name:
        os.environ["XDG_STATE_HOME"] = str(Path(name) / "state")
        train, validation = corpus.write(
            Path(name),
            train_records=arguments.steps * BATCH,
            validation_records=VALIDATION_RECORDS,
            shards=4,
        )
        for folder in (train, validation):
            measure.measure(folder, record_length=corpus.RECORD_TOKENS)
        share = _account(train, validation, arguments.steps)
        _compare(train, validation, arguments.pairs)
    return int(share > BAR_PERCENT)


def _account(train: Path, validation: Path, steps: int) -> float:
    spent: defaultdict[str, list[int]] = defaultdict(list)
    with _clocks(spent):
        duration, _ = _attested(train, validation, steps)
    waiting = spent.pop("waiting for torch's loader")
    spent["delivering"] = [whole - inner for whole, inner in zip(spent["delivering"], waiting, strict=True)]
    spent["in the workers"] = [int(_added_by_fetching(train) * BATCH * 1e9)] * steps
    for name, nanoseconds in spent.items():
        print(
            f"training, {name}: {sum(nanoseconds) / 1e6:.0f} ms in {steps} steps, median "
            f"{statistics.median(nanoseconds) / 1e3:.0f} µs, longest {max(nanoseconds) / 1e6:.1f} ms"
        )
    share = 100 * sum(map(sum, spent.values())) / 1e9 / duration
    print(f"training, measured by accounting: {share:.2f} % of {duration:.1f} s (bar {BAR_PERCENT} %)")
    return share


def _compare(train: Path, validation: Path, pairs: int) -> None:
    ratios = []
    for number in range(pairs):
        runs: list[Callable[[Path, Path, int], tuple[float, list[float]]]] = [_attested, _plain]
        if number % 2:
            runs.reverse()
        done = {run: run(train, validation, PAIR_STEPS) for run in runs}
        if done[_attested][1] != done[_plain][1]:
            raise SystemExit("training: losses with and without attestation differ")
        ratios.append(done[_attested][0] / done[_plain][0])
    ratios.sort()
    low, high = _interval(pairs)
    print(
        f"training, attested / plain over {pairs} pairs of {PAIR_STEPS} steps: median "
        f"{statistics.median(ratios):.3f}, "
        f"95 % interval {ratios[low]:.3f} to {ratios[high]:.3f}, losses equal"
    )


def _interval(count: int) -> tuple[int, int]:
    """Returns the ranks, from 0, between which the median lies with 95 % confidence (sign test)."""
    chances = np.cumsum([_choose(count, k) / 2**count for k in range(count + 1)])
    low = max(int(np.searchsorted(chances, 0.025)), 1) - 1
    return low, count - 1 - low


def _choose(n: int, k: int) -> int:
    return functools.reduce(lambda value, i: value * (n - i) // (i + 1), range(k), 1)


def _attested(train: Path, validation: Path, steps: int) -> tuple[float, list[float]]:
    with (
        contextlib.redirect_stderr(io.StringIO()),
        palm_torch.attested("train", attester="simulated") as run,
    ):
        training = Subset(palm_torch.AttestedMmapDataset(train, targets=True), range(steps * BATCH))
        evaluation = palm_torch.AttestedMmapDataset(validation, targets=True)
        return _timed(palm_torch.DataLoader, training, evaluation, steps, run.log)


def _plain(train: Path, validation: Path, steps: int) -> tuple[float, list[float]]:
    training = Subset(Plain(train), range(steps * BATCH))
    return _timed(DataLoader, training, Plain(validation), steps, lambda **_: None)


def _timed(
    kind: type[DataLoader[Any]], training: Dataset[Any], evaluation: Dataset[Any], steps: int, log: loop.Log
) -> tuple[float, list[float]]:
    """Returns how long the loop took, in seconds, and its losses."""
    torch.manual_seed(0)
    model = TinyGPT(context=corpus.RECORD_TOKENS - 1)
    batches = kind(training, batch_size=BATCH, shuffle=True, num_workers=WORKERS)
    losses: list[float] = []
    began = time.perf_counter()
    loop.train(
        model,
        batches,
        kind(evaluation, batch_size=BATCH),
        steps=steps,
        log=log,
        progress=lambda _, loss: losses.append(loss),
    )
    return time.perf_counter() - began, losses


@contextlib.contextmanager
def _clocks(spent: defaultdict[str, list[int]]) -> Iterator[None]:
    """Puts a clock around the library's functions on the loop's thread; collects nanoseconds by name."""
    places: list[tuple[Any, str, str]] = [
        (loader.DeliveringIterator, "__next__", "delivering"),
        (_BaseDataLoaderIter, "__next__", "waiting for torch's loader"),
        (meter.StepMeter, "_before", "before a step"),
        (meter.StepMeter, "_after", "after a step"),
        (Session, "log", "run.log"),
    ]
    with contextlib.ExitStack() as stack:
        for owner, attribute, name in places:
            original = getattr(owner, attribute)
            setattr(owner, attribute, _clocked(original, spent, name))
            stack.callback(setattr, owner, attribute, original)
        yield


def _clocked(
    function: Callable[..., Any], spent: defaultdict[str, list[int]], name: str
) -> Callable[..., Any]:
    @functools.wraps(function)
    def clocked(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 (whatever the function takes)
        began = time.perf_counter_ns()
        try:
            return function(*args, **kwargs)
        finally:
            spent[name].append(time.perf_counter_ns() - began)

    return clocked


def _added_by_fetching(train: Path) -> float:
    """Returns the CPU seconds per record that an attested fetch takes more than a plain one."""
    attested = palm_torch.AttestedMmapDataset(train, targets=True)
    plain = Plain(train)
    collate = carrier.CarryingCollate(lambda samples: samples)

    def fetch_attested(indices: list[int]) -> None:
        before = carrier.gather()
        collate(attested.__getitems__(indices))
        carrier.restore(before)

    random = np.random.default_rng(0)
    batches = [random.integers(0, len(plain), BATCH).tolist() for _ in range(200)]
    added = []
    for _ in range(7):
        times = []
        for fetch in (fetch_attested, plain.__getitems__):
            began = time.process_time_ns()
            for batch in batches:
                fetch(batch)
            times.append(time.process_time_ns() - began)
        added.append((times[0] - times[1]) / 1e9 / (len(batches) * BATCH))
    return max(0.0, statistics.median(added))


if __name__ == "__main__":
    sys.exit(main())
