"""Running a script's text as `palm-torch run` does, in this process and under the import hook."""

from __future__ import annotations

import contextlib
import linecache
import sys
from typing import TYPE_CHECKING, Any

from palm_torch import evidence, statement
from palm_torch.appraisal import reservations
from palm_torch.attesting import launch
from palm_torch.attesting.launch import Plan
from palm_torch.hooks import importing, installed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

    from palm_torch.statement import Statement

STEPS = """
import torch
def step(factor=1.0):
    torch.random.default_generator.manual_seed(0)
    net = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    net(torch.full((1, 2), float(factor))).sum().backward()
    optimizer.step()
"""
"""A training whose weights depend on one number, and on nothing that is read through palm-torch."""


class Launcher:
    """Runs scripts in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, text: str, *words: str, **options: Any) -> Statement:
        """Returns the end statement of a script that ended well."""
        (self.folder / "script.py").write_text(text, encoding="utf-8")
        plan = {"operation": "train", "module": False, "words": ("script.py", *words), **options}
        plan.setdefault("output", str(self.folder / "run.palm.json"))
        code = launch.main(Plan(**plan).to_words())
        assert code == 0, code
        return self.end()

    def end(self) -> Statement:
        bundle = evidence.decode((self.folder / "run.simulated.palm.json").read_bytes())
        return statement.decode(bundle.end.statement)


@contextlib.contextmanager
def launcher(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Launcher]:
    """Makes `folder` the working folder, and forgets afterwards what scripts in it left behind."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(installed, "_vouched", {})
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    before, lines = set(sys.modules), set(linecache.cache)
    remove = importing.install()
    try:
        yield Launcher(folder)
    finally:
        remove()
        for name in set(sys.modules) - before:
            if name.startswith("palm_test_"):
                del sys.modules[name]
        for name in set(linecache.cache) - lines:
            del linecache.cache[name]


def code_of(end: Statement, prefix: str) -> dict[str, bytes | None]:
    """Returns the listed code whose name begins so: name → SHA-256."""
    return {
        item.module: item.digest and item.digest.value
        for item in end.run.code.files
        if item.module.startswith(prefix)
    }


def opened_by(end: Statement) -> dict[str, bytes | None]:
    """Returns the files that a script opened by itself: name → SHA-256."""
    return {
        role.removeprefix("opened:"): item.digest and item.digest.value
        for role, item in end.run.inputs.items()
        if role.startswith("opened:")
    }


def warned_of(end: Statement) -> str:
    """Returns the reasons of all reservations about a statement."""
    return "\n".join(item.reason for item in reservations.of_statement(end))
