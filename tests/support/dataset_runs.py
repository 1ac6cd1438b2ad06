"""Small sessions that bind, preprocess and distribute, and policies that accept them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import loops
import numpy as np
import yaml

import palm_torch
from palm_torch import evidence, statement
from palm_torch.appraisal import verifier
from palm_torch.data.shard_writer import ShardWriter
from palm_torch.policies import policy

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.attesting.session import Session
    from palm_torch.evidence import Bundle
    from palm_torch.result import AttestationResult
    from palm_torch.statement import Statement

RECORDS = 24
LENGTH = 8


def double(record: Any, *, by: int = 2) -> Any:
    """Multiplies every element."""
    return record * by


def raw(folder: Path, *, seed: int = 0) -> Path:
    """Writes one file of tokens, without a manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = np.random.default_rng(seed).integers(0, 16, RECORDS * LENGTH, dtype=np.uint16)
    tokens.tofile(folder / "raw.bin")
    return folder / "raw.bin"


def bound(path: Path) -> Session:
    """Binds a file of tokens."""
    with palm_torch.attested("bind", attester="simulated") as run:
        run.bind(path, record_length=LENGTH)
    return run


def preprocessed(path: Path, output: Path, *, by: int = 2, **options: Any) -> Session:
    """Doubles every record of a dataset that was measured."""
    with palm_torch.attested("preprocess", attester="simulated") as run:
        source = palm_torch.AttestedMmapDataset(path, record_length=LENGTH)
        apply = run.function(double, by=by)
        with ShardWriter(output, record_length=LENGTH, **options) as writer:
            for batch in palm_torch.DataLoader(source, batch_size=5):
                writer.write_all(apply(record) for record in batch)
    return run


def distributed(path: Path, statistic: str = "record-length", **arguments: Any) -> Session:
    """Computes one of palm-torch's own statistics."""
    with palm_torch.attested("distribute", attester="simulated") as run:
        run.statistic(palm_torch.AttestedMmapDataset(path, record_length=LENGTH), statistic, **arguments)
    return run


def end_of(run: Session) -> Statement:
    """Returns the end statement."""
    return statement.decode(run.evidence.bundle.end.statement)


def verify(run: Session, folder: Path, *, files: Any = None, **claims: Any) -> AttestationResult:
    """Saves the evidence and lets the verifier judge what was saved by these claim rules."""
    data = run.evidence.save(folder / f"{run.run_id}.palm.json").read_bytes()
    return verify_bundle(evidence.decode(data), run, files=files, **claims)


def verify_bundle(bundle: Bundle, run: Session, *, files: Any = None, **claims: Any) -> AttestationResult:
    """Lets the verifier judge a bundle as if it were a run's, on the run's own machine."""
    document = {**yaml.safe_load(loops.policy_text(run)), "claims": claims}
    rules = policy.parse(yaml.safe_dump(document).encode())
    return verifier.verify(bundle.encode(), policy=rules, at=datetime.now(UTC), challenge=None, files=files)
