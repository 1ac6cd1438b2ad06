"""Random mutations of good bundles and receipts: how many are refused, and by which errors.

Bits and ranges of bytes flipped, exchanged with those of another valid document, cut, doubled and moved;
fields likewise, down to those of the statements and receipts inside. Mutations are drawn with a fixed seed;
one that gives a good document again is drawn anew. An accepted one, an exception outside the library's tree,
and (with the usual count) a field that nothing touched make the program fail.

    python benchmarks/mutations.py [--count N] [--seed N]
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import traceback
from pathlib import Path

COUNT = 20_000
SUPPORT = Path(__file__).parent.parent / "tests" / "support"


def main() -> int:
    """Prints a line for each kind and returns 1 if one came through, or a field was left out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--seed", type=int, default=2026)
    arguments = parser.parse_args()
    sys.path.insert(0, str(SUPPORT))
    hostile = importlib.import_module("hostile")
    with tempfile.TemporaryDirectory() as folder:
        tally = hostile.attack(hostile.make(Path(folder)), arguments.count, seed=arguments.seed)
    print(f"{'kind':<18} {'tried':>6} {'accepted':>9} {'foreign':>8}  refused by")
    for kind, tried in sorted(tally.tried.items()):
        accepted = sum(mutation.kind == kind for mutation in tally.accepted)
        foreign = sum(mutation.kind == kind for mutation, _ in tally.foreign)
        errors = {error: count for (name, error), count in tally.refused.most_common() if name == kind}
        by = ", ".join(f"{error} {count}" for error, count in errors.items())
        print(f"{kind:<18} {tried:>6} {accepted:>9} {foreign:>8}  {by}")
    for mutation in tally.accepted:
        print(f"ACCEPTED: {mutation.kind} at {mutation.where}")
    for mutation, error in tally.foreign:
        print(f"FOREIGN: {mutation.kind} at {mutation.where}")
        traceback.print_exception(error)
    print(
        f"{tally.tried.total()} mutations: {len(tally.accepted)} accepted, {len(tally.foreign)} foreign "
        f"exceptions (bar: 0 and 0); fields never mutated: {', '.join(sorted(tally.missed)) or 'none'}"
    )
    missed = arguments.count >= COUNT and tally.missed
    return 1 if tally.accepted or tally.foreign or missed else 0


if __name__ == "__main__":
    sys.exit(main())
