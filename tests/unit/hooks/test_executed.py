"""Files that a program runs by itself."""

from __future__ import annotations

import hashlib
import marshal
import runpy
from typing import TYPE_CHECKING

import pytest

from palm_torch.hooks import auditing, executed, importing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEXT = "VALUE = 1\n"


@pytest.fixture(autouse=True)
def _traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets coverage see inside the audit hook, which Python does not trace unless told."""
    monkeypatch.setattr(auditing._audit, "__cantrace__", True, raising=False)


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Path]:
    remove = importing.install()
    path = tmp_path / "script.py"
    path.write_text(TEXT, encoding="utf-8")
    yield path
    remove()


def told() -> dict[str, tuple[bytes | None, str | None]]:
    return {
        item.module.removeprefix(executed.PREFIX): (item.digest, item.reason)
        for item in importing.loaded()
        if item.module.startswith(executed.PREFIX)
    }


def sha(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def test_what_was_compiled_from_a_file_and_run_is_listed(script: Path) -> None:
    with auditing.listen(executed.ExecutedFiles()):
        code = compile(script.read_text(encoding="utf-8"), script, "exec")
        script.write_text("VALUE = 2\n", encoding="utf-8")
        assert told() == {}
        exec(code, {})  # noqa: S102 (what is tested)
        exec(code, {})  # noqa: S102 (once is enough)
    assert told() == {"script.py": (sha(TEXT), None)}


def test_runpy_is_a_runner_like_others(script: Path) -> None:
    with auditing.listen(executed.ExecutedFiles()):
        assert runpy.run_path(str(script))["VALUE"] == 1
    assert told() == {"script.py": (sha(TEXT), None)}


def test_code_without_its_text_has_no_digest(script: Path) -> None:
    code = marshal.loads(marshal.dumps(compile(TEXT, script, "exec")))  # noqa: S302 (own bytes)
    with auditing.listen(executed.ExecutedFiles()):
        exec(code, {})  # noqa: S102 (what is tested)
    assert told() == {"script.py": (None, executed.WITHOUT_SOURCE)}


def test_what_the_hook_compiled_is_not_listed_again_but_other_bytes_are(script: Path) -> None:
    importing.note("script", str(script), TEXT.encode())
    with auditing.listen(executed.ExecutedFiles()):
        exec(compile(TEXT, script, "exec"), {})  # noqa: S102 (the same bytes)
        assert told() == {}
        exec(compile("VALUE = 2\n", script, "exec"), {})  # noqa: S102 (others)
    assert told() == {"script.py": (sha("VALUE = 2\n"), None)}


def test_text_under_no_files_name_and_the_standard_library_are_left_out(script: Path) -> None:
    with auditing.listen(executed.ExecutedFiles()):
        for name in ("<string>", "gone.py", str(runpy.__file__)):
            exec(compile(TEXT, name, "exec"), {})  # noqa: S102 (what is tested)
    exec(compile(TEXT, script, "exec"), {})  # noqa: S102 (outside of the block)
    assert told() == {}


def test_another_process_tells_nothing(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with auditing.listen(executed.ExecutedFiles()):
        monkeypatch.setattr(auditing._listening["exec"][-1], "_process", 0)
        exec(compile(TEXT, script, "exec"), {})  # noqa: S102 (what is tested)
    assert told() == {}


def test_beyond_the_limit_one_entry_says_so(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executed, "MAX_FILES", 1)
    with auditing.listen(executed.ExecutedFiles()):
        for number in range(4):
            exec(compile(f"VALUE = {number}\n", script, "exec"), {})  # noqa: S102 (what is tested)
    assert told() == {"script.py": (sha("VALUE = 0\n"), None), "...": (None, executed.FURTHER)}
