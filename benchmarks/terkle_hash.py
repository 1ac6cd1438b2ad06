"""Openings of the hash backend: their size and time at 16,777,216 leaves, and what a tree costs to keep.

Run ``python benchmarks/terkle_hash.py [--full]``. The tiles are a grid of 4096 × 4096, numbered row-major;
what is opened are 64 neighbouring tiles of one row, once aligned to 64 and once where the proof is longest
of all 4,033 places. How many hashes a proof has and what verifying it costs follow from the number of leaves
and the positions alone, so the siblings are drawn at random and ten recursive lines say which root they lead
to; with ``--full`` a tree of all the leaves is built (two minutes, 1.2 GB) and opened.

Baselines of the same run: SHA-256 of as many messages of a node's 90 bytes, one after the other, and those
ten recursive lines. Bytes kept per leaf are what tracemalloc sees of a builder of 2^17 leaves.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import random
import statistics
import sys
import tracemalloc
from typing import Final

from support.timing import seconds

from palm_torch.commit import merkle, merkle_nodes, merkle_stream
from palm_torch.commit.grid import Grid

SIDE: Final = 4096
ROW: Final = 64
GRID: Final = Grid((SIDE, SIDE), (1, 1), ("row", "column"))
SOME_ROW: Final = 1234
NODE: Final = bytes(90)
"""As long as what is hashed for one node: tag, level, two hashes."""

ROUNDS: Final = 201
LEAVES_BUILT: Final = 2**20
LEAVES_WEIGHED: Final = 2**17

PROOF_BAR_BYTES: Final = 1126
"""1.1 KiB."""
VERIFY_BAR_MS: Final = 1.0
KEPT_BAR_BYTES: Final = 40


def naive_top(level: int, index: int, count: int, known: dict[tuple[int, int], bytes]) -> bytes:
    """Returns a node, given hashes by level and index for what is opened and for its siblings."""
    if (level, index) in known:
        return known[level, index]
    if index << level >= count:
        return merkle.MISSING
    left, right = (naive_top(level - 1, 2 * index + side, count, known) for side in (0, 1))
    return hashlib.sha256(b"palm-torch/merkle-node/v1" + bytes((level,)) + left + right).digest()


def inner_nodes(positions: tuple[int, ...], count: int) -> int:
    """Returns how many nodes are hashed from the opened leaves up to the top."""
    total = 0
    nodes = set(positions)
    for _ in range(merkle_nodes.height(count)):
        nodes = {node >> 1 for node in nodes}
        total += len(nodes)
    return total


def raw_hashes(number: int) -> None:
    """Hashes as many messages of a node's length."""
    sha256 = hashlib.sha256
    for _ in range(number):
        sha256(NODE).digest()


def row(start: int) -> tuple[int, ...]:
    """Returns the positions of 64 neighbouring tiles."""
    return GRID.cover(GRID.region(row=SOME_ROW, column=slice(start, start + ROW)))


def longest() -> int:
    """Returns the place in a row at which the proof of 64 tiles is longest."""
    return max(range(SIDE - ROW + 1), key=lambda start: merkle.proof_bytes(GRID.tiles, row(start)))


