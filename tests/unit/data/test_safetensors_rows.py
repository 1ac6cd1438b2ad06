from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import palm_torch
from palm_torch.commit import records
from palm_torch.commit.manifest import Column
from palm_torch.data import measure
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.formats import table
from palm_torch.errors import DataError, ManifestError, RecordError

if TYPE_CHECKING:
    from pathlib import Path

IMAGES = torch.arange(5 * 2 * 3, dtype=torch.float32).reshape(5, 2, 3)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    tensors = {"images": IMAGES, "labels": torch.arange(5), "ids": torch.arange(10).reshape(5, 2)}
    save_file(tensors, tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def test_records_are_the_rows_of_a_tensor(stored: Path) -> None:
    data = AttestedMmapDataset(stored, tensor="images", dtype=None)
    assert data.info.layout == table.Layout("safetensors", "float32", (2, 3), (Column("images", "float32"),))
    assert torch.equal(torch.stack(data.__getitems__([4, 0, 2])), IMAGES[[4, 0, 2]])
    assert torch.equal(AttestedMmapDataset(stored, tensor="ids")[1], torch.tensor([2, 3]))


def test_manifest_names_the_tensor(stored: Path) -> None:
    measured = measure.measure(stored, tensor="images")
    assert measured.columns == (Column("images", "float32"),)
    data = AttestedMmapDataset(stored, dtype=None)
    assert torch.equal(data[3], IMAGES[3])
    again = pickle.loads(pickle.dumps(data))  # noqa: S301 (bytes this test made)
    assert torch.equal(again[4], IMAGES[4])
    assert data.info.table.group(0)[:32] == records.record_digest(IMAGES[0].numpy().tobytes())
    with pytest.raises(DataError, match="expected tensor 'ids', got 'images' in the manifest"):
        AttestedMmapDataset(stored, tensor="ids")


def test_rows_of_other_files_with_the_same_bytes_have_the_same_digests(stored: Path) -> None:
    np.save(stored.with_name("a.npy"), IMAGES.numpy())
    one, other = measure.measure(stored, tensor="images"), measure.measure(stored.with_name("a.npy"))
    assert (one.digests_root, one.multiset) == (other.digests_root, other.multiset)
    assert one.digest != other.digest


def test_a_changed_row_is_named_and_its_neighbours_are_not(stored: Path) -> None:
    measure.measure(stored, tensor="ids")
    data = AttestedMmapDataset(stored)
    content = bytearray(stored.read_bytes())
    place = content.find(torch.tensor([4, 5]).numpy().tobytes())
    content[place] ^= 1
    stored.write_bytes(content)
    with pytest.raises(RecordError, match=rf"record 2 \(bytes {place} to {place + 15} "):
        data.__getitems__(range(5))
    assert len(data.__getitems__([0, 1, 3, 4])) == 4


def test_a_folder_of_them(tmp_path: Path) -> None:
    for name, first in (("b", 3), ("a", 1)):
        save_file({"x": torch.full((2, 2), first)}, tmp_path / f"{name}.safetensors")
    assert [item[0].item() for item in AttestedMmapDataset(tmp_path).__getitems__(range(4))] == [1, 1, 3, 3]
    save_file({"y": torch.ones((2, 2), dtype=torch.int64)}, tmp_path / "c.safetensors")
    with pytest.raises(DataError, match=r"\(tensor 'x'\).*\(tensor 'y'\)"):
        AttestedMmapDataset(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({}, "holds 3 tensors: pass tensor= with one of 'ids', 'images', 'labels'"),
        ({"tensor": "x"}, "expected a tensor 'x'"),
        ({"tensor": "labels"}, r"expected rows, two axes or more, got shape \[5\]"),
        ({"tensor": "ids", "token_dtype": "int32"}, "expected elements of type int32, got int64"),
        ({"tensor": "ids", "record_length": 3}, "expected records of 3 elements, got rows of"),
        ({"tensor": "images"}, "pass dtype=None"),
    ],
)
def test_what_is_refused(stored: Path, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        AttestedMmapDataset(stored, **arguments)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float32])
def test_bfloat16(tmp_path: Path, dtype: torch.dtype | None) -> None:
    stored = torch.randn((4, 6)).to(torch.bfloat16)
    save_file({"x": stored}, tmp_path / "x.safetensors")
    measured = measure.measure(tmp_path / "x.safetensors")
    assert (measured.dtype, measured.record_bytes) == ("bfloat16", 12)
    data = AttestedMmapDataset(tmp_path / "x.safetensors", dtype=dtype)
    (batch,) = palm_torch.DataLoader(data, batch_size=4)
    assert batch.dtype == (dtype or torch.bfloat16)
    assert torch.equal(batch.to(torch.bfloat16), stored)
    x, y = AttestedMmapDataset(tmp_path / "x.safetensors", dtype=None, targets=True)[2]
    assert torch.equal(x, stored[2, :-1])
    assert torch.equal(y, stored[2, 1:])
    with pytest.raises(
        DataError, match=r"stored elements are bfloat16, and not all of their values fit into torch\.int64"
    ):
        AttestedMmapDataset(tmp_path / "x.safetensors")


def test_types_that_are_not_read(tmp_path: Path) -> None:
    save_file({"x": torch.ones((2, 2)).to(torch.float8_e4m3fn)}, tmp_path / "x.safetensors")
    with pytest.raises(DataError, match="rows of float8_e4m3fn are not read: save its bits"):
        AttestedMmapDataset(tmp_path / "x.safetensors")


def test_a_tensor_of_another_shape_under_the_manifest(stored: Path) -> None:
    measure.measure(stored, tensor="ids")
    save_file({"ids": torch.arange(10).reshape(2, 5)}, stored)
    with pytest.raises((ManifestError, DataError), match="expected"):
        AttestedMmapDataset(stored)
