"""The source is swapped on disk: after it was imported, while it is being read, or behind its own cache.

Python itself reads a cached ``.pyc`` that lies beside the source, and whoever asks later what ran is shown
the file as it is by then. Under the import hook neither can tell a lie.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import py_compile
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from palm_torch.hooks import importing

if TYPE_CHECKING:
    from pathlib import Path

HONEST = b"ANSWER = 'honest'\n"
EVIL = b"ANSWER = 'evil, and longer'\n"

TELL = f"""
import hashlib, importlib, json, pathlib, sys
sys.path.insert(0, sys.argv[1])
path = pathlib.Path(sys.argv[1], "victim.py")
if sys.argv[2] == "hooked":
    spec = importlib.util.spec_from_file_location("hook", {importing.__file__!r})
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    hook.install()
if sys.argv[3] == "while reading":  # the storage answers every second read with other bytes
    from importlib.machinery import SourceFileLoader
    plain, reads = SourceFileLoader.get_data, []
    def get_data(self, name):
        if not name.endswith("victim.py"):
            return plain(self, name)
        reads.append(name)
        return {HONEST!r} if len(reads) % 2 == 0 else {EVIL!r}
    SourceFileLoader.get_data = get_data
import victim
if sys.argv[3] == "after import":
    path.write_bytes({HONEST!r})
said = hashlib.sha256(path.read_bytes()).hexdigest()
if sys.argv[2] == "hooked":
    said = next(item.digest.hex() for item in hook.loaded() if item.module == "victim")
print(json.dumps({{"answer": victim.ANSWER, "said": said}}))
"""


def tell(folder: Path, how: str, attack: str) -> Any:
    """Imports the victim in a fresh interpreter; returns its answer and the digest that is told of it."""
    words = [sys.executable, "-c", TELL, str(folder), how, attack]
    outcome = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(outcome.stdout)


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "victim.py").write_bytes(HONEST)
    return tmp_path


def poison(folder: Path) -> None:
    """Puts the bytecode of another program where Python caches that of the honest one."""
    (folder / "evil.py").write_bytes(EVIL)
    cached = importlib.util.cache_from_source(str(folder / "victim.py"))
    never_checked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(folder / "evil.py"), cfile=cached, invalidation_mode=never_checked)


def test_poisoned_bytecode_beside_an_honest_source_is_not_run(folder: Path) -> None:
    poison(folder)
    assert tell(folder, "hooked", "cache") == {"answer": "honest", "said": sha(HONEST)}


def test_twin_the_plain_interpreter_runs_the_poison_and_shows_the_honest_file(folder: Path) -> None:
    poison(folder)
    assert tell(folder, "plain", "cache") == {"answer": "evil, and longer", "said": sha(HONEST)}


def test_a_file_cleaned_up_after_import_is_told_as_it_ran(folder: Path) -> None:
    (folder / "victim.py").write_bytes(EVIL)
    assert tell(folder, "hooked", "after import") == {"answer": "evil, and longer", "said": sha(EVIL)}


def test_twin_without_the_hook_the_clean_file_is_told(folder: Path) -> None:
    (folder / "victim.py").write_bytes(EVIL)
    assert tell(folder, "plain", "after import") == {"answer": "evil, and longer", "said": sha(HONEST)}


def test_bytes_exchanged_between_two_reads_make_no_difference(folder: Path) -> None:
    assert tell(folder, "hooked", "while reading") == {"answer": "evil, and longer", "said": sha(EVIL)}


def test_twin_hashing_the_file_apart_tells_of_other_bytes(folder: Path) -> None:
    assert tell(folder, "plain", "while reading") == {"answer": "evil, and longer", "said": sha(HONEST)}
