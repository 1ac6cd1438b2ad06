"""The page on fingerprints: its program runs, its options exist, and its figures follow from the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from palm_torch.audit import false_alarms
from palm_torch.commands import check_rerun
from palm_torch.commands import fingerprint as verb
from palm_torch.committing.proof import Proof

PAGE = (Path(__file__).parents[2] / "docs" / "fingerprint.md").read_text("utf-8")


def test_its_program_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(Proof, "fingerprint"):
        pytest.skip("Proof.fingerprint is not there yet")
    monkeypatch.chdir(tmp_path)
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(program, "docs/fingerprint.md", "exec"), {"__name__": "page"})  # noqa: S102 (our own page)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "answer.palm-fingerprint.json",
        "answer.palm-trace.json",
    ]


def test_its_options_exist() -> None:
    (shell,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    lines = shell.replace("\\\n", " ").splitlines()
    for line in lines:
        words = line.split()
        given = {word for word in words if word.startswith("-")}
        if words[1] == "fingerprint":
            known = {option for param in verb.fingerprint.commands[words[2]].params for option in param.opts}
        else:
            known = {f"--{name}" for name in check_rerun.NAMES} | {"--context", "--root"}
        assert given <= known, line
    assert len(lines) == 3


def test_its_number_of_prompts() -> None:
    assert f"it takes {false_alarms.runs_for(0.05, 0.95)} prompts" in PAGE
