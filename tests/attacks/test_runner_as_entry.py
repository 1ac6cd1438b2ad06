"""A runner is started instead of the reviewed program, and it runs a script that nobody reviewed.

``python -m RUNNER script.py`` imports nothing but the runner, which is an installed package or a part of
Python. Its script, and whatever a package opens, must still show.
"""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from palm_torch import evidence, statement
from palm_torch.digest import sha256_digest
from palm_torch.encoding import encode_json

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.statement import Statement

STEPS = """
import torch
net = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
net(torch.ones(1, 2)).sum().backward()
optimizer.step()
"""
RUNNER = """
import sys, types
main = sys.modules["__main__"] = types.ModuleType("__main__")
open("data.bin", "rb").read()
exec(compile(open(sys.argv[1]).read(), sys.argv[1], "exec"), vars(main))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with a script, beside an installed package whose RECORD vouches for the runner."""
    (tmp_path / "script.py").write_text(STEPS, encoding="utf-8")
    (tmp_path / "data.bin").write_bytes(b"data")
    site = tmp_path / "site-packages"
    metadata = site / "palm_test_runner-1.0.dist-info"
    metadata.mkdir(parents=True)
    (site / "palm_test_runner.py").write_text(RUNNER, encoding="utf-8")
    digest = base64.urlsafe_b64encode(hashlib.sha256(RUNNER.encode()).digest()).rstrip(b"=").decode()
    (metadata / "RECORD").write_text(f"palm_test_runner.py,sha256={digest},\n", encoding="utf-8")
    return tmp_path


def launched(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "palm_torch", "run", "train", "--attester", "simulated"]
    found = {**os.environ, "PYTHONPATH": str(folder / "site-packages"), **variables}
    return subprocess.run(
        [*line, "-o", "run.palm.json", "--", *words],
        cwd=folder,
        env=found,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def ends(folder: Path) -> Statement:
    bundle = evidence.decode((folder / "run.simulated.palm.json").read_bytes())
    end = statement.decode(bundle.end.statement)
    begin = statement.decode_begin(bundle.begin.statement)
    assert begin.inputs["command"] == end.run.inputs["command"]
    return end


@pytest.mark.slow
def test_an_installed_runner_shows_and_so_do_its_script_and_its_files(folder: Path) -> None:
    outcome = launched(folder, "-m", "palm_test_runner", "script.py")
    assert outcome.returncode == 0, outcome.stderr
    end = ends(folder)
    listed = {item.module: item for item in end.run.code.files}
    assert listed["__main__"].digest == sha256_digest(RUNNER.encode())
    assert listed["executed:script.py"].digest == sha256_digest(STEPS.encode())
    assert listed["__main__#2"].digest is None
    assert {"opened:data.bin", "opened:script.py"} <= end.run.inputs.keys()
    words = sha256_digest(encode_json(["-m", "palm_test_runner", "script.py"]))
    assert end.run.inputs["command"].digest == words
    assert "PYTHONPATH" in end.run.environment.value["variables"]


def test_a_runner_of_the_standard_library_is_refused(folder: Path) -> None:
    outcome = launched(folder, "-m", "cProfile", "script.py")
    assert outcome.returncode == 2
    assert "is part of Python and trains nothing" in outcome.stderr
    assert not list(folder.glob("*.palm.json"))


def test_twin_the_script_by_itself_is_attested(folder: Path) -> None:
    outcome = launched(folder, "script.py")
    assert outcome.returncode == 0, outcome.stderr
    listed = {item.module: item for item in ends(folder).run.code.files}
    assert listed["__main__"].digest == sha256_digest(STEPS.encode())
    assert not any(name.startswith("executed:") for name in listed)
