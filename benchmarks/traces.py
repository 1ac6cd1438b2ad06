"""Openings of traces: one activation row out of 24 layers of 1,024 tokens, under both schemes.

proof          bytes beside the tile, which is the row (bars: 1.5 KiB under hash, 200 B under kzg)
check          from the bytes of file and context, and the root, to the values, without torch: processor time,
               median and least of the rounds (bar 5 ms, of the median); beside it BLAKE3 and SHA-256 of the
               same bytes, which whoever checks cannot do without
tree           what the end of a block takes beyond hashing tiles: processor time for each leaf; no bar
open           one row, with the tree at hand; no bar

A column of the same trace, the first channel of one layer in all tokens, is opened, too: as many tiles as
tokens; no bar.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import TYPE_CHECKING, Final

from blake3 import blake3

from palm_torch.commit import (
    tile_leaf,
    trace,
    trace_gathering,
    trace_opening,
    trace_question,
    trace_schemes,
)
from palm_torch.commit.trace import Calls, Context, ModuleCoverage, Site
from palm_torch.commit.trace_gathering import Captured

if TYPE_CHECKING:
    from collections.abc import Callable

    from palm_torch.commit.trace_opening import TraceOpening
    from palm_torch.commit.trace_schemes import Tree

LAYERS: Final = 24
TOKENS: Final = 1024
WIDTH: Final = 768
DTYPE: Final = "float32"
ROW_BYTES: Final = 4 * WIDTH
ROUNDS: Final = 200

PROOF_BARS: Final[dict[trace_schemes.Name, int]] = {"hash": 1536, "kzg": 200}
CHECK_BAR_S: Final = 5e-3

SITES: Final = tuple(Site(f"model.layers.{number}") for number in range(LAYERS))
SCHEDULE: Final = (Calls(0, 1, (1, 512)), Calls(1, 512, (1, 1)))
"""A prompt of 512 tokens, then as many steps."""


def main() -> int:
    """Measures and prints; returns 1 if a bar was missed."""
    captured = [Captured(site, DTYPE, WIDTH, SCHEDULE, leaves(site)) for site in SITES]
    print(f"{LAYERS} layers of {TOKENS} tokens, {DTYPE} of width {WIDTH}: {LAYERS * TOKENS} tiles")
    missed = False
    for scheme in trace_schemes.SCHEMES:
        trace_schemes.prepare(scheme)
        missed |= measure(scheme, captured)
    print(f"torch was {'' if 'torch' in sys.modules else 'not '}loaded")
    return int(missed or "torch" in sys.modules)


def content(site: Site, start: int, stop: int) -> bytes:
    """Returns some of a site's bytes: row after row, each of its own bytes."""
    rows = range(start // ROW_BYTES, -(-stop // ROW_BYTES))
    data = b"".join(blake3(f"{site} {row}".encode()).digest(length=ROW_BYTES) for row in rows)
    return data[start % ROW_BYTES :][: stop - start]


def leaves(site: Site) -> bytes:
    """Returns the leaves of a site's rows."""
    leaf = tile_leaf.maker(site.tree_id, DTYPE, axes=2)
    rows = (content(site, row * ROW_BYTES, (row + 1) * ROW_BYTES) for row in range(TOKENS))
    return b"".join(leaf((1, WIDTH), (at, 0), blake3(row).digest()) for at, row in enumerate(rows))


def measure(scheme: trace_schemes.Name, captured: list[Captured]) -> bool:
    """Measures one scheme, and says whether it missed a bar."""
    began = time.process_time()
    gathered = trace_gathering.gather(captured, scheme=scheme)
    taken = (time.process_time() - began) / (LAYERS * TOKENS)
    context = Context(
        media_type=trace.MEDIA_TYPE,
        scheme=scheme,
        model=None,
        groups=tuple(group for group, _ in gathered),
        coverage=tuple(ModuleCoverage(site.module, "each call of the model", 513, 513) for site in SITES),
        not_captured=(),
        environment={},
        facts={},
    )
    trees = [tree for _, tree in gathered]
    row = opened(context, trees, SITES[12], tokens=700)
    encoded, root = context.encode(), trace.root(context.encode())
    file = row.encode()

    def check() -> trace_opening.Shown:
        opening = trace_opening.decode(file, what="opening")
        return trace_opening.verify(root, encoded, opening.question, opening)

    if check().values != content(SITES[12], 700 * ROW_BYTES, 701 * ROW_BYTES):
        raise RuntimeError("the row is not the one that was captured")
    checked = rounds(check)
    bare = rounds(lambda: (blake3(row.tiles).digest(), trace.root(encoded)))
    opening_s = statistics.median(rounds(lambda: opened(context, trees, SITES[12], tokens=700), 5))
    median, bar = statistics.median(checked), PROOF_BARS[scheme]
    print(f"{scheme}: tree {taken * 1e6:.1f} µs a leaf; open a row {opening_s * 1e3:.1f} ms")
    print(f"{scheme}: proof of a row {len(row.proof)} bytes (bar ≤ {bar}), file {len(file)} bytes")
    print(
        f"{scheme}: check a row {median * 1e3:.2f} ms, least {min(checked) * 1e3:.2f} (bar ≤ "
        f"{CHECK_BAR_S * 1e3:.0f}); hashes alone {statistics.median(bare) * 1e3:.2f} ms"
    )
    column = opened(context, trees, SITES[12], channels=0)
    print(f"{scheme}: proof of a column, {TOKENS} tiles: {len(column.proof)} bytes")
    return len(row.proof) > bar or median > CHECK_BAR_S


def opened(context: Context, trees: list[Tree], site: Site, **ranges: int) -> TraceOpening:
    """Opens some of a site."""
    question = trace_question.ask(context, site, **ranges)
    root = trace.root(context.encode())
    return trace_opening.make(root, context, trees, question, lambda start, stop: content(site, start, stop))


def rounds(call: Callable[[], object], number: int = ROUNDS) -> list[float]:
    """Returns the processor time of each of some calls, in seconds."""
    taken: list[float] = []
    for _ in range(number):
        began = time.process_time()
        call()
        taken.append(time.process_time() - began)
    return taken


if __name__ == "__main__":
    sys.exit(main())
