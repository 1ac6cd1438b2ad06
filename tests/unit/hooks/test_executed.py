"""Files that a program runs by itself."""

from __future__ import annotations

import ast
import collections
import ctypes
import hashlib
import marshal
import os
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


@pytest.mark.usefixtures("script")
def test_text_under_no_files_name_is_listed_if_the_program_runs_it() -> None:
    with auditing.listen(executed.ExecutedFiles()):
        exec(TEXT, {})  # noqa: S102 (what is tested)
        assert eval(b"1 + 1") == 2  # noqa: S307 (what is tested)
        exec(compile(TEXT, b"gone.py", "exec"), {})  # noqa: S102 (what is tested)
        exec(compile(ast.parse(TEXT), "<tree>", "exec"), {})  # noqa: S102 (what is tested)
    texts = {f"<string>:{sha(text).hex()[:12]}": (sha(text), None) for text in (TEXT, "1 + 1")}
    assert {name: item for name, item in told().items() if name.startswith("<string>")} == texts
    assert told().keys() == {*texts, "gone.py", "<tree>"}
    assert told()["gone.py"] == (sha(TEXT), None)
    assert told()["<tree>"] == (None, executed.WITHOUT_SOURCE)


def test_text_that_packages_and_the_standard_library_make_is_left_out(script: Path) -> None:
    package = compile("exec(TEXT, {})", "/x/site-packages/pack.py", "exec")
    with auditing.listen(executed.ExecutedFiles()):
        exec(compile(TEXT, str(runpy.__file__), "exec"), {})  # noqa: S102 (what is tested)
        collections.namedtuple("Pair", "a b")  # noqa: PYI024 (what makes text)
        exec(package, {"__name__": "pack", "TEXT": TEXT})  # noqa: S102 (a frame of a package)
        exec("exec(TEXT, {})", {"__name__": "palm_torch.x", "TEXT": TEXT})  # noqa: S102 (a frame of ours)
        exec(compile(TEXT, "", "exec"), {})  # noqa: S102 (under no name)
        for name in ("a\0b", None):
            auditing._audit("exec", (name,))
            auditing._audit("compile", (TEXT, name))
    exec(compile(TEXT, script, "exec"), {})  # noqa: S102 (outside of the block)
    listed = {item.module: item.digest for item in importing.loaded() if item.module.startswith("executed:")}
    own = sha("exec(TEXT, {})")
    assert listed.keys() == {"executed:pack.py", f"executed:<string>:{own.hex()[:12]}"}


@pytest.mark.usefixtures("script")
def test_what_torch_package_finds_in_an_archive_is_listed() -> None:
    package = compile(
        "exec(compile(TEXT, '<torch_package_0>.a/b.py', 'exec'), {})", "/x/site-packages/p.py", "exec"
    )
    with auditing.listen(executed.ExecutedFiles()):
        exec(package, {"__name__": "pack", "TEXT": TEXT})  # noqa: S102 (a frame of a package)
    assert told()["b.py"] == (sha(TEXT), None)


def test_code_whose_text_was_not_seen_is_listed_though_its_file_was_loaded(script: Path) -> None:
    importing.note("script", str(script), TEXT.encode())
    other = marshal.dumps(compile("VALUE = 666", script, "exec"))
    with auditing.listen(executed.ExecutedFiles()):
        exec(marshal.loads(other), {})  # noqa: S102, S302 (own bytes)
    assert told() == {"script.py": (None, executed.WITHOUT_SOURCE)}


def test_libraries_that_are_loaded_by_a_path_are_listed(script: Path) -> None:
    with auditing.listen(executed.ExecutedFiles()):
        ctypes.CDLL(None)
        ctypes.CDLL("libc.so.6")
        for path in (script, script.with_name("gone.so")):
            with pytest.raises(OSError, match=path.name):
                ctypes.CDLL(str(path))
        auditing._audit("ctypes.dlopen", (os.fsencode(os.__file__),))
    assert told() == {"script.py": (sha(TEXT), None)}


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
