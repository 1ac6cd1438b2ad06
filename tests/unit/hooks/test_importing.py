"""The import hook: what was compiled is what was hashed, whichever way it came in."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import linecache
import py_compile
import sys
import sysconfig
import threading
import traceback
import types
import zipfile
from importlib.machinery import ExtensionFileLoader, SourceFileLoader
from typing import TYPE_CHECKING

import pytest

from palm_torch.attesting import surroundings
from palm_torch.hooks import importing, installed, source
from palm_torch.statement import CodeSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from palm_torch.statement import SourceFile

OLD, NEW = b"VALUE = 'old'\n", b"VALUE = 'new and longer'\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on `sys.path` under the hook; both are forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(installed, "_vouched", {})
    before, lines = set(sys.modules), set(linecache.cache)
    remove = importing.install()
    yield tmp_path
    remove()
    for name in set(sys.modules) - before:
        del sys.modules[name]
    for name in set(linecache.cache) - lines:
        del linecache.cache[name]


def write(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    importlib.invalidate_caches()
    return path


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def digests() -> dict[str, bytes | None]:
    return {item.module: item.digest for item in importing.loaded() if item.reason is None}


def listed() -> dict[str, SourceFile]:
    return {item.module: item for item in source.loaded_sources()}


def digest_of(name: str) -> bytes:
    digest = listed()[name].digest
    assert digest is not None
    return digest.value


def test_the_digest_is_of_what_was_compiled_and_stays(folder: Path) -> None:
    path = write(folder / "palm_test_a.py", OLD)
    module = importlib.import_module("palm_test_a")
    write(path, NEW)
    assert module.VALUE == "old"
    assert digest_of("palm_test_a") == sha(OLD)
    assert source.of_module("palm_test_a").digest == listed()["palm_test_a"].digest
    assert not list(folder.rglob("*.pyc"))


def test_bytecode_beside_the_source_is_not_read(folder: Path) -> None:
    path = write(folder / "palm_test_b.py", OLD)
    evil = write(folder / "evil.py", NEW)
    cached = importlib.util.cache_from_source(str(path))
    py_compile.compile(
        str(evil), cfile=cached, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH
    )
    assert importlib.import_module("palm_test_b").VALUE == "old"


def test_packages_relative_lazy_and_namespace_imports(folder: Path) -> None:
    write(folder / "palm_test_p/__init__.py", b"from . import one\n")
    write(folder / "palm_test_p/one.py", b"def late():\n    from palm_test_p.two import X\n    return X\n")
    write(folder / "palm_test_p/two.py", b"X = 2\n")
    write(folder / "palm_test_n/inner.py", b"X = 3\n")
    package = importlib.import_module("palm_test_p")
    assert "palm_test_p.two" not in digests()
    assert package.one.late() == 2
    importlib.import_module("palm_test_n.inner")
    names = {name for name in listed() if name.startswith("palm_test_")}
    assert names == {"palm_test_p", "palm_test_p.one", "palm_test_p.two", "palm_test_n.inner"}
    assert digest_of("palm_test_p.two") == sha(b"X = 2\n")


def test_modules_loaded_by_hand_and_by_subclasses_of_the_loader(folder: Path) -> None:
    path = write(folder / "elsewhere.py", OLD)
    spec = importlib.util.spec_from_file_location("palm_test_hand", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)  # never in sys.modules

    class Own(SourceFileLoader):
        """As tools that transform sources have it."""

    spec = importlib.util.spec_from_loader("palm_test_own", Own("palm_test_own", str(path)))
    assert spec is not None
    Own("palm_test_own", str(path)).exec_module(importlib.util.module_from_spec(spec))
    assert digest_of("palm_test_hand") == digest_of("palm_test_own") == sha(OLD)


def test_reloading_lists_every_version_that_ran(folder: Path) -> None:
    path = write(folder / "palm_test_r.py", OLD)
    module = importlib.import_module("palm_test_r")
    importlib.reload(module)
    assert "palm_test_r#2" not in listed()
    write(path, NEW)
    importlib.reload(module)
    assert module.VALUE == "new and longer"
    assert (digest_of("palm_test_r"), digest_of("palm_test_r#2")) == (sha(OLD), sha(NEW))
    assert source.of_module("palm_test_r").digest == listed()["palm_test_r#2"].digest


def test_a_module_that_failed_or_took_itself_away_is_listed(folder: Path) -> None:
    write(folder / "palm_test_f.py", b"raise ValueError('stopped')\n")
    with pytest.raises(ValueError, match="stopped"):
        importlib.import_module("palm_test_f")
    write(folder / "palm_test_g.py", b"import sys\nsys.modules.pop(__name__)\n")
    spec = importlib.util.find_spec("palm_test_g")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["palm_test_g"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert not {"palm_test_f", "palm_test_g"} & sys.modules.keys()
    assert {"palm_test_f", "palm_test_g"} <= listed().keys()
    write(folder / "palm_test_s.py", b"x = = 1\n")
    with pytest.raises(SyntaxError):
        importlib.import_module("palm_test_s")
    assert "palm_test_s" not in listed()  # not a line of it ran


def test_tracebacks_and_sources_are_those_that_were_compiled(folder: Path) -> None:
    text = b"# \xc3\xa9\r\ndef fail():\r\n    raise ValueError  # here\x0c it is\r\n"
    path = write(folder / "palm_test_t.py", text)
    module = importlib.import_module("palm_test_t")
    write(path, b"\n\n\n\n\ndef fail(): return 'edited'\n")
    try:
        module.fail()
    except ValueError:
        assert "raise ValueError  # here\x0c it is" in traceback.format_exc()
    assert inspect.getsource(module.fail) == "def fail():\n    raise ValueError  # here\x0c it is\n"


def test_threads_may_import(folder: Path) -> None:
    for number in range(8):
        write(folder / f"palm_test_th{number}.py", f"X = {number}\n".encode())
    names = [f"palm_test_th{number}" for number in range(8)]
    threads = [threading.Thread(target=importlib.import_module, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(names) <= digests().keys()


def test_archives_and_bytecode_alone_have_reasons(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with zipfile.ZipFile(folder / "code.zip", "w") as archive:
        archive.writestr("palm_test_z.py", "x = 1\n")
    monkeypatch.syspath_prepend(folder / "code.zip")
    importlib.import_module("palm_test_z")
    path = write(folder / "palm_test_y.py", OLD)
    py_compile.compile(str(path), cfile=str(folder / "palm_test_y.pyc"))
    path.unlink()
    importlib.invalidate_caches()
    importlib.import_module("palm_test_y")
    found = listed()
    assert (found["palm_test_z"].digest, found["palm_test_z"].reason) == (None, importing.FROM_AN_ARCHIVE)
    assert (found["palm_test_y"].digest, found["palm_test_y"].reason) == (None, importing.WITHOUT_SOURCE)


def test_extension_modules_by_their_file(folder: Path) -> None:
    data = b"no library"
    path = write(folder / f"palm_test_native{sysconfig.get_config_var('EXT_SUFFIX')}", data)
    with pytest.raises(
        ImportError, match="palm_test_native"
    ):  # what is not a library fails after the look at it
        importlib.import_module("palm_test_native")
    path.unlink()
    assert digest_of("palm_test_native") == sha(data)


@pytest.mark.parametrize("how", ["swapped", "edited", "gone", "nowhere"])
def test_an_extension_that_is_another_once_it_is_loaded_has_no_digest(folder: Path, how: str) -> None:
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    path = folder / f"_palm_test_copy{suffix}"
    write(path, OLD)
    loader = ExtensionFileLoader("_palm_test_copy", str(path))
    spec = importlib.util.spec_from_file_location("_palm_test_copy", path, loader=loader)

    def load(*_: object) -> types.ModuleType:
        if how == "swapped":
            write(folder / "other", OLD).rename(path)
        elif how == "edited":
            write(path, NEW)
        elif how == "gone":
            path.unlink()
        return types.ModuleType("made")

    importing._extension(loader, load, spec)  # type: ignore[arg-type]
    found = [item for item in importing.loaded() if item.module == "_palm_test_copy"]
    assert [(item.digest, item.reason) for item in found] == [
        (sha(OLD), None),
        (None, importing.OTHER_EXTENSION),  # also where nothing was mapped under its name
    ]


def test_twin_an_extension_that_stays_what_it_was_is_listed_once(folder: Path) -> None:
    loaded = importlib.import_module("gmpy2.gmpy2")
    assert loaded.__file__ is not None
    assert importing._is_mapped(loaded.__file__)
    assert not importing._is_mapped(str(folder / "x"))
    path = loaded.__file__
    loader = ExtensionFileLoader("palm_test_gmpy2", path)
    spec = importlib.util.spec_from_file_location("palm_test_gmpy2", path, loader=loader)
    importing._extension(loader, lambda *_: loaded, spec)  # type: ignore[arg-type]
    assert [item.reason for item in importing.loaded() if item.module == "palm_test_gmpy2"] == [None]


def test_without_the_list_of_mappings_no_extension_is_vouched_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_MAPS", str(folder / "none"))
    assert not importing._is_mapped(sys.executable)


def test_a_loader_that_compiles_by_itself_is_not_vouched_for(folder: Path) -> None:
    path = write(folder / "palm_test_own.py", OLD)

    class Loader:
        def create_module(self, _spec: object) -> None:
            return None

        def exec_module(self, module: types.ModuleType) -> None:
            module.VALUE = "anything"  # type: ignore[attr-defined]

    spec = importlib.util.spec_from_file_location("palm_test_own", path, loader=Loader())  # type: ignore[arg-type]
    assert spec is not None
    sys.modules["palm_test_own"] = importlib.util.module_from_spec(spec)
    item = listed()["palm_test_own"]
    assert (item.digest, item.reason) == (None, "not seen by the import hook: its loader is 'Loader'")


def test_a_second_name_for_a_module_adds_nothing(folder: Path) -> None:
    write(folder / "palm_test_a.py", OLD)
    sys.modules["palm_test_alias"] = importlib.import_module("palm_test_a")
    assert "palm_test_alias" not in listed()


def test_what_was_there_before_says_so(folder: Path) -> None:
    item = listed()["palm_torch.hooks.source"]
    assert item.digest is not None
    assert item.reason == importing.BEFORE_THE_HOOK
    importing.note_before("palm_test_gone", str(folder / "gone.py"))
    assert listed()["palm_test_gone"].reason == (
        "loaded before the import hook, file cannot be read: No such file or directory"
    )


def test_the_standard_library_is_left_to_the_interpreter(folder: Path) -> None:
    sys.modules.pop("colorsys", None)
    assert importlib.import_module("colorsys").__name__ == "colorsys"
    assert "colorsys" not in digests()
    assert importing.in_library(types.__file__)
    assert not importing.in_library(pytest.__file__)
    assert not importing.in_library(str(folder / "x.py"))


def test_installed_files_as_recorded_are_left_to_the_packages(folder: Path) -> None:
    metadata = folder / "palm_test_dist-1.0.dist-info"
    recorded = "hGZjTxZG-VgZb-x1bUDkhEFTxnXSIJjRSYuZQJPnJ6w"
    write(metadata / "RECORD", f"palm_test_d1.py,sha256={recorded},1\npalm_test_d2.py,,\n".encode())
    write(folder / "palm_test_d1.py", OLD)
    write(folder / "palm_test_d2.py", NEW)
    importlib.import_module("palm_test_d1")
    importlib.import_module("palm_test_d2")
    assert listed()["palm_test_d1"].reason == "installed file differs from the RECORD of palm-test-dist 1.0"
    assert (
        listed()["palm_test_d2"].reason == "installed file has no digest in the RECORD of palm-test-dist 1.0"
    )


def test_the_entry_script_makes_the_code_imported(folder: Path) -> None:
    assert surroundings.code_now(source.loaded_sources()).source is CodeSource.SELF_REPORTED
    path = write(folder / "script.py", OLD)
    code = importing.compile_entry(str(path), SourceFileLoader("__main__", str(path)))
    write(path, NEW)
    names: dict[str, object] = {}
    exec(code, names)  # noqa: S102 (what is tested)
    assert names["VALUE"] == "old"
    assert digest_of("__main__") == sha(OLD)
    assert importing.was_compiled(importing.resolved(str(path)), sha(OLD))
    now = surroundings.code_now(source.loaded_sources())
    assert now.source is CodeSource.IMPORTED
    assert now.files == source.loaded_sources()


def test_without_the_hook_code_reports_itself(folder: Path) -> None:
    importing.install()()
    path = write(folder / "script.py", OLD)
    assert not importing.installed()
    importing.compile_entry(str(path), SourceFileLoader("__main__", str(path)))
    assert not importing.saw_entry()


def test_a_link_to_the_library_does_not_make_a_file_its_own(folder: Path) -> None:
    current, real = folder / "current", folder / "real"
    real.mkdir()
    write(real / "json.py", NEW)
    current.symlink_to(sysconfig.get_path("stdlib"))
    assert not importing.in_library(str(current / "json.py"))
    current.unlink()
    current.symlink_to(real)
    assert importing.resolved(str(current / "json.py")) == f"{importing.resolved(str(real))}/json.py"
    spec = importlib.util.spec_from_file_location("palm_test_link", current / "json.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["palm_test_link"] = module
    spec.loader.exec_module(module)
    current.unlink()
    current.symlink_to(sysconfig.get_path("stdlib"))
    assert digest_of("palm_test_link") == sha(NEW)


def test_what_takes_the_place_of_a_module_is_listed(folder: Path) -> None:
    write(folder / "palm_test_r.py", OLD)
    importlib.import_module("palm_test_r")
    other = types.ModuleType("palm_test_r")
    other.__file__ = str(write(folder / "elsewhere.py", NEW))
    sys.modules["palm_test_r"] = other  # the fixture forgets it
    assert digest_of("palm_test_r") == sha(OLD)
    assert listed()["palm_test_r#2"].digest is None
    assert (listed()["palm_test_r#2"].reason or "").startswith(source.REPLACED)


def test_an_installed_entry_script_is_listed_though_a_record_accounts_for_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(folder / "palm_test_e.py", OLD)
    dist = installed.Distribution("dist", "1", str(folder), b"")
    monkeypatch.setattr(
        installed, "recorded_files", lambda _: {importing.resolved(str(path)): (dist, sha(OLD))}
    )
    importlib.import_module("palm_test_e")
    assert "palm_test_e" not in listed()
    importing.compile_entry(str(path), SourceFileLoader("__main__", str(path)))
    assert digest_of("__main__") == sha(OLD)
