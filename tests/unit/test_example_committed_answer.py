"""The example of a commitment and the page on it run as printed, and so does the line that they end with."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from palm_torch import cli
from palm_torch.commit import trace, trace_opening
from palm_torch.digest import Digest
from palm_torch.exit_codes import ACCEPTED, REJECTED

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "committed_answer.py"
PAGE = ROOT / "docs" / "commit-inference.md"


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("answer")
    outcome = subprocess.run(
        [sys.executable, str(EXAMPLE), str(folder)], capture_output=True, text=True, check=False, timeout=250
    )
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout.splitlines()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], tuple[int, str]]:
    def call(words: list[str]) -> tuple[int, str]:
        return cli.main(words), "".join(capsys.readouterr())

    return call


def test_the_last_line_checks_the_token(
    printed: list[str], run: Callable[[list[str]], tuple[int, str]]
) -> None:
    program, *words = shlex.split(printed[-1])
    assert program == "palm-torch"
    code, said = run([*words, "--site", "model.layers.2", "--tokens", "6:7", "--batch", "1:2"])
    assert (code, "PROVEN" in said) == (ACCEPTED, True)
    code, said = run([*words[:-1], f"palm-sha256:{'0' * 64}"])
    assert code == REJECTED


def test_what_it_shows_is_one_row(printed: list[str]) -> None:
    words = shlex.split(printed[-1])
    opening = trace_opening.read(Path(words[2]))
    shown = trace_opening.verify(
        Digest.parse(words[-1]), Path(words[4]).read_bytes(), opening.question, opening
    )
    assert (shown.dtype, shown.shape) == ("float32", (1, 1, 256))
    assert opening.tiles == shown.values
    context = trace.decode(Path(words[4]).read_bytes(), what="context")
    assert [(one.module, one.fired, one.expected) for one in context.coverage] == [
        (f"model.layers.{index}", 8, 8) for index in range(4)
    ]
    assert printed[1].startswith("seen: model.layers.0 8 of 8, ")


def test_the_page_runs_as_it_is_printed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    run: Callable[[list[str]], tuple[int, str]],
) -> None:
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(block, str(PAGE), "exec"), {})  # noqa: S102 (our own page)
    root = capsys.readouterr().out.split()[-1]
    code, said = run(
        ["check", "rows.palm-opening.json", "--context", "answer.palm-trace.json", "--root", root]
    )
    assert code == ACCEPTED
    assert "batch 0:1, tokens 0:4, channels 0:64 of 1 in the run with this root" in said
