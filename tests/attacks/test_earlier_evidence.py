"""A script ends without a word, and yesterday's evidence lies where today's would be."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import launched
import loops
import pytest

from palm_torch.attesting import launch
from palm_torch.attesting.launch import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from launched import Launcher


@pytest.fixture(scope="module", autouse=True)
def _fresh_process() -> Iterator[None]:
    with loops.fresh_process():
        yield


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Launcher]:
    with launched.launcher(tmp_path, monkeypatch) as found:
        yield found


def test_a_process_that_just_stops_leaves_no_evidence(
    scripts: Launcher, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = scripts.run(f"{launched.STEPS}\nstep()\n")
    child = os.fork()
    if child == 0:
        try:
            scripts.run(f"{launched.STEPS}\nstep()\nimport os\nos._exit(0)\n")
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not list(scripts.folder.glob("*.palm.json"))
    (scripts.folder / "run.simulated.palm.json.previous").rename("run.simulated.palm.json")
    assert scripts.end() == earlier
    scripts.run(f"{launched.STEPS}\nstep()\n")
    assert "evidence of an earlier run was put aside: " in capsys.readouterr().err


def test_what_cannot_be_put_aside_is_told(scripts: Launcher, capsys: pytest.CaptureFixture[str]) -> None:
    scripts.run(f"{launched.STEPS}\nstep()\n")
    (scripts.folder / "run.simulated.palm.json.previous").mkdir()
    words = Plan(operation="train", module=False, words=("script.py",), output="run.palm.json").to_words()
    assert launch.main(words) == 2
    assert "cannot be put aside" in capsys.readouterr().err
