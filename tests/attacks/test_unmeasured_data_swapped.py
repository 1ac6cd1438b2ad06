"""Data without a manifest is exchanged between two readings: every index was read twice, no record was."""

# ruff: noqa: PT012 (the whole block of a session is under test)
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import loops
import numpy as np
import pytest
import torch
from resumable import Killed

from palm_torch.attesting.attested import attested
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.loader import DataLoader
from palm_torch.data.measure import measure

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("fresh_process")


def read(folder: Path, net: torch.nn.Module) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    batch: Any
    for batch in DataLoader(AttestedMmapDataset(folder, dtype=None), batch_size=8):
        net(batch).sum().backward()
        optimizer.step()
        optimizer.zero_grad()


def fill(folder: Path, value: float) -> Path:
    np.save(folder / "x.npy", np.full((8, 4), value, dtype=np.float32))
    return folder


def said(found: loops.Checked) -> tuple[str, list[str]]:
    (claim,) = [item.value for item in found.result.claims if item.name == "data dataset1, train"]
    return claim, [item.reason for item in found.result.reservations if "no manifest" in item.reason]


def test_it_is_said_that_indices_were_counted(tmp_path: Path) -> None:
    net = torch.nn.Linear(4, 1)
    with pytest.raises(Killed), attested("train") as run:
        read(fill(tmp_path, 1), net)
        state = run.state_dict()
        raise Killed
    with attested("train", resume=state) as run:
        read(fill(tmp_path, 7), net)
    claim, (warning,) = said(loops.check(run, tmp_path))
    assert claim == "16 delivered, 8 different indices of 8, each 2 times"
    assert warning.startswith("data dataset1: no manifest: indices were counted, not contents")


def test_twin_with_a_manifest_records_were_counted(tmp_path: Path) -> None:
    measure(fill(tmp_path, 1))
    with attested("train") as run:
        read(tmp_path, torch.nn.Linear(4, 1))
    assert said(loops.check(run, tmp_path)) == ("8 delivered, 8 different ones of 8, each once", [])
