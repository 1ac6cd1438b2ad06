"""Every bit of real TDX evidence flipped, one at a time: how many flips are accepted, and who refuses them.

A quote of version 4, one of version 5 and a collateral file, from the third-party vectors. An accepted flip,
or an exception outside the library's tree, makes the program fail. The last column counts the flips that
dcap-qvl alone would have accepted.

    PALM_TORCH_VECTORS=FOLDER python benchmarks/bitflips.py [v4] [v5] [collateral] [--every N] [--jobs N]
"""

from __future__ import annotations

import argparse
import functools
import importlib
import multiprocessing
import multiprocessing.pool
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

NAMES = ("v4", "v5", "collateral")
SUPPORT = Path(__file__).parent.parent / "tests" / "support"
CHUNK = 500


def main() -> int:
    """Prints a line for each target and returns 1 if a flip was accepted."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=NAMES, metavar="|".join(NAMES))
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    if os.environ.get("PALM_TORCH_VECTORS", "none") in ("", "none"):
        print("bit flips: not measured, PALM_TORCH_VECTORS names no folder with third-party vectors")
        return 0
    survived = 0
    print(
        f"{'target':<11} {'bytes':>6} {'flips':>7} {'accepted':>8} {'seconds':>8} {'dcap-qvl':>8}  refused by"
    )
    with multiprocessing.Pool(arguments.jobs) as pool:
        for name in arguments.names:
            survived += _measure(pool, name, arguments.every)
    print(f"{survived} flips accepted (bar: 0)")
    return int(survived > 0)


def _measure(pool: multiprocessing.pool.Pool, name: str, every: int) -> int:
    target = _targets()[name]
    target.ours(target.data)
    assert target.theirs(target.data)
    bits = range(0, 8 * len(target.data), every)
    began = time.perf_counter()
    outcomes = pool.map(functools.partial(_one, name), bits, chunksize=CHUNK)
    seconds = time.perf_counter() - began
    refused = Counter(outcome.error for outcome in outcomes if outcome.error is not None)
    accepted = [bit for bit, outcome in zip(bits, outcomes, strict=True) if outcome.error is None]
    theirs = sum(outcome.theirs for outcome in outcomes)
    counts = f"{len(target.data):>6} {len(bits):>7} {len(accepted):>8} {seconds:>8.1f} {theirs:>8}"
    print(f"{name:<11} {counts}  {', '.join(f'{error} {count}' for error, count in refused.most_common())}")
    for bit in accepted[:20]:
        print(f"ACCEPTED: {name}, bit {bit % 8} of byte {bit // 8}")
    return len(accepted)


def _one(name: str, bit: int) -> Any:  # noqa: ANN401 (of the tests' support, which is no package)
    target = _targets()[name]
    return importlib.import_module("tdx_flips").flip(target, bit)


@functools.cache
def _targets() -> Any:  # noqa: ANN401 (as above)
    if str(SUPPORT) not in sys.path:
        sys.path.insert(0, str(SUPPORT))
    folder = Path(os.environ["PALM_TORCH_VECTORS"])
    return importlib.import_module("tdx_flips").targets(lambda name: (folder / name).read_bytes())


if __name__ == "__main__":
    sys.exit(main())
