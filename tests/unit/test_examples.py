"""The examples run as they are printed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from palm_torch import evidence, statement
from palm_torch.data import measure
from palm_torch.demo import corpus

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_tiny_gpt_trains_and_seals(tmp_path: Path) -> None:
    folder, _ = corpus.write(tmp_path, train_records=128, validation_records=1, shards=2)
    measure.measure(folder, record_length=corpus.RECORD_TOKENS)
    outcome = subprocess.run(
        [sys.executable, str(EXAMPLES / "tiny_gpt.py"), str(folder)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
    )
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout.splitlines()[-1] == "sealed in train.simulated.palm.json"
    assert "NOT A TEE" in outcome.stderr
    bundle = evidence.decode((tmp_path / "train.simulated.palm.json").read_bytes())
    end = statement.decode(bundle.end.statement)
    assert end.claims.steps.taken == 2  # type: ignore[union-attr]
    assert end.run.reported["loss"].count == 2
