"""Which code ran, as far as the running program can say."""

from __future__ import annotations

import base64
import hashlib
import importlib
import os
import subprocess
import sys
import time
import types
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

import palm_torch
from palm_torch import digest, statement
from palm_torch.hooks import installed, source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_torch.statement import SourceFile


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on `sys.path`; what is imported from it is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(installed, "_vouched", {})
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def _listed() -> dict[str, SourceFile]:
    return {item.module: item for item in source.loaded_sources()}


def _import(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    importlib.invalidate_caches()
    importlib.import_module(name)


def test_own_code_is_listed_by_module_name_and_file_digest(folder: Path) -> None:
    _import(folder, "palm_torch_test_script", "x = 1\n")
    item = _listed()["palm_torch_test_script"]
    assert item.digest is not None
    assert item.digest.value == hashlib.sha256(b"x = 1\n").digest()
    assert item.reason is None
    assert str(folder) not in repr(source.loaded_sources())


def test_palm_torch_is_always_listed_and_installed_and_standard_code_is_not() -> None:
    listed = _listed()
    assert listed["palm_torch"].digest is not None
    assert listed["palm_torch.hooks.source"].digest is not None
    assert palm_torch.__file__ is not None
    for name in ("torch", "torch.nn.modules.linear", "torch._C", "json", "os", "sys", "pytest"):
        assert name in sys.modules
        assert name not in listed


def test_files_of_other_tests_are_not_listed_though_pytest_imported_them() -> None:
    assert {name for name in _listed() if name.startswith("tests.") and ".test_" in name} == {__name__}


def test_list_is_sorted_by_module_name() -> None:
    names = [item.module for item in source.loaded_sources()]
    assert names == sorted(names)


def test_changed_file_changes_the_digest(folder: Path) -> None:
    _import(folder, "palm_torch_test_script", "x = 1\n")
    before = statement.code_digest(source.loaded_sources())
    (folder / "palm_torch_test_script.py").write_text("x = 2\n", encoding="utf-8")
    assert statement.code_digest(source.loaded_sources()) != before


def _reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns a list that grows by the name of every file that is read."""
    read: list[str] = []
    real = hashlib.file_digest

    def file_digest(stream: Any, kind: str) -> Any:
        read.append(stream.name)
        return real(stream, kind)

    monkeypatch.setattr(hashlib, "file_digest", file_digest)
    return read


def test_file_that_has_been_as_it_is_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _import(folder, "palm_torch_test_script", "x = 1\n")
    path = folder / "palm_torch_test_script.py"
    monkeypatch.setattr(source, "_SETTLED_NS", -1)
    read = _reads(monkeypatch)
    first = source.of_module("palm_torch_test_script")
    assert source.of_module("palm_torch_test_script") == first
    assert read == [str(path)]


@pytest.mark.parametrize("how", ["written", "written, its time put back", "exchanged"])
def test_file_that_was_changed_since_is_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    _import(folder, "palm_torch_test_script", "x = 1\n")
    path = folder / "palm_torch_test_script.py"
    monkeypatch.setattr(source, "_SETTLED_NS", -1)
    before, times = source.of_module("palm_torch_test_script"), path.stat()
    time.sleep(0.05)  # the times of files go in steps of some milliseconds
    new = folder / "new" if how == "exchanged" else path
    new.write_text("x = 2\n", encoding="utf-8")
    if how != "written":
        os.utime(new, ns=(times.st_atime_ns, times.st_mtime_ns))
    new.replace(path)
    after = source.of_module("palm_torch_test_script")
    assert after.digest == digest.sha256_digest(b"x = 2\n") != before.digest


def test_file_that_was_changed_a_moment_ago_is_read_each_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _import(folder, "palm_torch_test_script", "x = 1\n")
    read = _reads(monkeypatch)
    assert source.of_module("palm_torch_test_script") == source.of_module("palm_torch_test_script")
    assert len(read) == 2


def test_module_in_an_archive_has_a_reason(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(folder / "code.zip", "w") as archive:
        archive.writestr("palm_torch_test_zipped.py", "x = 1\n")
    monkeypatch.syspath_prepend(folder / "code.zip")
    importlib.import_module("palm_torch_test_zipped")
    item = _listed()["palm_torch_test_zipped"]
    assert (item.digest, item.reason) == (None, "loaded from an archive or a file that is gone")


def test_main_given_on_the_command_line_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    main = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setitem(sys.modules, "__mp_main__", main)
    listed = _listed()
    assert (listed["__main__"].digest, listed["__main__"].reason) == (
        None,
        "interactive or given on the command line",
    )
    assert "__mp_main__" not in listed


def test_module_made_at_run_time_has_a_reason_if_it_holds_code(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in (
        ("made", "def f(): pass"),
        ("classy", "class C:\n def f(self): pass"),
        ("empty", "x = len"),
    ):
        module = types.ModuleType(f"palm_torch_test_{name}")
        exec(text, vars(module))  # noqa: S102 (that is what is tested)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    listed = _listed()
    assert listed["palm_torch_test_made"].reason == "made at run time"
    assert listed["palm_torch_test_classy"].reason == "made at run time"
    assert "palm_torch_test_empty" not in listed


def test_namespace_packages_hold_no_code(folder: Path) -> None:
    (folder / "palm_torch_test_space").mkdir()
    importlib.import_module("palm_torch_test_space")
    assert "palm_torch_test_space" not in _listed()


def _install(folder: Path, text: str, recorded: str) -> None:
    digest = base64.urlsafe_b64encode(hashlib.sha256(recorded.encode()).digest()).rstrip(b"=").decode()
    metadata = folder / "Palm_Torch.Test_Dist-1.0+local.dist-info"
    metadata.mkdir()
    (metadata / "RECORD").write_text(
        f'palm_torch_test_dist.py,sha256={digest},9\n"a,b.py",,\n../../bin/x.py,sha256=!,1\n',
        encoding="utf-8",
    )
    _import(folder, "palm_torch_test_dist", text)


def test_installed_file_as_recorded_is_left_to_the_packages(folder: Path) -> None:
    _install(folder, "x = 1\n", "x = 1\n")
    assert "palm_torch_test_dist" not in _listed()


def test_installed_file_that_differs_from_its_record_is_listed(folder: Path) -> None:
    _install(folder, "x = 2\n", "x = 1\n")
    item = _listed()["palm_torch_test_dist"]
    assert item.digest is not None
    assert item.digest.value == hashlib.sha256(b"x = 2\n").digest()
    assert item.reason == "installed file differs from the RECORD of palm-torch-test-dist 1.0+local"


def test_installed_distribution_found_first_wins(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    _install(folder, "", "")
    second = tmp_path_factory.mktemp("second")
    (second / "palm_torch_test_dist-2.0.dist-info").mkdir()
    (second / "palm_torch_other-3.egg-info").mkdir()
    sys.path.append(str(second))
    try:
        found = {item.name: item for item in installed.distributions()}
    finally:
        sys.path.remove(str(second))
    assert found["palm-torch-test-dist"].version == "1.0+local"
    assert (found["palm-torch-other"].version, found["palm-torch-other"].record) == ("3", None)
    assert list(found) == sorted(found)


def test_unreadable_file_has_a_reason(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _import(folder, "palm_torch_test_script", "")

    def refuse(*_arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    assert source.of_module("palm_torch_test_script").reason == "file cannot be read: Permission denied"


def test_class_sources() -> None:
    digest = source.of_class(torch.nn.Linear).digest
    assert digest is not None
    assert digest.value == hashlib.sha256(Path(torch.nn.modules.linear.__file__).read_bytes()).digest()
    assert source.of_class(int).reason == "built into the interpreter"
    assert source.of_module("palm_torch.nowhere").reason == "module is not loaded"


def test_a_module_that_an_installed_package_makes_is_accounted_for() -> None:
    code = (
        "import torch.distributed.nn.jit.instantiator\n"
        "from palm_torch.hooks import source\n"
        "import sys\n"
        "assert '_remote_module_non_scriptable' in sys.modules\n"
        "print([item.module for item in source.loaded_sources() if item.digest is None])"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "['__main__']"  # given on the command line: that one nobody accounts for
