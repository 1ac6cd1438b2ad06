"""The page about frameworks runs as it is printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palm_torch import statement
from palm_torch.properties import Train

if TYPE_CHECKING:
    import pytest

PAGE = Path(__file__).parents[2] / "docs" / "frameworks.md"


def test_every_block_runs_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 2
    names: dict[str, Any] = {"__name__": "page"}
    for number, block in enumerate(blocks):
        exec(compile(block, f"{PAGE.name}, block {number}", "exec"), names)  # noqa: S102 (our own page)
    claims = statement.decode(names["run"].evidence.bundle.end.statement).claims
    assert isinstance(claims, Train)
    assert claims.data["dataset1"].uses["train"].delivered == 60
