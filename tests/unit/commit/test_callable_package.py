"""`palm_torch.commit` is a package in every respect, and can be called; neither needs torch until then."""

from __future__ import annotations

import copy
import importlib
import inspect
import pickle
import pkgutil
import subprocess
import sys
import types
from unittest import mock

import pytest

import palm_torch
import palm_torch.commit
import palm_torch.commit.merkle
import palm_torch.commit.multiset as by_alias
from palm_torch import commit, extras
from palm_torch.commit import merkle, multiset
from palm_torch.commit.trace import Site
from palm_torch.errors import MissingExtraError

HIDE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] == 'torch':
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
sys.meta_path.insert(0, Hidden())
"""


def python(program: str) -> str:
    outcome = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    return outcome.stdout.strip() or outcome.stderr.strip().splitlines()[-1]


def test_every_spelling_is_one_package() -> None:
    package = sys.modules["palm_torch.commit"]
    assert palm_torch.commit is commit is package is importlib.import_module("palm_torch.commit")
    assert package.merkle is merkle is palm_torch.commit.merkle
    assert by_alias is multiset
    assert isinstance(package, types.ModuleType)
    assert callable(package)
    assert "merkle" in {found.name for found in pkgutil.iter_modules(package.__path__)}
    assert (inspect.getdoc(package) or "").startswith("Commitments: ")
    assert package.__spec__ is not None
    assert package.__spec__.name == package.__name__ == "palm_torch.commit"


@pytest.mark.parametrize(
    "spelling",
    [
        "import palm_torch; palm_torch.commit",
        "import palm_torch.commit; palm_torch.commit",
        "from palm_torch import commit; commit",
        "from palm_torch.commit import merkle",
        "import palm_torch.commit.merkle as m; m.root(b'')",
        "from palm_torch import *; commit",
    ],
)
def test_importing_it_brings_no_torch(spelling: str) -> None:
    program = (
        f"{spelling}\nimport sys, palm_torch\nprint(callable(palm_torch.commit), 'torch' in sys.modules)"
    )
    # a star brings all doors, those with torch too
    assert python(program) == f"True {spelling.endswith('*; commit')}"


def test_calling_it_without_torch_names_the_extra() -> None:
    message = python(HIDE + "import palm_torch; palm_torch.commit(object())")
    assert message.endswith(
        "palm_torch.commit(model) needs torch, which is not installed: pip install 'palm-torch[torch]'"
    )


def test_the_missing_extra_is_an_import_error() -> None:
    with pytest.raises(MissingExtraError), extras.needed("torch", for_what="x"):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")


def test_it_calls_what_the_torch_side_defines() -> None:
    entry = types.SimpleNamespace(commit=mock.Mock(return_value="proof"))
    with mock.patch.dict(sys.modules, {"palm_torch.committing.entry": entry}):
        assert palm_torch.commit("model", layers="all") == "proof"  # type: ignore[arg-type, comparison-overlap]
    entry.commit.assert_called_once_with("model", layers="all")


def test_it_can_be_patched() -> None:
    with mock.patch("palm_torch.commit.merkle.root", return_value=b"patched"):
        assert merkle.root(b"") == b"patched"
    with mock.patch("palm_torch.commit") as patched:
        palm_torch.commit("model")  # type: ignore[arg-type]
        patched.assert_called_once_with("model")
    assert palm_torch.commit is sys.modules["palm_torch.commit"]


def test_classes_in_it_pickle_and_copy() -> None:
    site = Site("layers.0", "1")
    assert pickle.loads(pickle.dumps(site)) == site == copy.deepcopy(site)  # noqa: S301 (our own bytes)
    assert pickle.loads(pickle.dumps(Site)) is Site  # noqa: S301


def test_it_can_be_loaded_again() -> None:
    again = importlib.reload(sys.modules["palm_torch.commit"])
    assert again is palm_torch.commit
    assert callable(again)
