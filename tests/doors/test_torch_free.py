"""The verifier half imports neither torch nor numpy nor gmpy2: each module alone, in a fresh process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import palm_torch

PACKAGE = Path(palm_torch.__file__).parent
HEAVY = ("torch", "numpy", "gmpy2")
WITH_TORCH = (
    "palm_torch.data",
    "palm_torch.hooks",
    "palm_torch.demo",
    "palm_torch.recomputation",
    "palm_torch.committing.bound_tokens",
    "palm_torch.replaying",
    "palm_torch.committing.capture",
    "palm_torch.committing.entry",
    "palm_torch.committing.fingerprints",
    "palm_torch.committing.proof",
    "palm_torch.committing.reruns",
    "palm_torch.committing.ring",
    "palm_torch.attesting.answering",
    "palm_torch.attesting.applied_function",
    "palm_torch.attesting.bind",
    "palm_torch.attesting.block",
    "palm_torch.attesting.dataset_script",
    "palm_torch.attesting.distribute",
    "palm_torch.attesting.given_answer",
    "palm_torch.attesting.inference",
    "palm_torch.attesting.one_inference",
    "palm_torch.attesting.operations",
    "palm_torch.attesting.preprocess",
    "palm_torch.attesting.ranks_merge",
    "palm_torch.attesting.ranks_session",
    "palm_torch.attesting.reading",
    "palm_torch.attesting.checkpoint",
    "palm_torch.attesting.own_segment",
    "palm_torch.attesting.session",
    "palm_torch.attesting.script_record",
    "palm_torch.attesting.segment_state",
    "palm_torch.attesting.attested",
    "palm_torch.attesting.surroundings",
    "palm_torch.attesting.training",
    "palm_torch.attesting.training_data",
    "palm_torch.attesting.loaded_model",
    "palm_torch.attesting.owned_model",
    "palm_torch.attesting.training_model",
    "palm_torch.attesting.training_state",
    "palm_torch.attesting.watched_weights",
)
"""What may import torch, with everything under it. All else is the verifier half, new files included."""

WITH_NUMPY = ("palm_torch.audit",)
"""What may import numpy and is the verifier half all the same: it computes."""

NOT_IMPORTED = ("palm_torch.__main__",)
"""What does something when it is imported."""


def modules() -> list[str]:
    """Returns every module of the package, found as files: nothing is imported to find it."""
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def of_the_verifier_half(name: str) -> bool:
    return name not in NOT_IMPORTED and not any(
        name == root or name.startswith(f"{root}.") for root in WITH_TORCH
    )


def heavy_after(statement: str) -> list[str]:
    """Runs a statement in a fresh interpreter and returns which heavy packages it brought in."""
    program = f"{statement}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    outcome = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout.split()


def test_the_walk_finds_the_package() -> None:
    found = modules()
    assert {"palm_torch", "palm_torch.errors", "palm_torch.commit", "palm_torch.data"} <= set(found)
    assert not of_the_verifier_half("palm_torch.data")
    assert not of_the_verifier_half("palm_torch.hooks.weights")
    assert of_the_verifier_half("palm_torch")
    assert of_the_verifier_half("palm_torch.appraisal.verifier")
    assert of_the_verifier_half("palm_torch.commit.multiset")


@pytest.mark.parametrize("module", [name for name in modules() if of_the_verifier_half(name)])
def test_a_module_of_the_verifier_half_is_light(module: str) -> None:
    allowed = [["numpy"]] if module.startswith(WITH_NUMPY) else []
    assert heavy_after(f"import {module}") in [[], *allowed]


@pytest.mark.parametrize("package", HEAVY)
def test_twin_each_heavy_package_would_be_seen(package: str) -> None:
    assert package in heavy_after(f"import {package}")


def test_twin_a_module_of_the_other_half_is_heavy() -> None:
    assert {"torch", "numpy"} <= set(heavy_after("import palm_torch.data.dataset"))
