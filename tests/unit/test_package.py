"""The package's doors: lazy, complete, and clear about a missing extra."""

from __future__ import annotations

import subprocess
import sys

import pytest

import palm_torch
from palm_torch import extras
from palm_torch.errors import MissingExtraError

HIDE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {hidden!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Hidden())
"""


def python(program: str, *hidden: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HIDE.format(hidden=set(hidden)) + program],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_every_name_is_listed_and_opens() -> None:
    assert set(palm_torch.__all__) <= set(dir(palm_torch))
    for name in palm_torch.__all__:
        assert getattr(palm_torch, name) is getattr(palm_torch, name)
    assert palm_torch.attested.__module__ == "palm_torch.attesting.attested"


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'unattested'"):
        palm_torch.unattested  # type: ignore[attr-defined]  # noqa: B018 (looking is the test)


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = (
        "import palm_torch, sys; dir(palm_torch); print({'torch', 'numpy', 'cryptography'} & {*sys.modules})"
    )
    assert python(program).stdout.strip() == "set()"


def test_twin_opening_a_door_does() -> None:
    outcome = python("import palm_torch, sys; palm_torch.attested; print('torch' in sys.modules)")
    assert outcome.stdout.strip() == "True"


@pytest.mark.parametrize("name", ["attested", "AttestedMmapDataset", "DataLoader"])
def test_a_missing_extra_is_named(name: str) -> None:
    outcome = python(f"from palm_torch import {name}", "torch")
    assert "MissingExtraError: " in outcome.stderr
    assert "pip install 'palm-torch[torch]'" in outcome.stderr.splitlines()[-1]


def test_the_extra_for_stateful_loading_is_named() -> None:
    outcome = python("from palm_torch import StatefulDataLoader", "torchdata")
    assert outcome.stderr.splitlines()[-1].endswith(
        "palm_torch.StatefulDataLoader needs torchdata, which is not installed: "
        "pip install 'palm-torch[resume]'"
    )


def test_verifying_needs_no_extra() -> None:
    outcome = python(
        "import palm_torch, sys; from palm_torch import cli; palm_torch.verify; cli.main(['--version'])",
        "torch",
        "numpy",
        "gmpy2",
        "safetensors",
    )
    assert (outcome.returncode, outcome.stdout.startswith("palm-torch")) == (0, True), outcome.stderr


@pytest.mark.parametrize("command", ["demo", "measure x"])
def test_a_command_names_its_missing_extra_in_one_line(command: str) -> None:
    outcome = python(
        f"import sys; from palm_torch import cli; sys.exit(cli.main({command.split()!r}))",
        "torch",
        "numpy",
        "gmpy2",
        "safetensors",
    )
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith("error: MissingExtraError: palm-torch ")
    assert outcome.stderr.count("\n") == 1


def test_other_import_errors_pass() -> None:
    with pytest.raises(ModuleNotFoundError) as raised, extras.needed("torch", for_what="x"):
        raise ModuleNotFoundError("No module named 'y'", name="y")
    assert not isinstance(raised.value, MissingExtraError)
