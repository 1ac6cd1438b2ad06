"""What one node of a KZG tree costs, beside the reference library's own calls of the same run.

Every row is timed in turn with its baseline, so that both meet the same machine; the figure is the best of
the rounds, since what disturbs a run only adds. Times are processor time. A bar is the largest ratio to the
baseline; some rows have a bar in milliseconds as well, for a machine of known speed (`support/yardstick.py`).
The last row is a whole process that checks one opening, by the clock on the wall.

| row | baseline (ckzg) |
|---|---|
| commit, open one place | `blob_to_kzg_commitment`, `compute_kzg_proof` |
| open a row | `compute_cells_and_kzg_proofs`, which has no way to make one proof alone |
| open a column; three nodes | two commitments, of which every such proof consists |
| check a place, a row | `verify_kzg_proof`, `verify_cell_kzg_proof_batch` |
| check a column; three nodes | `verify_kzg_proof`: one equation, however many places |
| check every second place | the same; what is kept for a set is dropped before |
| check half of all places, at random | a commitment |
| update one value | a commitment |

For 2048 places that fit no pattern the verifier multiplies 2048 factors ``X - x``, in integers of Python's
own, which is most of the time. The bar is three commitments: who may see the whole node is faster if he takes
it whole and commits to it himself, and such an opening is for those who may not.

Run ``python benchmarks/kzg.py``; it ends with 1 if a bar is missed.
"""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import ckzg
from support.timing import processor_ms, seconds
from support.yardstick import commitment, judged

from palm_torch.commit import field, kzg, proving, shplonk, vanishing

ROUNDS: Final = 9
CALLS: Final = 5
"""Calls in a round, for what takes milliseconds."""

