"""Code comes into a run by ways that are no import of the script: what ran must be listed all the same."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import subprocess
import sys
import sysconfig
from importlib.machinery import ExtensionFileLoader
from typing import TYPE_CHECKING

import launched
import loops
import pytest

from palm_torch.hooks import environment, importing, installed, source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from launched import Launcher

HONEST, EVIL = "def hook(x): return x\n", "def hook(x): return 666 * x\n"


pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # of scripts as people write them


@pytest.fixture(scope="module", autouse=True)
def _fresh_process() -> Iterator[None]:
    with loops.fresh_process():
        yield


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Launcher]:
    with launched.launcher(tmp_path, monkeypatch) as found:
        yield found


def sha(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def test_a_package_reads_and_runs_files_before_its_module_begins(scripts: Launcher) -> None:
    package = scripts.folder / "palm_test_pkg"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import sys\nassert sys.argv[0] == '-m'\nopen('config.json').read()\n"
        "exec(compile(open('settings.py').read(), 'settings.py', 'exec'))\n",
        encoding="utf-8",
    )
    (package / "go.py").write_text(f"{launched.STEPS}\nfrom . import hook\nstep(hook(1))\n", encoding="utf-8")
    (scripts.folder / "config.json").write_text("{}", encoding="utf-8")
    (scripts.folder / "settings.py").write_text(EVIL, encoding="utf-8")
    end = scripts.run("", module=True, words=("palm_test_pkg.go",))
    assert launched.code_of(end, "executed:") == {"executed:settings.py": sha(EVIL)}
    assert launched.opened_by(end).keys() == {"config.json", "settings.py"}
    assert launched.code_of(end, "__main__").keys() == {"__main__"}
    assert "2 files that the script opened by itself" in launched.warned_of(end)


def test_a_package_points_to_another_module_once_it_runs(scripts: Launcher) -> None:
    for folder in ("palm_test_pkg", "other"):
        (scripts.folder / folder).mkdir()
        text = f"{launched.STEPS}\nstep({len(folder)})\n"
        (scripts.folder / folder / "go.py").write_text(text, encoding="utf-8")
    (scripts.folder / "palm_test_pkg/__init__.py").write_text("__path__[:] = ['other']\n", encoding="utf-8")
    end = scripts.run("", module=True, words=("palm_test_pkg.go",))
    assert launched.code_of(end, "__main__") == {
        "__main__": sha(f"{launched.STEPS}\nstep(13)\n"),
        "__main__#2": sha(f"{launched.STEPS}\nstep(5)\n"),
    }


WORKERS = """
import torch, palm_torch
def collate(items):
    import palm_test_augment
    open("table.json").read()
    return palm_test_augment.hook(torch.utils.data.default_collate(items))
net = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
data = palm_torch.AttestedMmapDataset("corpus")
for batch in palm_torch.DataLoader(data, batch_size=2, num_workers=2, collate_fn=collate):
    net(batch.float()[:, :4]).sum().backward()
    optimizer.step()
import sys
assert "palm_test_augment" not in sys.modules
"""


def test_workers_import_on_first_use_and_open_files(scripts: Launcher) -> None:
    loops.corpus(scripts.folder / "corpus", records=8)
    (scripts.folder / "palm_test_augment.py").write_text(EVIL, encoding="utf-8")
    (scripts.folder / "table.json").write_text("[]", encoding="utf-8")
    end = scripts.run(WORKERS)
    assert launched.code_of(end, "palm_test_") == {"palm_test_augment": sha(EVIL)}
    assert launched.opened_by(end) == {"table.json": sha("[]")}


def test_text_that_the_script_runs_comes_through_a_pipe(scripts: Launcher) -> None:
    reads = "import subprocess\nexec(subprocess.check_output(['cat', 'configurator.py']))\nstep(x)"
    text = f"{launched.STEPS}\n{reads}"
    for value in ("x = 1", "x = 666"):
        (scripts.folder / "configurator.py").write_text(value, encoding="utf-8")
        end = scripts.run(text)
        assert launched.code_of(end, "executed:") == {
            f"executed:<string>:{sha(value).hex()[:12]}": sha(value)
        }
        importing._state.loaded = {
            item: None for item in importing.loaded() if not item.module.startswith("executed:")
        }


def test_source_in_an_archive_of_torch_package(scripts: Launcher) -> None:
    make = (
        "import sys, torch.package\n"
        "with torch.package.PackageExporter('model.pt') as exporter:\n"
        "    exporter.save_source_string('plug', sys.argv[1])\n"
    )
    subprocess.run([sys.executable, "-c", make, EVIL], check=True)
    text = f"{launched.STEPS}\nfrom torch.package import PackageImporter\n"
    end = scripts.run(text + "step(PackageImporter('model.pt').import_module('plug').hook(1))\n")
    assert sha(EVIL) in launched.code_of(end, "executed:").values()


def test_a_record_is_planted_while_the_code_is_listed_and_gone_when_the_packages_are(
    scripts: Launcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scripts.folder / "palm_test_plugin.py").write_text(EVIL, encoding="utf-8")
    monkeypatch.syspath_prepend(scripts.folder)
    metadata, away = scripts.folder / "palm_zz-1.0.dist-info", scripts.folder / "away"
    metadata.mkdir()
    digest = base64.urlsafe_b64encode(sha(EVIL)).rstrip(b"=").decode()
    (metadata / "RECORD").write_text(f"palm_test_plugin.py,sha256={digest},0\n", encoding="utf-8")
    importlib.import_module("palm_test_plugin")
    listed = {item.module for item in source.loaded_sources()}
    metadata.rename(away)
    assert "palm_zz" not in {item.name for item in installed.distributions()}
    assert ("palm_test_plugin" in listed) != ("palm-zz" in {item.name for item in environment.packages()})


def test_an_extension_is_swapped_between_hashing_and_loading(scripts: Launcher) -> None:
    folder = scripts.folder / "d"
    folder.mkdir()
    path = folder / f"_palm_test_plug{sysconfig.get_config_var('EXT_SUFFIX')}"
    path.write_bytes(b"honest")

    def load(*_: object) -> object:
        folder.rename(scripts.folder / "hidden")  # a folder of the same name is loaded from, and goes again
        (scripts.folder / "hidden").rename(folder)
        return object()

    loader = ExtensionFileLoader("_palm_test_plug", str(path))
    spec = importlib.util.spec_from_file_location("_palm_test_plug", path, loader=loader)
    importing._extension(loader, load, spec)  # type: ignore[arg-type]
    reasons = [item.reason for item in importing.loaded() if item.module == "_palm_test_plug"]
    assert reasons == [None, importing.OTHER_EXTENSION]


def test_a_library_is_loaded_by_its_path(scripts: Launcher) -> None:
    (scripts.folder / "op.so").write_text(EVIL, encoding="utf-8")
    load = "import ctypes\ntry: ctypes.CDLL('./op.so')\nexcept OSError: pass\nstep()\n"
    end = scripts.run(f"{launched.STEPS}\n{load}")
    assert launched.code_of(end, "executed:") == {"executed:op.so": sha(EVIL)}


def test_twin_a_script_that_only_imports_has_nothing_of_it(scripts: Launcher) -> None:
    (scripts.folder / "palm_test_hook.py").write_text(HONEST, encoding="utf-8")
    end = scripts.run(f"{launched.STEPS}\nfrom palm_test_hook import hook\nstep(hook(1))\n")
    assert launched.code_of(end, "executed:") == {}
    assert launched.code_of(end, "palm_test_") == {"palm_test_hook": sha(HONEST)}
    assert launched.opened_by(end) == {}
