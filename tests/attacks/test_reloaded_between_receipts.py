"""Code is exchanged between two receipts, and the names of the loaded modules stay what they were.

Whoever asks for a receipt, loads other code under an old name and asks for another receipt must not get the
first code's list signed again.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

from palm_torch.hooks import importing, source
from palm_torch.statement import code_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = "palm_test_victim"
HONEST = b"ANSWER = 'honest'\n"
EVIL = b"ANSWER = 'evil, and longer'\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / f"{NAME}.py").write_bytes(HONEST)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop(NAME, None)


@pytest.fixture(params=["hooked", "plain"])
def _hook(request: pytest.FixtureRequest) -> Iterator[None]:
    remove = importing.install() if request.param == "hooked" else None
    yield
    if remove is not None:
        remove()


@pytest.fixture
def code_of_receipts(monkeypatch: pytest.MonkeyPatch, _hook: None) -> Callable[[], Any]:
    """Returns what says for a session's receipts which code ran."""
    pytest.importorskip("torch")
    from palm_torch.attesting.own_segment import OwnSegment
    from palm_torch.statement import Code, CodeSource

    segment = OwnSegment(None)

    def code() -> Code:
        files = source.loaded_sources()
        return Code(source=CodeSource.IMPORTED, digest=code_digest(files), files=files)

    nothing = Code(source=CodeSource.IMPORTED, digest=code_digest(()), files=())
    monkeypatch.setattr(segment, "code", code)
    monkeypatch.setattr(OwnSegment, "opened", types.SimpleNamespace(code=nothing))
    return segment.code_of_receipts


def told(code: Any) -> set[bytes]:
    """Returns the digests that are told of the victim."""
    return {file.digest.value for file in code.since if file.module.partition("#")[0] == NAME}


def exchange(folder: Path, how: str) -> None:
    path = folder / f"{NAME}.py"
    path.write_bytes(EVIL)
    importlib.invalidate_caches()
    if how == "reload":
        importlib.reload(sys.modules[NAME])
    elif how == "again":
        del sys.modules[NAME]
        importlib.import_module(NAME)
    else:
        spec = importlib.util.spec_from_file_location(NAME, path)
        assert spec is not None
        assert spec.loader is not None
        if how == "into the old":
            spec.loader.exec_module(sys.modules[NAME])
        else:
            spec.loader.exec_module(importlib.util.module_from_spec(spec))  # never in sys.modules


@pytest.mark.parametrize("how", ["reload", "again", "into the old", "beside it"])
def test_what_was_exchanged_shows_in_the_next_receipt(
    folder: Path, code_of_receipts: Callable[[], Any], how: str
) -> None:
    if how == "beside it" and not importing.installed():
        pytest.skip("without the hook only what is in sys.modules is known, and the evidence says so")
    importlib.reload(importlib.import_module(NAME))  # the last module, and all that a reload needs is there
    before = code_of_receipts()
    assert told(before) == {sha256(HONEST).digest()}
    names = list(sys.modules)
    exchange(folder, how)
    assert list(sys.modules) == names
    assert sha256(EVIL).digest() in told(code_of_receipts())


def test_code_that_a_made_module_is_given_later_shows(
    code_of_receipts: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = types.ModuleType("palm_test_made")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    assert made.__name__ not in {file.module for file in code_of_receipts().since}
    exec("def train(): ...", vars(made))  # noqa: S102 (the attack)
    assert made.__name__ in {file.module for file in code_of_receipts().since}


@pytest.mark.usefixtures("folder")
def test_twin_as_long_as_nothing_is_exchanged_the_list_is_the_same_one(
    code_of_receipts: Callable[[], Any],
) -> None:
    importlib.import_module(NAME)
    assert code_of_receipts() is code_of_receipts()