def opened_row(name: str, start: int) -> bool:
    """Prints size and time of one opening; returns whether both bars are held."""
    count, positions, chance = GRID.tiles, row(start), random.Random(start)
    leaves = {position: chance.randbytes(merkle.HASH_BYTES) for position in positions}
    places = merkle_nodes.proof_nodes(list(positions), count)
    siblings = {place: chance.randbytes(merkle.HASH_BYTES) for place in places}
    known = siblings | {(0, position): leaf for position, leaf in leaves.items()}
    height = merkle_nodes.height(count)
    root = merkle_nodes.root_of_top(count, naive_top(height, 0, count, known))
    proof = b"".join(siblings[place] for place in places)

    hashed = inner_nodes(positions, count)
    times = [
        (
            seconds(lambda: merkle.verify(root, count, leaves, proof)),
            seconds(lambda: raw_hashes(hashed)),
            seconds(lambda: naive_top(height, 0, count, known)),
        )
        for _ in range(ROUNDS)
    ]
    ours, raw, naive = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"{name}, columns {start} to {start + ROW - 1}, {count:,} leaves:")
    print(f"  proof: {len(proof)} bytes (bar ≤ {PROOF_BAR_BYTES}), {len(places)} hashes")
    print(f"  verify: {ours * 1e3:.3f} ms (bar ≤ {VERIFY_BAR_MS:.1f} ms), {hashed} nodes hashed")
    print(f"  verify / raw SHA-256 of as many nodes: {ours / raw:.2f}; / recursive lines: {ours / naive:.2f}")
    return len(proof) <= PROOF_BAR_BYTES and ours * 1e3 <= VERIFY_BAR_MS


def kept() -> float:
    """Returns the bytes that a builder keeps per leaf."""
    leaf = bytes(merkle.HASH_BYTES)
    tracemalloc.start()
    builder = merkle.TreeBuilder()
    for _ in range(LEAVES_WEIGHED):
        builder.append(leaf)
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return size / len(builder)


def built(count: int, starts: dict[str, int]) -> None:
    """Builds a tree, prints what it cost, opens a row, replaces a leaf and verifies both."""
    leaves = hashlib.shake_128(b"leaves").digest(count * merkle.HASH_BYTES)
    pieces = range(0, len(leaves), merkle.HASH_BYTES)
    builder, stream = merkle.TreeBuilder(), merkle_stream.StreamingRoot()

    def fill(tree: merkle.TreeBuilder | merkle_stream.StreamingRoot) -> None:
        for at in pieces:
            tree.append(leaves[at : at + merkle.HASH_BYTES])
        tree.root()

    raw, ours = seconds(lambda: raw_hashes(count)), seconds(lambda: fill(builder))
    streamed = seconds(lambda: fill(stream))
    root = builder.root()
    assert stream.root() == root
    print(f"a tree of {count:,} leaves, one by one: {ours / count * 1e6:.2f} us per leaf")
    print(f"  build / raw SHA-256 of as many nodes: {ours / raw:.2f}; root of a stream: {streamed / raw:.2f}")
    for name, start in starts.items():
        positions = [position % count for position in row(start)]
        opening = seconds(functools.partial(builder.open, positions))
        proof = builder.open(positions)
        cells = (merkle.HASH_BYTES * at for at in positions)
        opened = {
            at: leaves[cell : cell + merkle.HASH_BYTES] for at, cell in zip(positions, cells, strict=True)
        }
        merkle.verify(root, count, opened, proof)
        print(f"  open {name}: {opening * 1e3:.2f} ms, {len(proof)} bytes, accepted")

    def replace() -> bytes:
        builder.replace(count // 3, NODE[: merkle.HASH_BYTES])
        return builder.root()

    replacing = seconds(replace)
    print(f"  replace a leaf, with the new root: {replacing * 1e3:.2f} ms")


def main() -> int:
    """Measures and prints; returns 1 if a bar was missed."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--full", action="store_true", help=f"build the tree of {GRID.tiles:,} leaves")
    full = options.parse_args().full
    starts = {"aligned row of 64": 10 * ROW, "longest row of 64": longest()}
    held = [opened_row(name, start) for name, start in starts.items()]
    across = range(GRID.tiles // 2 - ROW + 1, GRID.tiles // 2 + 1)
    print(
        f"for comparison, {ROW} tiles of one axis across the middle of the tree: "
        f"{merkle.proof_bytes(GRID.tiles, across)} bytes"
    )
    per_leaf = kept()
    print(f"kept while building: {per_leaf:.1f} bytes per leaf (bar ≤ {KEPT_BAR_BYTES})")
    built(GRID.tiles if full else LEAVES_BUILT, starts)
    return 0 if all(held) and per_leaf <= KEPT_BAR_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
