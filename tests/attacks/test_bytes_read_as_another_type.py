"""The header of an array file is edited between measuring and training: the same bytes, other numbers.

Without a manifest in the run nothing refuses that while training. What the evidence says of the data tells.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import loops
import numpy as np
import pytest
import torch

from palm_torch.appraisal import at_hand, coverage_maps, datasets_at_hand
from palm_torch.attesting.attested import attested
from palm_torch.commit import manifest_file
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.loader import DataLoader
from palm_torch.data.measure import measure
from palm_torch.errors import ArtifactError

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.roles import Dataset

pytestmark = pytest.mark.usefixtures("fresh_process")


def trained_on(path: Path, folder: Path) -> Dataset:
    """Trains without a manifest and returns what the evidence says of the data."""
    net = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    batch: Any
    with attested("train") as run:
        for batch in DataLoader(AttestedMmapDataset(path, manifest=None, dtype=None), batch_size=4):
            net(batch.float().reshape(-1, 4)).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    return loops.check(run, folder).claims.data["dataset1"]


def compared(manifest: Path, dataset: Dataset, folder: Path) -> str:
    held, maps = at_hand.Held(manifest, None), coverage_maps.Maps(evidence=folder / "none.palm.json")
    return datasets_at_hand.compare("data.dataset1", "dataset1", held, dataset, maps).detail


@pytest.mark.parametrize(
    ("measured", "read", "elements"),
    [(b"'<u2'", b"'<f2'", "float16[4]"), (b"(16, 4), }   ", b"(16, 2, 2), }", "uint16[2,2]")],
)
def test_the_manifest_at_hand_is_not_of_what_was_read(
    tmp_path: Path, measured: bytes, read: bytes, elements: str
) -> None:
    path = tmp_path / "x.npy"
    np.save(path, (np.arange(64).reshape(16, 4) + 15000).astype("<u2"))
    measure(path)
    content = path.read_bytes()
    assert content.count(measured) == 1
    path.write_bytes(content.replace(measured, read))
    found = trained_on(path, tmp_path)
    assert found.layout == elements
    with pytest.raises(
        ArtifactError, match=re.escape(f"uint16[4], and the run read those of data.dataset1 as {elements}")
    ):
        compared(manifest_file.path_beside(path), found, tmp_path)


def test_twin_the_same_records_in_another_kind_of_file(tmp_path: Path) -> None:
    values = np.arange(64, dtype="<u2").reshape(16, 4)
    np.save(tmp_path / "x.npy", values)
    values.tofile(tmp_path / "y.bin")
    measure(tmp_path / "y.bin", record_length=4)
    found = trained_on(tmp_path / "x.npy", tmp_path)
    assert compared(tmp_path / "y.bin.palm-manifest", found, tmp_path).endswith("train: 1 whole epochs")
