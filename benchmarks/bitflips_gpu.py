"""Every bit of real GPU evidence flipped, one at a time: how many flips are accepted, and who refuses them.

Reports and certificate chains of GPUs, and one reference manifest, from the third-party vectors. An accepted
flip, or an exception outside the library's tree, makes the program fail. At the end: how long one report
takes to verify.

    PALM_TORCH_VECTORS=FOLDER python benchmarks/bitflips_gpu.py [550] [blackwell] [rim] [--every N] [--jobs N]
"""

from __future__ import annotations

import argparse
import functools
import importlib
import multiprocessing
import os
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

NAMES: Final = ("550", "535", "blackwell", "rim")
PARTS: Final = ("evidence", "chain")
SUPPORT: Final = Path(__file__).parent.parent / "tests" / "support"
ACCEPTED: Final = "accepted"
CHUNK: Final = 500
REPEATS: Final = 200


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
    print(f"{'target':<19} {'bytes':>6} {'flips':>7} {'accepted':>8} {'seconds':>8}  refused by")
    survived = 0
    for name in arguments.names:
        if name == "rim":
            survived += _measure_rim(arguments.every, arguments.jobs)
        else:
            survived += sum(_measure(name, part, arguments.every, arguments.jobs) for part in PARTS)
    print(f"{survived} flips accepted (bar: 0)")
    for name in arguments.names:
        if name != "rim":
            print(f"one report ({name}), certificates included: {_one_report_ms(name):.2f} ms")
    return int(survived > 0)


def _measure(name: str, part: str, every: int, jobs: int) -> int:
    data = getattr(_sample(name), part)
    bits = range(0, 8 * len(data), every)
    began = time.perf_counter()
    with multiprocessing.Pool(jobs) as pool:
        found = Counter(pool.map(functools.partial(_one, name, part), bits, chunksize=CHUNK))
    return _report(f"{name} {part}", len(data), found, time.perf_counter() - began)


def _measure_rim(every: int, jobs: int) -> int:
    flips = _support("rim_flips")
    folder = Path(os.environ["PALM_TORCH_VECTORS"])
    began = time.perf_counter()
    found = flips.flip_all(folder, every=every, jobs=jobs)
    return _report("rim", (folder / flips.REAL).stat().st_size, found, time.perf_counter() - began)


def _report(name: str, size: int, found: Counter[str], seconds: float) -> int:
    accepted = found.pop(ACCEPTED, 0)
    flips = found.total() + accepted
    refused = ", ".join(f"{error} {count}" for error, count in found.most_common())
    print(f"{name:<19} {size:>6} {flips:>7} {accepted:>8} {seconds:>8.1f}  {refused}", flush=True)
    return accepted


def _one(name: str, part: str, bit: int) -> str:
    return str(_support("gpu_flips").flip(_sample(name), part, bit) or ACCEPTED)


def _one_report_ms(name: str) -> float:
    sample, flips, times = _sample(name), _support("gpu_flips"), []
    for _ in range(REPEATS):
        began = time.perf_counter()
        flips.verify(sample)
        times.append(time.perf_counter() - began)
    return 1e3 * statistics.median(times)


@functools.cache
def _sample(name: str) -> Any:  # noqa: ANN401 (of the tests' support, which is no package)
    folder = Path(os.environ["PALM_TORCH_VECTORS"])
    return _support("gpu_flips").real(lambda path: (folder / path).read_bytes(), name)


def _support(name: str) -> Any:  # noqa: ANN401 (as above)
    if str(SUPPORT) not in sys.path:
        sys.path.insert(0, str(SUPPORT))
    return importlib.import_module(name)


if __name__ == "__main__":
    sys.exit(main())
