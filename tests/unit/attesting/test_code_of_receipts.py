"""Which code a session's receipts name while modules come and go, without the import hook."""

from __future__ import annotations

import importlib
import sys
import types
from typing import TYPE_CHECKING

import pytest
from answering import Talker, ask, check, content

from palm_torch.attesting.attested import attested
from palm_torch.errors import EncodingError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from palm_torch.attesting.signed_answer import SignedAnswer

pytestmark = pytest.mark.usefixtures("fresh_process")

NAMES = ("palm_test_one",)


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], object]]:
    """Imports a module of a script by name."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(f"NAME = {name!r}\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module
    for name in NAMES:
        sys.modules.pop(name, None)


def since(signed: SignedAnswer) -> list[str]:
    return [file.module for file in content(signed).issued.code.since if file.module in NAMES]


def test_after_a_look_that_failed_the_next_answer_looks_again(
    load: Callable[[str], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    (one,) = NAMES
    model = Talker()
    with attested("session", attester="simulated") as run:
        run.model(model)
        load(one)
        made = types.ModuleType("odd\udc80")
        exec("def answer(): ...", vars(made))  # noqa: S102 (code that no file has)
        with monkeypatch.context() as bent:
            bent.setitem(sys.modules, made.__name__, made)
            for _ in range(2):
                with pytest.raises(EncodingError):
                    ask(run, model, 0)
        signed = ask(run, model, 0)
    assert since(signed) == [one]
    assert check(signed.receipt, run, closing=run.evidence.bundle.encode()).session == "closed"
