"""Measuring a dataset: against `sha256sum`, raw BLAKE3, one process, and its memory.

Every figure is a ratio of wall times over the same files in the page cache: the fastest of the rounds,
interleaved, because a neighbour on a core can only make them slower. What a second process can gain is the
machine's: two processes of plain SHA-256 stand beside it. Left out is the start of the command's
own interpreter, not that of the processes it starts. `sha256sum` runs as ``xargs -P2 -n1`` (over two of the
files, to save time); where the system's does without the processor's own SHA instructions, what counts is the
figure beside it: the same with Python's hashlib. Raw BLAKE3 reads as `measure` does, 1 MiB at a time, in two
processes, and hashes each file whole.

    python benchmarks/measure.py [--rounds N] [--many RECORDS]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from blake3 import blake3
from support import timing

from palm_torch.data import measure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FILES = 40
FILE_BYTES = 256 << 20
READ_BYTES = 1 << 20
LARGE, SMALL = 65536, 512
SMALL_BYTES = 256 << 20
BAR_BYTES = 64 << 20
BAR_BYTES_PER_RECORD = 2


def measured(folder: Path, size: int, **words: object) -> Callable[[], float]:
    """Returns what measures a folder in records of `size` bytes, and says how long it took, in seconds."""
    return lambda: timing.seconds(lambda: measure.measure(folder, record_length=size // 2, **words))  # type: ignore[arg-type]  # options of it


def sha256sum(paths: Sequence[str]) -> float:
    """Runs the system's `sha256sum`, two at a time; returns the seconds it took."""
    command = ["xargs", "-P2", "-n1", "sha256sum"]
    return timing.seconds(
        lambda: subprocess.run(command, check=True, capture_output=True, text=True, input="\n".join(paths))
    )


def hash_whole(name: str, paths: Sequence[str]) -> None:
    """Hashes files whole, in this process."""
    room = memoryview(bytearray(READ_BYTES))
    for path in paths:
        hasher = blake3() if name == "blake3" else hashlib.sha256()
        with Path(path).open("rb", buffering=0) as stream:
            while got := stream.readinto(room):
                hasher.update(room[:got])
        hasher.digest()


def in_processes(name: str, paths: Sequence[str], count: int = 2) -> Callable[[], float]:
    """Returns what hashes files whole in processes, and says how long the longest one took, in seconds."""

    def run() -> float:
        command = [sys.executable, __file__, "--hash", name]
        children = [
            subprocess.Popen([*command, *paths[at::count]], stdout=subprocess.PIPE, text=True)
            for at in range(count)
        ]
        return max(float(child.communicate()[0]) for child in children)

    return run


def compare(ways: dict[str, Callable[[], float]], rounds: int) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the least wall time and the least processor time of each way, in seconds."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            before = processor_s()
            found[name].append(way())
            processor[name].append(processor_s() - before)
    for name, times in found.items():
        print(f"  {name}: {min(times):.2f} s, {min(processor[name]):.2f} s of processor time", flush=True)
    least = {name: min(times) for name, times in found.items()}
    return least, {name: min(times) for name, times in processor.items()}


def gain(one: str, two: str, wall: dict[str, float], processor: dict[str, float]) -> str:
    """Says how many times as fast two processes are, as seen and as two cores of their own would make it."""
    alone = 2 * processor[one] / processor[two]
    return f"{wall[one] / wall[two]:.2f}; by processor time, if both cores are free, {alone:.2f}"


