"""Compares the attacks that the threat model numbers with the tests that carry these numbers.

Usage: ``python tools/attack_coverage.py [ROOT]``. A number is covered if a file that its row names has a
function ``test_attack_NN_…``; of the numbers in `WHOLE_FILES`, if every file that its row names is there.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from collections.abc import Set as AbstractSet

DOCUMENT: Final = Path("docs/threat-model.md")
TESTS: Final = Path("tests")
WHOLE_FILES: Final = range(41, 51)
"""Attacks of which a file tells the whole story, whatever its functions are called."""

_ROW: Final = re.compile(r"^\| (?P<number>\d{1,3}) \|")
_FILE: Final = re.compile(r"`(?P<path>[a-z0-9_/]+\.py)`")
_FUNCTION: Final = re.compile(r"test_attack_(?P<number>\d{2,3})_\w+")


def main() -> int:
    """Prints how many attacks are covered, and every fault; returns 1 if there is one."""
    root = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
    rows, tests = list(listed(root / DOCUMENT)), numbered(root / TESTS)
    attacks = dict(sorted(rows))
    uncovered = [number for number, files in attacks.items() if not covered(number, files, tests)]
    faults = [*faults_of(rows, tests), *(f"attack {number}: no test" for number in uncovered)]
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"attacks: {len(attacks) - len(uncovered)} of {len(attacks)} covered")
    return 1 if faults else 0


def listed(document: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yields the number of every row of a threat model, and the files that the row names."""
    for line in document.read_text(encoding="utf-8").splitlines():
        row = _ROW.match(line)
        if row:
            yield int(row["number"]), tuple(found["path"] for found in _FILE.finditer(line))


def numbered(tests: Path) -> dict[str, frozenset[int]]:
    """Returns every test file below a folder, by path, with the numbers that its functions carry."""
    return {path.relative_to(tests).as_posix(): _numbers(path) for path in sorted(tests.rglob("test_*.py"))}


def covered(number: int, files: tuple[str, ...], tests: Mapping[str, AbstractSet[int]]) -> bool:
    """Returns whether the files that an attack's row names test it."""
    if number in WHOLE_FILES:
        return bool(files) and all(name in tests for name in files)
    return any(number in tests.get(name, ()) for name in files)


def faults_of(
    rows: list[tuple[int, tuple[str, ...]]], tests: Mapping[str, AbstractSet[int]]
) -> Iterator[str]:
    """Yields what does not fit, beside attacks without a test: numbers twice, and tests that no row names."""
    if not rows:
        yield f"{DOCUMENT}: expected rows that begin with the number of an attack, found none"
    numbers = [number for number, _ in rows]
    for number in sorted({number for number in numbers if numbers.count(number) > 1}):
        yield f"attack {number}: listed {numbers.count(number)} times"
    named = {(number, name) for number, files in rows for name in files}
    for name, found in tests.items():
        for number in sorted(found):
            if (number, name) not in named:
                yield f"attack {number}: {DOCUMENT} does not name its test in {name}"


def _numbers(path: Path) -> frozenset[int]:
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    functions = (node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    matches = (_FUNCTION.fullmatch(name) for name in functions)
    return frozenset(int(match["number"]) for match in matches if match)


if __name__ == "__main__":
    sys.exit(main())
