"""The runner of the fuzzers: what it does without atheris, and what it makes of a fuzzer's words."""

from __future__ import annotations

import importlib.util
import platform
import sys
from pathlib import Path
from typing import Any

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "fuzz.py"
LOG = """\
#12	INITED cov: 3 ft: 4 corp: 1/1b
#900	NEW    cov: 142 ft: 252 corp: 31/17Kb lim: 1592 exec/s: 0 rss: 58Mb
#1000	DONE   cov: 143 ft: 255 corp: 31/17Kb lim: 1592 exec/s: 500 rss: 58Mb
stat::number_of_executed_units: 1000
stat::average_exec_per_sec:     500
"""


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("fuzz_tool", TOOL)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "fuzz_tool", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "BUILD", tmp_path)
    return module


class Fuzzer:
    """Stands in for the process: writes a log, leaves an input that broke something, ends with a code."""

    def __init__(self, code: int = 0, broken: str | None = None) -> None:
        self.code, self.broken = code, broken
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], *, stdout: Any, cwd: Path, **_: Any) -> Any:
        self.commands.append(command)
        stdout.write(LOG if self.code >= 0 else "Traceback")
        if self.broken:
            (cwd / "broken" / self.broken).write_bytes(b"!")
        return type("Ended", (), {"returncode": self.code})


def fuzz(tool: Any, monkeypatch: pytest.MonkeyPatch, fuzzer: Fuzzer, *words: str) -> int:
    monkeypatch.setattr(tool.subprocess, "run", fuzzer)
    monkeypatch.setattr(sys, "argv", ["fuzz.py", *words])
    monkeypatch.setattr(tool.importlib.util, "find_spec", lambda _: object())
    code: int = tool.main()
    return code


def test_every_group_has_a_line(tool: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    fuzzer = Fuzzer()
    assert fuzz(tool, monkeypatch, fuzzer, "--seconds", "7") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == tool.groups()
    assert lines[1].split() == [tool.groups()[0], "1000", "500", "143", "255", "0"]
    assert all("-max_total_time=7" in command for command in fuzzer.commands)


def test_seeds_and_words_are_written(tool: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept = {path.name for path in (tool.FUZZ / "crashes" / "files").iterdir()}
    assert fuzz(tool, monkeypatch, Fuzzer(), "files") == 0
    assert kept < {path.name for path in (tmp_path / "files" / "seeds").iterdir()}
    words = (tmp_path / "files" / "words").read_text().splitlines()
    assert r'"\x2d\x30"' in words


def test_only_new_inputs_count(tool: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert fuzz(tool, monkeypatch, Fuzzer(77, "crash-1"), "der") == 1
    assert "broken by" in capsys.readouterr().out
    assert fuzz(tool, monkeypatch, Fuzzer(0, "crash-1"), "der") == 0


def test_a_fuzzer_that_dies_is_a_failure(tool: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert fuzz(tool, monkeypatch, Fuzzer(-14), "der") == 1
    assert "ended with -14" in capsys.readouterr().out


def test_a_fresh_corpus_forgets(tool: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "der" / "fresh").mkdir(parents=True)
    (tmp_path / "der" / "fresh" / "old").touch()
    fuzzer = Fuzzer()
    assert fuzz(tool, monkeypatch, fuzzer, "--fresh", "der") == 0
    assert not (tmp_path / "der" / "fresh" / "old").exists()
    assert str(tmp_path / "der" / "fresh") in fuzzer.commands[0]


@pytest.mark.parametrize(
    ("system", "version", "code", "says"),
    [
        ("Linux", (3, 11), 3, "pip install"),
        ("Linux", (3, 15), 0, "NOTHING WAS FUZZED"),
        ("Darwin", (3, 11), 0, "NOTHING WAS FUZZED"),
    ],
)
def test_without_atheris(
    tool: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any, system: str, version: Any, code: int, says: str
) -> None:
    monkeypatch.setattr(tool.importlib.util, "find_spec", lambda _: None)
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(tool.sys, "version_info", version)
    monkeypatch.setattr(sys, "argv", ["fuzz.py"])
    assert tool.main() == code
    assert says in capsys.readouterr().err
