"""Random single-bit flips over a whole evidence bundle: how many are refused, and by which error.

Bits are drawn with a fixed seed over every byte of a bundle that the simulated TEE sealed. An exception
outside the library's tree ends the program: there is no list of exceptions. Beside it stands the time of
verifying the unchanged bundle in process (median of the rounds).

    python benchmarks/bitflips.py [--flips N] [--rounds N]
"""

from __future__ import annotations

import argparse
import collections
import importlib
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from palm_torch.errors import PalmTorchError

BAR_MS = 50.0
SUPPORT = Path(__file__).parent.parent / "tests" / "support"


def main() -> int:
    """Prints the figures beside their bars and returns 1 if a flipped bit was accepted."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--flips", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=50)
    arguments = parser.parse_args()
    sys.path.insert(0, str(SUPPORT))
    workshop = importlib.import_module("workshop")
    with tempfile.TemporaryDirectory() as folder:
        good = workshop.make_good_run(Path(folder) / "keys")
        data: bytes = good.data
        times = []
        for _ in range(arguments.rounds):
            begun = time.perf_counter()
            good.verify(data)
            times.append(1_000 * (time.perf_counter() - begun))
        refused: collections.Counter[str] = collections.Counter()
        for bit in random.Random(2026).sample(range(8 * len(data)), arguments.flips):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            try:
                good.verify(bytes(flipped))
            except PalmTorchError as error:
                refused[type(error).__name__] += 1
    total = refused.total()
    print(f"verify a bundle of {len(data)} B: {statistics.median(times):.1f} ms (bar <= {BAR_MS:.0f} ms)")
    print(f"single-bit flips refused: {total} of {arguments.flips} (bar: all)")
    print("refused by: " + ", ".join(f"{name} {count}" for name, count in refused.most_common()))
    return 0 if total == arguments.flips else 1


if __name__ == "__main__":
    sys.exit(main())
