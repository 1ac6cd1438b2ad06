"""`AttestedMmapDataset` over a `datasets.Dataset` at hand."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest
import torch
from recording import recording

import palm_torch
from palm_torch.data import measure
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.errors import DataError, ManifestError, RecordError

if TYPE_CHECKING:
    from pathlib import Path

datasets = pytest.importorskip("datasets")


@pytest.fixture
def held() -> Any:
    return datasets.Dataset.from_dict({"text": ["a", "bb", "ccc"], "ids": [[1], [2, 3], []]})


def test_rows_are_items(held: Any) -> None:
    data = AttestedMmapDataset(held)
    assert (len(data), data.manifest) == (3, None)
    assert data[1]["text"] == "bb"
    assert torch.equal(data[1]["ids"], torch.tensor([2, 3]))
    again = pickle.loads(pickle.dumps(data))  # noqa: S301 (bytes this test made)
    assert again[2]["text"] == "ccc"
    assert AttestedMmapDataset(held.select([2, 0]))[0]["text"] == "ccc"


def test_the_manifest_of_the_saved_folder_is_that_of_the_object(held: Any, tmp_path: Path) -> None:
    held.save_to_disk(tmp_path / "saved")
    measured = measure.measure(tmp_path / "saved")
    manifest = tmp_path / "saved" / "manifest.palm-manifest"
    data = AttestedMmapDataset(held, manifest=manifest)
    assert data.manifest == measured
    with recording() as session:
        items = list(palm_torch.DataLoader(data, batch_size=2, num_workers=1, collate_fn=list))
    assert [item["text"] for batch in items for item in batch] == ["a", "bb", "ccc"]
    assert session.indices() == [0, 1, 2]
    with pytest.raises(RecordError, match="row 0 of the dataset"):
        AttestedMmapDataset(held.select([1, 0, 2]), manifest=manifest)[0]
    with pytest.raises(ManifestError, match=r"expected 3 arrow rows of .*, got 2 arrow rows of"):
        AttestedMmapDataset(held.select([0, 1]), manifest=manifest)
    with pytest.raises(ManifestError, match="without a salt"):
        AttestedMmapDataset(held, manifest=manifest, salt=b"x" * 16)


def test_a_transform_is_refused(held: Any) -> None:
    with pytest.raises(DataError, match="AttestedDataset"):
        AttestedMmapDataset(held.with_transform(lambda rows: rows))
