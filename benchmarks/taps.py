"""What committing to activations costs, by accounting and by comparison, and how large an opening is.

Accounting: the processor time inside palm-torch's own code (hooks, entering and leaving the block, threads)
as a share of the model's own on one core. On two cores a model takes half as long at best, and a hook takes
as long as before: the share that the bar is for is twice that of one core. Comparison: short runs with and
without, interleaved, with the same seed; outputs must be equal to the last bit.

    python benchmarks/taps.py [--tokens N] [--pairs N] [--rounds N] [--threads N] [--only TEXT]
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar, Final

import torch
from support import accounting
from support.llamas import CASES, Case

import palm_torch
from palm_torch.commit.trace import Site
from palm_torch.committing import proof
from palm_torch.committing.capture import Capture
from palm_torch.committing.spill import Kept

CORES: Final = 2
CLOCK_TOKENS: Final = 8
PAIR_TOKENS: Final = 24
OPENING_BAR_BYTES: Final = 1536
VERIFYING_BAR_MS: Final = 5.0

VERIFY: Final = """
import json, sys, time
from pathlib import Path
from palm_torch.commit import trace_opening
from palm_torch.digest import Digest
opening = trace_opening.read(Path(sys.argv[1]))
context = Path(sys.argv[2]).read_bytes()
root = Digest.parse(sys.argv[3])
took = []
for _ in range(25):
    began = time.perf_counter()
    trace_opening.verify(root, context, opening.question, opening)
    took.append(time.perf_counter() - began)
took.sort()
print(json.dumps([took[12] * 1e3, took[0] * 1e3, "torch" in sys.modules]))
"""


def main() -> int:
    """Prints every figure beside its bar; returns 1 if one is missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    missed = 0
    for case in CASES:
        if arguments.only in case.name:
            model = case.model()
            case.run(model, 4)  # the first pass allocates
            missed += _account(case, model, arguments)
            if arguments.pairs:
                _compare(case, model, arguments.pairs)
            _roots(case, model)
            del model
    return int(missed + _opening() > 0)


def _account(case: Case, model: Any, words: argparse.Namespace) -> int:  # noqa: ANN401 (as above)
    def run() -> None:
        with palm_torch.commit(model, layers=case.layers, threads=words.threads):
            case.run(model, words.tokens)

    def plain() -> None:
        case.run(model, CLOCK_TOKENS)

    blocks = model.model.layers
    rounds = (accounting.of(run, plain, blocks) for _ in range(words.rounds))
    accounts = sorted(rounds, key=lambda one: one.percent)
    median = accounts[len(accounts) // 2]
    share = CORES * median.percent
    print(
        f"{case.name}: {share:.2f} % on two cores (bar {case.bar_percent} %); on one "
        f"{', '.join(f'{one.percent:.2f}' for one in accounts)} % of {median.rest_s:.1f} s; "
        f"{'the usual' if words.threads is None else words.threads} threads: "
        + ", ".join(f"{name} {sum(times) / 1e6:.1f} ms" for name, times in sorted(median.spent.items()))
        + f", {statistics.median(median.spent['hooks']) / 1e3:.1f} µs each hook "
        f"(median of {len(median.spent['hooks'])}), less {median.clock_ns / 1e3:.1f} µs of the clock",
        flush=True,
    )
    return int(share > case.bar_percent)


def _compare(case: Case, model: Any, pairs: int) -> None:  # noqa: ANN401 (as above)
    ratios = []
    for number in range(pairs):
        took: dict[bool, float] = {}
        made: dict[bool, torch.Tensor] = {}
        for committing in (number % 2 == 0, number % 2 == 1):
            block = palm_torch.commit(model, layers=case.layers) if committing else contextlib.nullcontext()
            began = time.perf_counter()
            with block:
                made[committing] = case.run(model, PAIR_TOKENS)
            took[committing] = time.perf_counter() - began
        if not torch.equal(made[True], made[False]):
            raise SystemExit(f"{case.name}: outputs with and without differ")
        ratios.append(took[True] / took[False])
    ratios.sort()
    low = _low_rank(pairs)
    print(
        f"  with / without over {pairs} pairs of {PAIR_TOKENS} tokens: "
        f"median {statistics.median(ratios):.3f}, 95 % interval {ratios[low]:.3f} to {ratios[-1 - low]:.3f}, "
        "outputs equal",
        flush=True,
    )


def _low_rank(count: int) -> int:
    """Returns the rank, from 0, above which the median lies with 97.5 % confidence (sign test)."""
    below = itertools.accumulate(math.comb(count, k) / 2**count for k in range(count + 1))
    return max(next(k for k, chance in enumerate(below) if chance >= 0.025) - 1, 0)


def _roots(case: Case, model: Any) -> None:  # noqa: ANN401 (as above)
    roots = set()
    for threads in (None, 0, 1, 2):
        with palm_torch.commit(model, layers=case.layers, threads=threads) as committed:
            case.run(model, 4)
        roots.add(committed.root)
    if len(roots) != 1:
        raise SystemExit(f"{case.name}: roots with 0, 1 and 2 threads differ")
    print("  roots with 0, 1 and 2 hashing threads: equal")


def _opening() -> int:
    """One row out of 24 layers × 1,024 tokens; verified in a process of its own."""
    kept = Kept(limit_bytes=1 << 30)
    capture = Capture(kept=kept)
    row = torch.randn(1, 1024, 768)
    with proof.Proof(_NoTaps(), capture, kept) as committed:
        for layer in range(24):
            capture.capture(Site(f"model.layers.{layer}"), row + layer, 0)
    began = time.perf_counter()
    opening = committed.open("model.layers.11", tokens=700)
    took = time.perf_counter() - began
    size = len(opening.encode()) - (len(opening.tiles) + 2) // 3 * 4
    with tempfile.TemporaryDirectory() as folder:
        opening.save(Path(folder) / "opening")
        committed.save(Path(folder) / "context")
        words = [sys.executable, "-c", VERIFY, f"{folder}/opening", f"{folder}/context", str(committed.root)]
        told = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    median, least, with_torch = told.strip("[]\n").split(", ")
    print(
        f"one row of 24 layers × 1,024 tokens: {size} bytes beside its {len(opening.tiles)} bytes of values, "
        f"of which proof {len(opening.proof)} (bar {OPENING_BAR_BYTES}); opened in {took * 1e3:.0f} ms, "
        f"verified in {float(median):.2f} ms, at best {float(least):.2f} (bar {VERIFYING_BAR_MS}); "
        f"torch loaded: {with_torch}"
    )
    return int(size > OPENING_BAR_BYTES or float(median) > VERIFYING_BAR_MS)


class _NoTaps:
    """Stands for a model whose tensors are handed over by hand."""

    coverage = ()
    recomputed: ClassVar[dict[str, int]] = {}
    not_captured = ()

    def __enter__(self) -> None:
        """Does nothing."""

    def __exit__(self, *_: object) -> None:
        """Does nothing."""


if __name__ == "__main__":
    sys.exit(main())
