"""Added cost per record beside that of the published way: SHA3-256 and arithmetic on large integers.

The paper is PAL*M, arXiv 2601.16199: every record that is sampled from a mapped file is hashed and folded
into one multiset hash. It names the multiplicative form (MSet-Mu-Hash) and prints an additive one, and gives
no field, no way from a hash to the field, no size and no code; so there is no one reproduction, and every
reading of it that makes sense is a row here. All of them are written as a careful author would, in plain
Python: hashlib, and integers of Python. None of them repeats what else their program may have done.

    product     SHA3-256 of the record, SHAKE-256 of that to 3,200 bits, multiplied modulo the prime of
                3,072 bits that this library uses: the form that is named, of a size that is safe
    short       the 256 bits of SHA3-256 themselves, multiplied modulo the same prime: the cheapest reading,
                which is not sound (few bits, of a field of many)
    2048        as `product`, modulo a prime of 2,048 bits
    printed     the sum as printed, with m = the bits of the record: sqrt(m) lanes of sqrt(m) bits each
    printed64   the sum as printed, with m = 4,096: 64 lanes of 64 bits; lattice reduction breaks it
    gmpy2       `product` with GMP's integers, which the paper does not mention

Beside them stands what this library's own reading adds to the same plain dataset: copying, hashing,
comparing with the manifest (or multiplying, without one), gathering for the batch. Nothing is collated on
either side: in a loader ours also saves a copy (`records.py`), and large records would seem to cost nothing.
A published figure is no measurement of this machine, and has a line of its own; it is of short records.

    python benchmarks/papers.py [--rounds N] [--sizes BYTES ...]
"""

from __future__ import annotations

import argparse
import hashlib
import math
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import gmpy2  # type: ignore[import-untyped]
import numpy as np
import torch
from records import BATCH, FILE_BYTES, cpu_us
from support import formats

from palm_torch.commit import multiset
from palm_torch.data import carrier, dataset, measure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SIZES: Final = (512, 2048, 8192, 65536)
BAR: Final = 400
PUBLISHED_US: Final = (2300.0, 2600.0)
"""Processor time per record, from the paper's tables 2 to 5: time of measuring, divided by records."""

PRIME: Final = multiset.MSET_MU_3072.modulus
PRIME_2048: Final = 2**2048 - 1942289
"""A safe prime; of a form that the number field sieve favours."""


def product(number: type[int], modulus: int) -> Callable[[bytes], None]:
    """Returns what folds a record into a product."""
    prime, state = number(modulus), number(1)
    size = modulus.bit_length() // 8 + 16
    sha3, stretch, from_bytes = hashlib.sha3_256, hashlib.shake_256, number.from_bytes

    def fold(record: bytes) -> None:
        nonlocal state
        element = from_bytes(stretch(sha3(record).digest()).digest(size), "big")
        state = state * element % prime

    return fold


def short() -> Callable[[bytes], None]:
    """Returns what multiplies by the hash itself."""
    state, sha3 = 1, hashlib.sha3_256

    def fold(record: bytes) -> None:
        nonlocal state
        state = state * int.from_bytes(sha3(record).digest(), "big") % PRIME

    return fold


def printed(bits: int) -> Callable[[bytes], None]:
    """Returns what adds lane by lane, with m = `bits`."""
    lanes = math.isqrt(bits)
    width = -(-lanes // 8)
    total, mask = [0] * lanes, (1 << lanes) - 1
    sha3, stretch = hashlib.sha3_256, hashlib.shake_256

    def fold(record: bytes) -> None:
        stream = stretch(sha3(record).digest()).digest(lanes * width)
        for lane in range(lanes):
            value = int.from_bytes(stream[lane * width : (lane + 1) * width], "big") & mask
            total[lane] = total[lane] + value & mask

    return fold


def readings(size: int) -> dict[str, Callable[[bytes], None]]:
    """Returns name → what takes in one record of a size, in bytes."""
    return {
        "product": product(int, PRIME),
        "short": short(),
        "2048": product(int, PRIME_2048),
        "printed": printed(size * 8),
        "printed64": printed(4096),
        "gmpy2": product(gmpy2.mpz, PRIME),
    }


class Theirs:
    """A plain dataset that copies a record out of the mapping once, folds it in, and hands on the copy."""

    def __init__(self, plain: formats.Case, fold: Callable[[bytes], None]) -> None:
        self._rows = np.asarray(np.memmap(plain.path, np.uint16, "r")).reshape(plain.records, -1)
        self._fold = fold

    def __getitems__(self, indices: list[int]) -> list[Any]:
        """Reads a batch, record by record."""
        read, items = np.frombuffer, []
        for index in indices:
            record = self._rows[index].tobytes()
            self._fold(record)
            items.append(torch.from_numpy(read(record, np.uint16).astype(np.int64)))
        return items


def main() -> None:
    """Prints a line per record size and reading."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--sizes", nargs="*", type=int, default=list(SIZES), choices=SIZES)
    arguments = parser.parse_args()
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as folder:
            compare(Path(folder), size, arguments.rounds)


def compare(folder: Path, size: int, rounds: int) -> None:
    """Prints the lines of one record size."""
    case = formats.raw(folder, size, FILE_BYTES)
    measure.measure(case.path, **case.arguments)
    opened = dataset.AttestedMmapDataset
    theirs = readings(size)
    ways: dict[str, Callable[[list[int]], Any]] = {
        "baseline": case.plain,
        "manifest": accounted(opened(case.path, **case.arguments)),
        "no manifest": accounted(opened(case.path, manifest=None, **case.arguments)),
        **{name: Theirs(case, fold).__getitems__ for name, fold in theirs.items()},
    }
    chance = np.random.default_rng(1)
    number = max(2, min(30, (8 << 20) // (size * BATCH)))
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        batches = [chance.integers(0, case.records, BATCH).tolist() for _ in range(number)]
        for way, fetch in ways.items():
            found[way].append(cpu_us(fetch, batches))
    added = {
        way: statistics.median(a - b for a, b in zip(times, found["baseline"], strict=True))
        for way, times in found.items()
    }
    base = statistics.median(found["baseline"])
    print(
        f"{size} B: ours adds {added['manifest']:.2f} us with a manifest, {added['no manifest']:.2f} us "
        f"without (baseline {base:.2f} us)",
        flush=True,
    )
    for name in theirs:
        told(f"{name:9} adds {added[name]:.2f} us here", [added[name]], added)
    low, high = PUBLISHED_US
    told(f"published {low:.0f} to {high:.0f} us, on the authors' machine (bar {BAR})", PUBLISHED_US, added)


def told(what: str, costs: Sequence[float], added: dict[str, float]) -> None:
    """Prints how many times our cost theirs is."""
    ratios = [
        f"{' to '.join(f'{cost / added[way]:.1f}' for cost in costs)} times ours ({way})"
        for way in ("manifest", "no manifest")
    ]
    print(f"  {what}: {', '.join(ratios)}", flush=True)


def accounted(records: dataset.AttestedMmapDataset) -> Callable[[list[int]], Any]:
    """Returns the fetch of one batch as a worker does it, for a collate function that keeps the list."""
    collate = carrier.CarryingCollate(list)

    def fetch(indices: list[int]) -> Any:  # noqa: ANN401 (a carrier)
        before = carrier.gather()
        batch = collate(records.__getitems__(indices))
        carrier.restore(before)
        return batch

    return fetch


if __name__ == "__main__":
    main()
