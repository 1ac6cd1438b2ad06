"""Terkle trees: how fast they are built, how long proofs are, how long opening and verifying take.

Run ``python benchmarks/terkle.py``; with ``--full`` the tree of 16,777,216 leaves is built under both schemes
(minutes), else one of 262,144 is, and the sizes at 16,777,216 are computed from grid and region, which is all
that they depend on. Times are processor time of this one process; raw BLAKE3 over the same bytes, ckzg's
commitment and a build are timed in turn, so that all meet the same machine, and the fastest of each counts.
Bars in time are for a machine of known speed (`support/yardstick.py`); figures as measured stand beside those
that are judged. Exits 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import functools
import sys
from typing import TYPE_CHECKING, Final

from blake3 import blake3
from support.timing import processor_ms
from support.yardstick import NOMINAL_MS, commitment, judged

from palm_torch.commit import terkle
from palm_torch.commit.grid import Grid
from palm_torch.commit.terkle import Context

if TYPE_CHECKING:
    from collections.abc import Callable

REPEATS: Final = 9
VERIFY_CALLS: Final = 9
"""In each round, of what takes milliseconds: what disturbs the machine lasts longer than nine of them."""
SMALL: Final = 512
LARGE: Final = 4096
CELL_BYTES: Final = 16

BUILDS: Final = (("hash", 64 << 10, 32 << 20), ("hash", 16 << 10, 32 << 20), ("kzg", 16 << 10, 64 << 20))
"""Scheme, bytes of a tile, bytes in all; 64 MiB in tiles of 16 KiB fill one kzg node."""
BUILD_REPEATS: Final = 40
HASH_BARS: Final = {64 << 10: 0.80, 16 << 10: 0.55}
KZG_BAR_GB: Final = 0.8
KZG_OPEN_BAR_MS: Final = 200.0
"""For openings of up to three nodes, as all of these are."""
KZG_PROOF_BAR: Final = 200
VERIFY_BARS_MS: Final = {"hash": 1.0, "kzg": 5.0}
HASH_ROW_BAR: Final = 1126
"""1.1 KiB beside the values."""

PUBLISHED: Final = """published figures, 16,777,216 leaves (not measured here; hardware not stated)
  one leaf              build s  prove ms  verify ms  proof bytes
  Verkle, 64-ary        1,080.6      437       67.6   800 (estimated)
  Terkle [8,8]            226.8       48.9     17.5   972 (as coded, BN254)
  Terkle [4,4,4]           62.7       21.3     19.3   1,228 (as coded, BN254)
  Terkle [2]^6             31.5       18.3     20.2   1,996 (as coded, BN254)
  binary Merkle, SHA-256    9.24       0.17      -    768
  The Terkle trees of that artefact have consecutive integers as leaves, which makes their lowest nodes nearly
  free; what it times as Merkle verification (17,072 ms) is not the check of a path."""


def build(context: Context, content: memoryview, tile_bytes: int) -> bytes:
    """Returns the root over the tiles of one buffer."""
    tree = terkle.Tree(context)
    tree.extend(content[at : at + tile_bytes] for at in range(0, len(content), tile_bytes))
    return tree.root()


def building() -> bool:
    """Measures rates of building; returns whether all bars are met.

    All are timed in turn for some seconds: for as long, the machine may be slow in ways of its own, and slow
    Python down more than BLAKE3.
    """
    everything = memoryview(b"".join(blake3(b"%d" % n).digest(length=1 << 20) for n in range(64)))
    works: list[Callable[[], object]] = [commitment]
    for scheme, tile_bytes, content_bytes in BUILDS:
        grid = Grid((content_bytes // tile_bytes // 64, 64 * tile_bytes), (1, tile_bytes))
        context = Context("benchmark", "uint8", grid, "kzg" if scheme == "kzg" else "hash")
        content = everything[:content_bytes]
        works.append(functools.partial(_raw, content))
        works.append(functools.partial(build, context, content, tile_bytes))
        build(context, content, tile_bytes)  # loads what is loaded once
    ckzg, *found = least_ms(*((work, 1) for work in works), repeats=BUILD_REPEATS)
    met = True
    for number, (scheme, tile_bytes, content_bytes) in enumerate(BUILDS):
        raw, ours = found[2 * number : 2 * number + 2]
        said = (
            f"build {scheme:4}, tiles of {tile_bytes >> 10} KiB: {content_bytes / ours / 1e6:.2f} GB/s, "
            f"raw BLAKE3 {content_bytes / raw / 1e6:.2f} GB/s"
        )
        if scheme == "kzg":
            rate = content_bytes / judged(ours, ckzg) / 1e6
            good = rate >= KZG_BAR_GB
            print(
                f"{said}: {ours:.1f} ms, of which BLAKE3 {raw:.1f}, ckzg's commitment {ckzg:.1f}, our own "
                f"code {ours - raw - ckzg:.1f} ms; {rate:.2f} GB/s where a commitment takes "
                f"{NOMINAL_MS:.0f} ms (bar ≥ {KZG_BAR_GB} GB/s){verdict(good)}"
            )
        else:
            good = raw / ours >= HASH_BARS[tile_bytes]
            print(f"{said}, ratio {raw / ours:.2f} (bar ≥ {HASH_BARS[tile_bytes]:.2f}){verdict(good)}")
        met &= good
    return met


def _raw(content: memoryview) -> bytes:
    return blake3(content).digest()


def regions(side: int) -> dict[str, tuple[slice, ...]]:
    """Returns the regions that are opened in an array of side × side tiles."""
    step, at = CELL_BYTES, side // 2

    def tiles(row: int, rows: int, column: int, columns: int) -> tuple[slice, ...]:
        return slice(row, row + rows), slice(column * step, (column + columns) * step)

    return {
        "cell": tiles(at, 1, at, 1),
        "row of 64": tiles(at, 1, at, 64),
        "row of 64, not aligned": tiles(at, 1, at + 32, 64),
        "column of 64": tiles(at, 64, at, 1),
        "block of 8 × 8": tiles(at, 8, at, 8),
        "block of 8 × 8, not aligned": tiles(at + 3, 8, at + 3, 8),
    }


def context_of(side: int, scheme: str) -> Context:
    """Returns the context of an array of side × side tiles of 16 bytes."""
    grid = Grid((side, side * CELL_BYTES), (1, CELL_BYTES))
    return Context("benchmark", "uint8", grid, "kzg" if scheme == "kzg" else "hash")


def sizes() -> bool:
    """Computes the lengths of proofs at 16,777,216 leaves; returns whether all bars are met."""
    met = True
    print(f"proof bytes beside the values, {LARGE**2:,} leaves (computed: they follow from grid and region)")
    print(f"  {'':28}{'kzg':>8}{'hash':>8}")
    for name, region in regions(LARGE).items():
        kzg, plain = (terkle.proof_bytes(context_of(LARGE, scheme), [region]) for scheme in ("kzg", "hash"))
        in_one_path = kzg == 2 * 48 + 96
        good = (not in_one_path or kzg <= KZG_PROOF_BAR) and ("row" not in name or plain <= HASH_ROW_BAR)
        print(f"  {name:28}{kzg:8,}{plain:8,}{verdict(good)}")
        met &= good
    print(f"  bars: kzg ≤ {KZG_PROOF_BAR} below one node; hash rows ≤ {HASH_ROW_BAR}")
    return met


def cell(position: int) -> bytes:
    """Returns the bytes of a tile."""
    return position.to_bytes(CELL_BYTES, "little")


def opening(side: int) -> bool:
    """Measures opening and verifying; returns whether all bars are met."""
    met = True
    for scheme in ("kzg", "hash"):
        context = context_of(side, scheme)
        tree = terkle.Tree(context)
        leaves = map(cell, range(side * side))
        took = processor_ms(lambda: tree.extend(leaves)) + processor_ms(tree.root)  # noqa: B023 (called at once)
        root = tree.root()
        print(f"{scheme}, {side * side:,} leaves: built in {took / 1e3:.2f} s, leaves and nodes")
        for name, region in regions(side).items():
            made = tree.open([region], cell)
            assert len(made.proof) == terkle.proof_bytes(context, [region])
            open_ms, verify_ms, yard_ms = least_ms(
                (lambda: tree.open([region], cell), 1),  # noqa: B023 (called at once)
                (lambda: terkle.verify(root, context, [region], made), VERIFY_CALLS),  # noqa: B023 (as above)
                (commitment, 1),
            )
            opens, verifies = judged(open_ms, yard_ms), judged(verify_ms, yard_ms)
            good = verifies <= VERIFY_BARS_MS[scheme] and (scheme == "hash" or opens <= KZG_OPEN_BAR_MS)
            print(
                f"  {name:28}{len(made.proof):8,} bytes, verify {verify_ms:5.2f} ({verifies:4.2f}) ms, "
                f"open {open_ms:6.1f} ({opens:5.1f}) ms, a commitment {yard_ms:5.1f} ms{verdict(good)}"
            )
            met &= good
    print(
        f"  bars: verify ≤ {VERIFY_BARS_MS} ms; kzg open ≤ {KZG_OPEN_BAR_MS:.0f} ms; in brackets what is "
        f"judged, where ckzg's commitment takes {NOMINAL_MS:.0f} ms"
    )
    return met


def least_ms(*works: tuple[Callable[[], object], int], repeats: int = REPEATS) -> list[float]:
    """Returns the processor times of the fastest calls, in milliseconds; they are made in turn."""
    rounds = [
        [min(processor_ms(work) for _ in range(calls)) for work, calls in works] for _ in range(repeats)
    ]
    return [min(column) for column in zip(*rounds, strict=True)]


def verdict(good: bool) -> str:  # noqa: FBT001 (what it says)
    """Returns what stands beside a figure that misses its bar."""
    return "" if good else "  ← MISSED"


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="build 16,777,216 leaves (minutes)")
    side = LARGE if parser.parse_args().full else SMALL
    met = [building(), sizes(), opening(side)]
    print(PUBLISHED)
    sys.exit(not all(met))


if __name__ == "__main__":
    main()
