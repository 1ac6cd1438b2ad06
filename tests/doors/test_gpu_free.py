"""Verifying loads what the evidence and the options at hand need, and no more: the command starts faster."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from workshop import NOW

if TYPE_CHECKING:
    from pathlib import Path

    from composite_run import CompositeRun
    from workshop import GoodRun

OF_GPUS = (
    "lxml",
    "palm_torch.appraisal.opinions",
    "palm_torch.cvm.eat",
    "palm_torch.cvm.gpu",
    "palm_torch.cvm.gpu_certificate",
    "palm_torch.cvm.gpu_measurements",
    "palm_torch.cvm.gpu_opaque",
    "palm_torch.cvm.gpu_revocation",
    "palm_torch.cvm.gpu_state",
    "palm_torch.cvm.jose",
    "palm_torch.cvm.ocsp",
    "palm_torch.cvm.rim",
    "palm_torch.cvm.spdm",
    "palm_torch.sessions.gpu_evidence",
)
OF_TOKENS = frozenset({"palm_torch.appraisal.opinions", "palm_torch.cvm.eat", "palm_torch.cvm.jose"})
OF_OTHER_OPTIONS = (
    "numpy",
    "palm_torch.appraisal.artifacts",
    "palm_torch.appraisal.coverage_maps",
    "palm_torch.appraisal.datasets_at_hand",
    "palm_torch.appraisal.files_at_hand",
    "palm_torch.appraisal.inclusions",
    "palm_torch.appraisal.parts",
    "palm_torch.appraisal.receipts",
    "palm_torch.appraisal.seen",
    "palm_torch.chain_verification",
    "palm_torch.commit.coverage",
    "palm_torch.commit.manifest",
    "palm_torch.commit.manifest_file",
    "palm_torch.commit.records",
    "palm_torch.commit.safetensors_file",
    "palm_torch.cvm.timestamp",
    "palm_torch.data",
    "palm_torch.data_at_hand",
    "palm_torch.part_files",
    "sqlite3",
    "torch",
)
"""What other options and other kinds of evidence need."""

PROGRAM = f"""
import sys
from palm_torch import cli
code = cli.main(sys.argv[1:])
print("LOADED", code, *[name for name in {(*OF_GPUS, *OF_OTHER_OPTIONS)!r} if name in sys.modules])
"""


def loaded(run: GoodRun, folder: Path) -> set[str]:
    """Verifies a run as the command does, in a fresh process; returns what of the above it loaded."""
    (folder / "run.palm.json").write_bytes(run.data)
    (folder / "policy.yaml").write_bytes(run.policy_text())
    (folder / "request.json").write_bytes(run.request)
    words = ("verify", "run.palm.json", "--policy", "policy.yaml", "--request", "request.json")
    outcome = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words, "--at", NOW.isoformat()],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=120,
    )
    assert "ACCEPTED" in outcome.stdout, outcome.stdout + outcome.stderr
    mark, code, *names = outcome.stdout.splitlines()[-1].split()
    assert (mark, code) == ("LOADED", "0")
    return set(names)


def test_evidence_of_no_gpu_loads_nothing_about_gpus(good: GoodRun, tmp_path: Path) -> None:
    assert loaded(good, tmp_path) == set()


def test_twin_evidence_of_gpus_loads_it_and_no_more(composite: CompositeRun, tmp_path: Path) -> None:
    assert loaded(composite, tmp_path) == set(OF_GPUS) - OF_TOKENS


def test_twin_each_of_them_is_there_to_be_loaded() -> None:
    program = f"import {', '.join((*OF_GPUS, *OF_OTHER_OPTIONS))}"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=120).returncode == 0
