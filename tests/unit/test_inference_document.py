"""The page about answers runs as it is printed, and so do its commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from palm_torch import cli, evidence
from palm_torch.appraisal import policy_template
from palm_torch.cvm import simulated

PAGE = Path(__file__).parents[2] / "docs" / "inference.md"

pytestmark = pytest.mark.usefixtures("fresh_process", "few_sources")


def test_every_block_runs_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    (shell,) = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(block, PAGE.name, "exec"), names)  # noqa: S102 (our own page)
    sealed = Path("chat.simulated.palm.json")
    assert evidence.decode(sealed.read_bytes()).run_id == names["run"].run_id
    Path("policy.yaml").write_text(
        policy_template.starting_policy(
            sealed.read_bytes(), what="evidence", simulated_root=simulated.SimulatedTdx().root_certificate()
        )
    )
    Path("ids.bin").write_bytes(torch.tensor([[7, 1, 2]]).numpy().tobytes())
    before = Path("query0.palm-opening.json").read_bytes()
    for command in shell.replace("\\\n", " ").splitlines():
        assert cli.main(shlex.split(command)[1:]) == 0, capsys.readouterr()
    assert Path("query0.palm-opening.json").read_bytes() == before
    out = capsys.readouterr().out
    assert "query     int64[1,3]: 7 1 2" in out
    assert "its context is this answer's" in out
