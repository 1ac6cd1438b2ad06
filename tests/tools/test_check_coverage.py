"""The coverage table refuses what is below its minimum, and what is not there at all."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "check_coverage.py"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("check_coverage", TOOL)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "MINIMUM_PERCENT", {"p/": 50.0, "p/a.py": 100.0})
    return module


def run(
    tool: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    **lines_and_branches: tuple[int, int, int, int],
) -> int:
    files = {
        f"p/{name}.py": {
            "summary": {
                "covered_lines": covered,
                "num_statements": statements,
                "covered_branches": covered_branches,
                "num_branches": branches,
            }
        }
        for name, (covered, statements, covered_branches, branches) in lines_and_branches.items()
    }
    report = tmp_path / "coverage.json"
    report.write_text(json.dumps({"files": files}))
    monkeypatch.setattr(sys, "argv", ["check_coverage.py", str(report)])
    return int(tool.main())


def test_enough_passes(
    tool: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tool, monkeypatch, tmp_path, a=(10, 10, 2, 2), b=(1, 10, 0, 4)) == 0
    assert "LOW" not in capsys.readouterr().out


def test_a_missing_branch_fails(
    tool: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tool, monkeypatch, tmp_path, a=(10, 10, 1, 2)) == 1
    assert "LOW  p/a.py" in capsys.readouterr().out


def test_a_prefix_without_files_fails(
    tool: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tool, monkeypatch, tmp_path, b=(10, 10, 2, 2)) == 1
    assert "no such files" in capsys.readouterr().out


def test_wrong_usage(tool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["check_coverage.py"])
    assert tool.main() == 3