COLUMN: Final = tuple(range(5, kzg.WIDTH, kzg.ROW))
EVERY_SECOND: Final = tuple(range(1, kzg.WIDTH, 2))
RANDOM: Final = tuple(sorted(random.Random(1).sample(range(kzg.WIDTH), kzg.WIDTH // 2)))
SHELL_BAR_S: Final = 0.5


@dataclass(frozen=True)
class Row:
    """One line of the table: what is timed, beside what, and its bars."""

    name: str
    ours: Callable[[], object]
    theirs: Callable[[], object]
    ratio_bar: float
    bar_ms: float = math.inf
    calls: int = 1

    def measure(self) -> bool:
        """Prints the row and says whether its bars are met."""
        ours = theirs = yard = math.inf
        for _ in range(ROUNDS):
            ours = min(ours, *(processor_ms(self.ours) for _ in range(self.calls)))
            theirs = min(theirs, *(processor_ms(self.theirs) for _ in range(self.calls)))
            yard = min(yard, processor_ms(commitment))
        met = ours / theirs <= self.ratio_bar and judged(ours, yard) <= self.bar_ms
        absolute = ""
        if self.bar_ms != math.inf:
            absolute = f" ({judged(ours, yard):.2f} at nominal speed, bar {self.bar_ms:.0f} ms)"
        print(
            f"{self.name:24} {ours:8.2f} ms{absolute}; baseline {theirs:8.2f} ms; "
            f"ratio {ours / theirs:5.2f} (bar ≤ {self.ratio_bar:.2f}){'' if met else '  MISSED'}"
        )
        return met


def main() -> int:
    """Measures and prints; returns 1 if a bar was missed."""
    print(f"ceremony loaded in {seconds(proving.settings):.2f} s")
    met = [row.measure() for row in _rows()]
    shell, bare = (min(_process(code) for _ in range(ROUNDS)) for code in _programs())
    print(
        f"{'check from a new process':24} {shell:8.3f} s, bar {SHELL_BAR_S} s; bare interpreter {bare:.3f} s"
    )
    return int(not all(met) or shell > SHELL_BAR_S)


def _rows() -> list[Row]:
    settings = proving.settings()
    nodes = [_node(seed) for seed in range(3)]
    values, blob, commitment = nodes[0]
    column = [(commitment, blob, COLUMN)]
    three = [(c, b, s) for (_, b, c), s in zip(nodes, ((9,), (4000,), COLUMN), strict=True)]
    place_proof, row_proof = kzg.open_point(blob, 9), kzg.open_row(blob, 9)
    column_proof, three_proof = shplonk.open_sets(column, b""), shplonk.open_sets(three, b"")
    column_claims = [shplonk.Claim(commitment, COLUMN, tuple(values[at] for at in COLUMN))]
    three_claims = [
        shplonk.Claim(c, s, tuple(v[at] for at in s))
        for (v, _, _), (c, _, s) in zip(nodes, three, strict=True)
    ]
    x, y = (value.to_bytes(32, "big") for value in (field.point(9), values[9]))
    row_values = values[9 * kzg.ROW : 10 * kzg.ROW]
    cell = kzg.packed(row_values)

    def commit_once() -> object:
        return ckzg.blob_to_kzg_commitment(blob, settings)

    def commit_twice() -> object:
        return commit_once(), commit_once()

    def check_place() -> object:
        return ckzg.verify_kzg_proof(commitment, x, y, place_proof, settings)

    def check_cell() -> object:
        return ckzg.verify_cell_kzg_proof_batch([commitment], [9], [cell], [row_proof], settings)

    def all_cells() -> object:
        return ckzg.compute_cells_and_kzg_proofs(blob, settings)

    def prove_place() -> object:
        return ckzg.compute_kzg_proof(blob, x, settings)

    return [
        Row("commit", lambda: kzg.commit(blob), commit_once, 1.25),
        Row("open one place", lambda: kzg.open_point(blob, 9), prove_place, 1.25),
        Row("open a row", lambda: kzg.open_row(blob, 9), all_cells, 0.5),
        Row("open a column", lambda: shplonk.open_sets(column, b""), commit_twice, 2.0, 200),
        Row("open three nodes", lambda: shplonk.open_sets(three, b""), commit_twice, 2.0, 200),
        Row(
            "check a place",
            lambda: kzg.verify_point(commitment, 9, values[9], place_proof),
            check_place,
            *(2.5, 5, CALLS),
        ),
        Row(
            "check a row",
            lambda: kzg.verify_row(commitment, 9, row_values, row_proof),
            check_cell,
            *(2.0, 5, CALLS),
        ),
        Row(
            "check a column",
            lambda: shplonk.verify_sets(column_claims, b"", column_proof),
            check_place,
            *(5.0, 5, CALLS),
        ),
        Row(
            "check three nodes",
            lambda: shplonk.verify_sets(three_claims, b"", three_proof),
            check_place,
            *(5.0, 5, CALLS),
        ),
        _half("check every second place", nodes[0], EVERY_SECOND, check_place, 20.0, 60),
        _half("check half, at random", nodes[0], RANDOM, commit_once, 3.0),
        Row("update one value", lambda: kzg.update(commitment, 9, values[9], 1), commit_once, 0.05, 5),
    ]


def _half(
    name: str,
    node: tuple[tuple[int, ...], bytes, bytes],
    places: tuple[int, ...],
    theirs: Callable[[], object],
    ratio_bar: float,
    bar_ms: float = math.inf,
) -> Row:
    values, blob, commitment = node
    proof = shplonk.open_sets([(commitment, blob, places)], b"")
    claims = [shplonk.Claim(commitment, places, tuple(values[at] for at in places))]

    def check() -> None:
        vanishing.of.cache_clear()
        shplonk.verify_sets(claims, b"", proof)

    return Row(name, check, theirs, ratio_bar, bar_ms)


def _node(seed: int) -> tuple[tuple[int, ...], bytes, bytes]:
    values = tuple(kzg.hash_to_field(b"%d/%d" % (seed, at)) for at in range(kzg.WIDTH))
    blob = kzg.packed(values)
    return values, blob, kzg.commit(blob)


def _programs() -> tuple[str, str]:
    """Returns what a process runs that checks one opening of a column, and one that runs nothing."""
    values, blob, commitment = _node(0)
    proof = shplonk.open_sets([(commitment, blob, COLUMN)], b"")
    claim = shplonk.Claim(commitment, COLUMN, tuple(values[at] for at in COLUMN))
    return (
        f"from palm_torch.commit import shplonk; shplonk.verify_sets([shplonk.{claim!r}], b'', {proof!r})",
        "",
    )


def _process(code: str) -> float:
    return seconds(lambda: subprocess.run([sys.executable, "-c", code], check=True))


if __name__ == "__main__":
    sys.exit(main())
