"""Who commits names the missing extra; who checks needs neither ckzg nor gmpy2 nor the whole ceremony."""

from __future__ import annotations

import subprocess
import sys

import pytest
from kzg_nodes import node

from palm_torch.commit import kzg, proving, shplonk

HIDE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {hidden!r}:
            raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)
sys.meta_path.insert(0, Hidden())
from palm_torch.commit import kzg, shplonk
"""


def python(program: str, *hidden: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", HIDE.format(hidden=set(hidden)) + program],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_settings_are_loaded_once() -> None:
    assert proving.settings() is proving.settings()


@pytest.mark.parametrize(
    ("package", "program", "what"),
    [
        ("ckzg", "kzg.commit(b'\\1' * 131072)", "committing and opening with KZG"),
        ("ckzg", "kzg.open_point(b'\\1' * 131072, 0)", "committing and opening with KZG"),
        (
            "ckzg",
            "from palm_torch.commit import proving; proving.settings()",
            "committing and opening with KZG",
        ),
        ("gmpy2", "kzg.open_row(b'\\1' * 131072, 0)", "committing and opening with KZG"),
        ("gmpy2", "shplonk.open_sets([], b'')", "committing and opening with KZG"),
        ("py_arkworks_bls12381", "kzg.verify_point(bytes(48), 0, 0, bytes(48))", "checking a KZG opening"),
    ],
)
def test_a_missing_extra_is_named(package: str, program: str, what: str) -> None:
    outcome = python(program, package)
    assert outcome.stderr.splitlines()[-1].endswith(
        f"{what} needs {package}, which is not installed: pip install 'palm-torch[kzg]'"
    )


def test_checking_needs_neither_ckzg_nor_gmpy2_nor_torch() -> None:
    one = node(1)
    point, row = kzg.open_point(one.blob, 3), kzg.open_row(one.blob, 0)
    sets = shplonk.open_sets([(one.commitment, one.blob, (1, 2))], b"context")
    program = f"""
kzg.verify_point({one.commitment!r}, 3, {one.values[3]}, {point!r})
kzg.verify_row({one.commitment!r}, 0, {one.values[:64]}, {row!r})
shplonk.verify_sets([shplonk.Claim({one.commitment!r}, (1, 2), {one.values[1:3]})], b'context', {sets!r})
print('ckzg' in sys.modules, 'numpy' in sys.modules)
"""
    outcome = python(program, "ckzg", "gmpy2", "torch", "numpy")
    assert (outcome.stdout.strip(), outcome.stderr) == ("False False", "")


def test_importing_loads_no_curve() -> None:
    outcome = python("print({'ckzg', 'gmpy2', 'py_arkworks_bls12381', 'torch', 'numpy'} & {*sys.modules})")
    assert outcome.stdout.strip() == "set()"
