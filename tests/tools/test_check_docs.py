"""The document checker finds what it is there to find, and leaves good documents alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CHECKER = Path(__file__).parents[2] / "tools" / "check_docs.py"
GOOD = (
    "# One heading\n\nSee [below](#one-heading), [there](docs/b.md#two-words) and [out](https://example.org/).\n"
    "\n```python\nx = 1\n```\n\n```text\n[not a link](nowhere.md)\n```\n"
)
FAULTS = {
    "missing file": ("[a](docs/c.md)\n", "1: link 'docs/c.md': no such file"),
    "missing anchor": ("# A\n\n[a](docs/b.md#three)\n", "3: link 'docs/b.md#three': no heading #three there"),
    "missing own anchor": ("[a](#b)\n", "1: link '#b': no heading #b there"),
    "out of the repository": ("[a](../x.md)\n", "1: link '../x.md': leads out of the repository"),
    "Python that does not compile": ("\n```python\nx = 1\ny = = 2\n```\n", "4: Python block: invalid syntax"),
    "Python in a block that never ends": ("```python\nx = (\n", "README.md:2: Python block"),
}


def check(folder: Path, readme: str) -> subprocess.CompletedProcess[str]:
    (folder / "docs").mkdir()
    (folder / "docs" / "b.md").write_text("## Two `words`!\n")
    (folder / "README.md").write_text(readme)
    return subprocess.run(
        [sys.executable, CHECKER, folder], capture_output=True, text=True, check=False, encoding="utf-8"
    )


def test_good_documents_pass(tmp_path: Path) -> None:
    outcome = check(tmp_path, GOOD)
    assert (outcome.returncode, outcome.stderr) == (0, "")
    assert outcome.stdout == "documents: 2 checked, 0 faults\n"


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_named_with_its_line(name: str, tmp_path: Path) -> None:
    readme, expected = FAULTS[name]
    outcome = check(tmp_path, readme)
    assert outcome.returncode == 1
    assert expected in outcome.stderr


def test_a_folder_without_documents_is_a_fault(tmp_path: Path) -> None:
    outcome = subprocess.run([sys.executable, CHECKER, tmp_path], capture_output=True, text=True, check=False)
    assert outcome.returncode == 1
    assert "found none" in outcome.stderr


def test_a_test_that_is_named_has_to_be_there(tmp_path: Path) -> None:
    (tmp_path / "tests" / "attacks").mkdir(parents=True)
    (tmp_path / "tests" / "attacks" / "test_known.py").touch()
    found = check(tmp_path, "`attacks/test_known.py`, `attacks/test_gone.py`\n")
    assert found.returncode == 1
    assert found.stderr == "README.md:1: test 'attacks/test_gone.py': no such file\n"
