"""Golden files are what their scripts write today."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "vectors"
MAKERS = sorted(FOLDER.glob("make_*.py"))


def load(maker: Path) -> Any:
    spec = importlib.util.spec_from_file_location(maker.stem, maker)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def golden(maker: Path) -> Path:
    return maker.with_name(maker.stem.removeprefix("make_") + ".json")


def test_every_golden_file_has_a_script_and_every_script_a_file() -> None:
    assert MAKERS
    assert {golden(maker) for maker in MAKERS} == set(FOLDER.glob("*.json"))


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.stem)
def test_a_golden_file_is_what_its_script_writes(maker: Path) -> None:
    text = load(maker).render()
    assert text == golden(maker).read_text(encoding="ascii")
    assert text == load(maker).render()
