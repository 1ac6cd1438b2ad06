"""A script with the Trainer of transformers, under ``palm-torch run train``: same losses, and counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from palm_torch import evidence, statement
from palm_torch.data.measure import measure
from palm_torch.digest import sha256_digest
from palm_torch.properties import Train
from palm_torch.statement import CodeSource

if TYPE_CHECKING:
    from palm_torch.statement import Statement

SCRIPT = Path(__file__).parents[1] / "scripts" / "hf_trainer.py"
OPTIONS = {
    "max_steps": 5,
    "gradient_accumulation_steps": 2,
    "eval_strategy": "steps",
    "eval_steps": 2,
    "save_steps": 3,
    "dataloader_num_workers": 2,
}
PALM = ("-m", "palm_torch", "run", "train", "-o", "run.palm.json", "--")


def started(folder: Path, *words: str, **options: Any) -> subprocess.Popen[str]:
    given = ("--train", "train", "--eval", "eval", "--options", json.dumps({**OPTIONS, **options}))
    return subprocess.Popen(
        (sys.executable, *words, str(SCRIPT), *given),
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def losses(process: subprocess.Popen[str]) -> list[float]:
    out, err = process.communicate(timeout=280)
    assert process.returncode == 0, err
    found = json.loads(out.splitlines()[-1])
    assert isinstance(found, list)
    return found


def sealed(folder: Path) -> Statement:
    (path,) = folder.glob("run*.palm.json")
    return statement.decode(evidence.decode(path.read_bytes()).end.statement)


@pytest.mark.slow
def test_a_script_with_the_trainer_computes_the_same_and_is_counted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, records in (("train", 50), ("eval", 11)):
        (tmp_path / name).mkdir()
        rng.integers(0, 32, 16 * records, dtype=np.uint16).tofile(tmp_path / name / "tokens.bin")
        measure(tmp_path / name, record_length=16)
    attested = started(tmp_path, *PALM, output_dir="attested")
    plain = started(tmp_path, dataloader_num_workers=0, output_dir="plain")  # stock workers need a session
    assert losses(attested) == losses(plain)
    end = sealed(tmp_path)
    claims = end.claims
    assert isinstance(claims, Train)
    assert claims.steps.taken == 5
    delivered = {
        name: {use: one.delivered for use, one in data.uses.items()} for name, data in claims.data.items()
    }
    assert delivered == {"dataset1": {"train": 5 * 2 * 4}, "dataset2": {"eval": 3 * 11}}
    assert end.run.code.source is CodeSource.IMPORTED
    main = next(item for item in end.run.code.files if item.module == "__main__")
    assert main.digest == sha256_digest(SCRIPT.read_bytes())
