"""The attack table is held against the tests: what is missing, on either side, is named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "attack_coverage.py"
TABLE = (
    "| no. | attack | test |\n|---|---|---|\n"
    "| 7 | one | `attacks/test_one.py` |\n"
    "| 44 | two | `attacks/test_two.py` |\n"
)
STORIES = {
    "test_one.py": "def test_attack_07_of_a_kind():\n    pass\n",
    "test_two.py": "def test_another():\n    pass\n",
}


def check(folder: Path, table: str = TABLE, **stories: str) -> tuple[int, str, str]:
    (folder / "docs").mkdir()
    (folder / "tests" / "attacks").mkdir(parents=True)
    (folder / "docs" / "threat-model.md").write_text(table)
    for name, text in (STORIES | {f"{stem}.py": text for stem, text in stories.items()}).items():
        (folder / "tests" / "attacks" / name).write_text(text)
    done = subprocess.run(
        [sys.executable, TOOL, folder], capture_output=True, text=True, check=False, encoding="utf-8"
    )
    return done.returncode, done.stdout, done.stderr


def test_a_table_that_is_covered(tmp_path: Path) -> None:
    assert check(tmp_path) == (0, "attacks: 2 of 2 covered\n", "")


@pytest.mark.parametrize(
    ("number", "file", "story"),
    [
        (8, "attacks/test_one.py", "another number"),
        (7, "attacks/test_gone.py", "no such file"),
        (45, "attacks/test_gone.py", "no such story"),
        (46, "", "no file at all"),
    ],
)
def test_an_attack_without_a_test(number: int, file: str, story: str, tmp_path: Path) -> None:
    row = f"| {number} | {story} | `{file}` |\n" if file else f"| {number} | {story} | |\n"
    code, out, err = check(
        tmp_path, TABLE.replace("| 7 |", "| 9 |") + row, test_one="def test_attack_09_x(): 0"
    )
    assert (code, out) == (1, "attacks: 2 of 3 covered\n")
    assert err == f"attack {number}: no test\n"


def test_a_number_that_only_begins_another_is_no_test(tmp_path: Path) -> None:
    code, out, _ = check(tmp_path, test_one="def test_attack_071_x(): 0\n")
    assert (code, out) == (1, "attacks: 1 of 2 covered\n")


def test_a_test_that_no_row_names(tmp_path: Path) -> None:
    code, out, err = check(tmp_path, test_two="def test_attack_07_elsewhere(): 0\n")
    assert (code, out) == (1, "attacks: 2 of 2 covered\n")
    assert err == "attack 7: docs/threat-model.md does not name its test in attacks/test_two.py\n"


def test_a_number_that_is_listed_twice(tmp_path: Path) -> None:
    code, _, err = check(tmp_path, TABLE + TABLE.splitlines()[-1] + "\n")
    assert (code, err) == (1, "attack 44: listed 2 times\n")


def test_a_document_without_numbers(tmp_path: Path) -> None:
    code, out, err = check(tmp_path, "# Nothing\n", test_one="")
    assert (code, out) == (1, "attacks: 0 of 0 covered\n")
    assert "found none" in err


def test_the_project_covers_what_it_lists() -> None:
    done = subprocess.run([sys.executable, TOOL, ROOT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
