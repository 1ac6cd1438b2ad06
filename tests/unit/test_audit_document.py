"""The page about audits runs as it is printed, and so do its commands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from palm_torch import cli
from palm_torch.appraisal import policy_template
from palm_torch.cvm import simulated

PAGE = Path(__file__).parents[2] / "docs" / "audit.md"

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
    root = simulated.SimulatedTdx().root_certificate()
    sealed = names["run"].evidence.bundle.encode()
    Path("policy.yaml").write_text(
        policy_template.starting_policy(sealed, what="evidence", simulated_root=root)
    )
    for command in shell.replace("\\\n", " ").splitlines():
        assert cli.main(shlex.split(command)[1:]) == 0, capsys.readouterr()
    out = capsys.readouterr().out
    assert "16 places" in out
    assert "CONSISTENT: " in out
    assert "nothing is proved by that" in out
    assert "nothing says how tokens were chosen" not in out  # the receipt does
    (asked,) = re.findall(r"`(proof\.answer\(.*?\)\.save\(.*?\))`", text)
    eval(asked, names)  # noqa: S307 (our own page)
    assert Path("shown.json").is_file()
