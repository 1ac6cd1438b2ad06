"""A prefix for bytecode caches makes the standard library run from a folder that nothing vouches for."""

from __future__ import annotations

import colorsys
import importlib._bootstrap_external as external
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import palm_torch
from palm_torch.attesting.launch import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = "import colorsys, sys\nsys.exit(9 if hasattr(colorsys, 'EVIL') else 7)\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A script that imports a module of the library whose cache, under a prefix, is of another program."""
    monkeypatch.setattr(sys, "pycache_prefix", str(tmp_path / "cache"))
    state = Path(colorsys.__file__).stat()
    cached = Path(importlib.util.cache_from_source(colorsys.__file__))
    cached.parent.mkdir(parents=True)
    code = compile("EVIL = 1\n", colorsys.__file__, "exec")
    pack: Any = external
    cached.write_bytes(pack._code_to_timestamp_pyc(code, int(state.st_mtime), state.st_size))
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    return tmp_path


def started(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "cache")}
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def test_the_launcher_drops_the_prefix(folder: Path) -> None:
    words = ("-m", "palm_torch", "run", "train", "--attester", "simulated", "--", "script.py")
    outcome = started(folder, *words)
    assert outcome.returncode == 7, outcome.stderr


def test_twin_plain_python_runs_the_poison(folder: Path) -> None:
    assert started(folder, "script.py").returncode == 9


def test_the_first_code_refuses_the_prefix(folder: Path) -> None:
    plan = Plan(operation="train", module=False, words=("script.py",))
    assert palm_torch.__file__ is not None
    bootstrap = Path(palm_torch.__file__).with_name("bootstrap.py")
    outcome = started(folder, str(bootstrap), *plan.to_words())
    assert outcome.returncode == 2
    assert "PYTHONPYCACHEPREFIX" in outcome.stderr