def processor_s() -> float:
    """Returns the processor time of this process and of those it started and that ended, in seconds."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def speeds(folder: Path, rounds: int) -> None:
    """Prints the ratios for large records."""
    paths = [str(folder / f"{number}.bin") for number in range(FILES)]
    for path in paths:
        np.random.default_rng(1).integers(0, 256, FILE_BYTES, dtype=np.uint8).tofile(path)
    few = paths[:2]
    found, processor = compare(
        {
            "sha256sum": lambda: sha256sum(few) * len(paths) / len(few),
            "hashlib": in_processes("sha256", paths),
            "hashlib, one": in_processes("sha256", paths, count=1),
            "blake3": in_processes("blake3", paths),
            "one": measured(folder, LARGE),
            "two": measured(folder, LARGE, processes=2),
            "lean": measured(folder, LARGE, processes=2, file_digests=False),
        },
        rounds,
    )
    print(
        f"64 KiB records, two processes: {found['sha256sum'] / found['two']:.2f} of sha256sum (bar >= 0.60), "
        f"{found['hashlib'] / found['two']:.2f} of hashlib's SHA-256"
    )
    print(f"the same without file digests: {found['blake3'] / found['lean']:.2f} of raw BLAKE3 (bar >= 0.40)")
    print(f"64 KiB records, two processes / one (bar >= 1.8): {gain('one', 'two', found, processor)}")
    print(
        f"what two processes of plain SHA-256 gain here: {gain('hashlib, one', 'hashlib', found, processor)}",
        flush=True,
    )


def small_records(folder: Path, rounds: int) -> None:
    """Prints the ratios for small records: two processes, one large file, and measuring again."""
    one_file = folder / "one"
    one_file.mkdir()
    for number in range(4):
        data = np.random.default_rng(number).integers(0, 256, SMALL_BYTES, dtype=np.uint8)
        data.tofile(folder / f"{number}.bin")
    np.random.default_rng(9).integers(0, 256, 4 * SMALL_BYTES, dtype=np.uint8).tofile(one_file / "one.bin")
    measured(folder, SMALL, incremental=True, processes=2)()
    found, processor = compare(
        {
            "one": measured(folder, SMALL),
            "two": measured(folder, SMALL, processes=2),
            "again": measured(folder, SMALL, incremental=True),
            "file": measured(one_file, SMALL),
            "file by two": measured(one_file, SMALL, processes=2),
        },
        rounds,
    )
    print(f"512 B records, two processes / one (bar >= 1.8): {gain('one', 'two', found, processor)}")
    print(f"512 B records in one file, the same: {gain('file', 'file by two', found, processor)}")
    print(
        f"512 B records, nothing changed, --incremental / anew: {found['one'] / found['again']:.2f}",
        flush=True,
    )


def tree_bytes(process: int) -> int:
    """Returns RssAnon of a process and its children, in bytes; 0 for those that are gone."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
        children = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii").split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    own = (
        next((int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:")), 0) * 1024
    )
    return own + sum(map(tree_bytes, map(int, children)))


def greatest_bytes(command: Sequence[str]) -> int:
    """Runs a command and returns the most RssAnon seen of it and its children, in bytes."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
        greatest = 0
        while child.poll() is None:
            greatest = max(greatest, tree_bytes(child.pid))
            time.sleep(0.02)
    assert child.returncode == 0
    return greatest


def memory(folder: Path, many: int) -> None:
    """Prints how much more memory many records take than few."""
    found = {}
    for count in (10**4, many):
        path = folder / f"{count}.bin"
        with path.open("wb") as stream:
            for start in range(0, count, 100_000):
                stream.write(os.urandom(min(100_000, count - start) * SMALL))
        begun = time.perf_counter()
        command = [sys.executable, "-m", "palm_torch", "measure", str(path), "--processes", "2"]
        found[count] = greatest_bytes([*command, "--record-length", str(SMALL // 2)])
        took = time.perf_counter() - begun
        print(
            f"  {count} records of {SMALL} B: {took:.1f} s, RssAnon {found[count] / 2**20:.1f} MiB",
            flush=True,
        )
        path.unlink()
    bar = BAR_BYTES + BAR_BYTES_PER_RECORD * many
    print(
        f"RssAnon of all processes, 10^4 to {many} records: + {(found[many] - found[10**4]) / 2**20:.1f} MiB "
        f"(bar <= {bar / 2**20:.1f} MiB)"
    )


def main() -> None:
    """Prints every figure beside its bar."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--many", type=int, default=10**7)
    parser.add_argument("--hash", nargs="+", metavar=("NAME", "PATH"))
    words = parser.parse_args()
    if words.hash:
        print(timing.seconds(lambda: hash_whole(words.hash[0], words.hash[1:])))
        return
    for part in (speeds, small_records):
        with tempfile.TemporaryDirectory() as folder:
            part(Path(folder), words.rounds)
    with tempfile.TemporaryDirectory() as folder:
        memory(Path(folder), words.many)


if __name__ == "__main__":
    main()
