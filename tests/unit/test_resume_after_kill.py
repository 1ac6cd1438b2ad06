"""A run that is killed ten times and resumed each time seals what the unbroken run seals."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import loops
import pytest

from palm_torch import evidence, statement
from palm_torch.appraisal import verifier
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.evidence import Bundle
from palm_torch.policies import policy
from palm_torch.properties import Train

if TYPE_CHECKING:
    from palm_torch.result import AttestationResult
    from palm_torch.statement import Statement

SCRIPT = Path(__file__).parents[1] / "scripts" / "train_and_resume.py"
SEED = 1
KILLS = 10
STEPS = 60

pytestmark = pytest.mark.slow


@dataclasses.dataclass(frozen=True)
class Runs:
    unbroken: Bundle
    resumed: Bundle
    killed: list[int]

    def statements(self) -> tuple[Statement, Statement]:
        return statement.decode(self.unbroken.end.statement), statement.decode(self.resumed.end.statement)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder = tmp_path_factory.mktemp("killed")
    measured = loops.corpus(folder / "with", records=24)
    bare = loops.corpus(folder / "without", records=16, seed=3)
    for path in bare.glob("*manifest*"):
        path.unlink()
    assert AttestedMmapDataset(bare, record_length=loops.LENGTH).manifest is None
    (folder / "out").mkdir()
    outcome = subprocess.run(
        [sys.executable, SCRIPT, measured, bare, folder / "out", str(SEED), str(KILLS)],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert outcome.returncode == 0, outcome.stderr
    bundles = [
        evidence.decode((folder / "out" / name / "evidence.simulated.palm.json").read_bytes())
        for name in ("unbroken", "resumed")
    ]
    return Runs(*bundles, killed=json.loads(outcome.stdout.splitlines()[-1]))


def verified(bundle: Bundle, **claims: Any) -> AttestationResult:
    run = SimpleNamespace(evidence=SimpleNamespace(bundle=bundle))
    rules = policy.parse(loops.policy_text(run, **claims))  # type: ignore[arg-type]
    return verifier.verify(bundle.encode(), policy=rules, at=datetime.now(UTC))


def test_it_was_killed_and_went_on(runs: Runs) -> None:
    assert len(runs.killed) == KILLS
    assert len(runs.resumed.segments) > 2
    assert runs.unbroken.segments == ()


@pytest.mark.parametrize("role", [field.name for field in dataclasses.fields(Train) if field.name != "seeds"])
def test_every_claim_is_that_of_the_unbroken_run(runs: Runs, role: str) -> None:
    unbroken, resumed = runs.statements()
    assert getattr(resumed.claims, role) == getattr(unbroken.claims, role)


@pytest.mark.parametrize("what", ["code", "environment", "devices", "inputs", "outputs", "reported"])
def test_what_surrounds_it_is_that_of_the_unbroken_run(runs: Runs, what: str) -> None:
    unbroken, resumed = runs.statements()
    assert getattr(resumed.run, what) == getattr(unbroken.run, what)


def test_random_numbers_begin_and_end_as_in_the_unbroken_run(runs: Runs) -> None:
    unbroken, resumed = (one.claims for one in runs.statements())
    assert isinstance(unbroken, Train)
    assert isinstance(resumed, Train)
    assert {**unbroken.seeds.value, "resumed": resumed.seeds.value["resumed"]} == resumed.seeds.value
    assert len(resumed.seeds.value["resumed"]) == len(runs.resumed.segments)


def test_both_are_accepted(runs: Runs) -> None:
    whole, parts = (verified(bundle, steps={"least": STEPS}) for bundle in (runs.unbroken, runs.resumed))
    assert (whole.claims, whole.reservations) == (parts.claims, parts.reservations)
    (segments,) = [check.detail for check in parts.checks if check.name == "segments"]
    assert segments.startswith(f"resumed {len(runs.resumed.segments)} times: ")


def test_twin_the_claims_are_not_empty(runs: Runs) -> None:
    claims = runs.statements()[1].claims
    assert isinstance(claims, Train)
    assert sorted(sorted(item.uses) for item in claims.data.values()) == [["eval", "train"], ["train"]]
    assert {item.manifest is None for item in claims.data.values()} == {True, False}
    assert claims.steps.taken == STEPS
    assert claims.initial.digest != claims.model.digest
