"""Private memory of a whole epoch, attested and plain, at 10^4 and at 10^7 records.

RssAnon counts what the process owns, not the pages of mapped files. Each figure comes from a process of its
own that opens the dataset, runs one epoch in order without workers, and (attested) makes its claim.

    python benchmarks/memory.py
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.utils.data
from support import baseline

from palm_torch import recorder
from palm_torch.data import dataset, loader, measure

SIZES = (10**4, 10**7)
TOKENS = 8
BAR_BYTES = 64 << 20
BAR_BYTES_PER_RECORD = 2


def rss_anon_bytes(field: str) -> int:
    """Returns a field of /proc/self/status in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(field + ":"))


def epoch(path: Path, *, attested: bool) -> int:
    """Runs one epoch and returns the greatest RssAnon seen, in bytes."""
    greatest = rss_anon_bytes("RssAnon")
    options: dict[str, Any] = {"batch_size": 4096}
    if not attested:
        for at, _ in enumerate(torch.utils.data.DataLoader(baseline.Plain(path, 2 * TOKENS), **options)):
            greatest = greatest if at % 64 else max(greatest, rss_anon_bytes("RssAnon"))
        return max(greatest, rss_anon_bytes("RssAnon"))
    data = dataset.AttestedMmapDataset(path)
    greatest = max(greatest, rss_anon_bytes("RssAnon"))
    session = baseline.Counting(data)
    with recorder.install(session, "benchmark"):
        for at, _ in enumerate(loader.DataLoader(data, **options)):
            greatest = greatest if at % 64 else max(greatest, rss_anon_bytes("RssAnon"))
        session.ledger.claim()
    return max(greatest, rss_anon_bytes("RssAnon"))


def main() -> None:
    """Prints the growth of both and their difference against the bar."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--child", nargs=2, metavar=("PATH", "KIND"))
    child = parser.parse_args().child
    if child is not None:
        print(epoch(Path(child[0]), attested=child[1] == "attested"))
        return
    found: dict[tuple[str, int], int] = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in SIZES:
            path = Path(folder) / f"{size}.bin"
            np.arange(size * TOKENS, dtype=np.uint32).astype(np.uint16).tofile(path)
            measure.measure(path, record_length=TOKENS)
            for kind in ("plain", "attested"):
                command = [sys.executable, __file__, "--child", str(path), kind]
                found[kind, size] = int(subprocess.run(command, check=True, capture_output=True).stdout)
                print(f"RssAnon {kind}, {size} records: {found[kind, size] / 2**20:.1f} MiB", flush=True)
    few, many = SIZES
    growth = {kind: found[kind, many] - found[kind, few] for kind in ("plain", "attested")}
    bar = BAR_BYTES + BAR_BYTES_PER_RECORD * many
    print(
        f"RssAnon growth over plain torch, 10^4 to 10^7 records: "
        f"{(growth['attested'] - growth['plain']) / 2**20:.1f} MiB (bar <= {bar / 2**20:.1f} MiB)"
    )


if __name__ == "__main__":
    main()
