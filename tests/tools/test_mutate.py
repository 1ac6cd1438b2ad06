"""The mutation tool: every module it names is there with tests of its own, and its verdicts add up."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "mutate.py"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(ROOT)
    spec = importlib.util.spec_from_file_location("mutate", TOOL)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_module_is_there_and_has_tests_of_its_own(tool: Any) -> None:
    for name in tool.MODULES:
        assert (ROOT / "palm_torch" / f"{name}.py").is_file(), name
        parser = ConfigParser()
        parser.read_string(tool.settings(name))
        selected = parser.get("mutmut", "pytest_add_cli_args_test_selection").split()
        assert selected, name
        assert all((ROOT / path).is_file() for path in selected), name


def test_the_tests_of_one_module_are_not_those_of_another(tool: Any) -> None:
    assert "tests/unit/test_receipt.py" in tool.settings("receipt")
    assert "tests/unit/test_receipts.py" not in tool.settings("receipt")
    assert "tests/unit/cvm/test_binding.py" in tool.settings("cvm/binding")
    assert "tests/unit/policies/test_policy_values.py" in tool.settings("policies/policy")


def test_what_tests_noticed_is_counted(tool: Any, tmp_path: Path) -> None:
    path = tmp_path / "digest.py.meta"
    path.write_text('{"exit_code_by_key": {"a": 1, "b": 0, "c": null, "d": -24, "e": 33, "f": -11}}')
    counts = tool.counted(tool.verdicts(path))
    assert tool.line("digest", counts) == (
        "digest                         6 mutants: 1 killed, 1 stuck, 4 survived, 33.3 %"
    )


def test_a_module_that_is_not_listed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(TOOL), "digest", "nonsense"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 3
    assert done.stderr.startswith("no such module: nonsense; there are encoding, digest, ")
    assert list(tmp_path.iterdir()) == []
