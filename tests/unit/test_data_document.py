"""The page about data runs as it is printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import palm_torch

if TYPE_CHECKING:
    import pytest

PAGE = Path(__file__).parents[2] / "docs" / "data.md"


def test_every_block_runs_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    names: dict[str, Any] = {"__name__": "page"}
    for number, block in enumerate(blocks):
        exec(compile(block, f"{PAGE.name}, block {number}", "exec"), names)  # noqa: S102 (our own page)
    assert len(names["received"]) == 12


def test_every_dataset_class_stands_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8")
    classes = [name for name in palm_torch.__all__ if "Attested" in name] + ["memmap"]
    assert len(classes) == 5
    assert [name for name in classes if f"`{name}(" not in text] == []
