from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import sequence_files
import torch

from palm_torch.data import row_items
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.formats import table
from palm_torch.data.loader import DataLoader
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path


def saved(path: Path, values: Any, dtype: str) -> Path:
    np.save(path / "x.npy", np.array(values, dtype))
    return path / "x.npy"


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("uint32", torch.int32), ("uint32", torch.int16), ("int64", torch.int32), ("int8", torch.uint8),
        ("int32", torch.uint64), ("uint64", torch.int32), ("uint16", torch.float16), ("float32", torch.int64),
        ("complex64", torch.float32), ("complex64", torch.bfloat16), ("uint8", torch.bool),
        ("uint8", torch.quint8),
    ],
)  # fmt: skip
def test_types_that_do_not_hold_the_range_are_refused(tmp_path: Path, stored: str, asked: Any) -> None:
    path = saved(tmp_path, [[1, 2]], stored)
    with pytest.raises(
        DataError, match=f"stored elements are {stored}, and not all of their values fit into"
    ):
        AttestedMmapDataset(path, dtype=asked)


@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        ("uint16", torch.int32), ("uint32", torch.int64), ("bool", torch.int64), ("bool", torch.float16),
        ("uint16", torch.float32), ("int64", torch.float32), ("uint16", torch.bfloat16),
        ("uint8", torch.float16),
        ("float64", torch.float16), ("float32", torch.bfloat16), ("float32", torch.complex64),
        ("uint64", torch.int64), ("uint64", None),
    ],
)  # fmt: skip
def test_types_that_do_are_taken(tmp_path: Path, stored: str, asked: Any) -> None:
    data = AttestedMmapDataset(saved(tmp_path, [[1, 0]], stored), dtype=asked)
    expected = torch.from_numpy(np.array([1, 0], stored))
    assert torch.equal(data[0], expected if asked is None else expected.to(asked))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.filterwarnings("ignore:.*fork")
def test_no_element_of_uint64_wraps_around(tmp_path: Path, workers: int) -> None:
    values = np.arange(200 * 3, dtype=np.uint64).reshape(200, 3)
    values[150, 1] = 2**63
    path = saved(tmp_path, values, "uint64")
    data = AttestedMmapDataset(path)
    assert torch.equal(data[149], torch.tensor([447, 448, 449]))
    with pytest.raises(
        DataError, match=r"record 150: an element of uint64 is 2\^63 or more, and torch\.int64"
    ):
        data[150]
    with pytest.raises(DataError, match="record 150"):
        list(DataLoader(data, batch_size=200, num_workers=workers))
    assert int(AttestedMmapDataset(path, dtype=None)[150].numpy()[1]) == 2**63


def test_nor_in_records_of_any_length() -> None:
    reader = SimpleNamespace(layout=table.Layout("megatron", "uint64"), path="x")
    item = row_items.RowItems(reader, torch.int64, targets=False)._item  # type: ignore[arg-type]
    assert item(np.array([1, 2], np.uint64).tobytes()).tolist() == [1, 2]
    assert not len(item(b""))
    with pytest.raises(DataError, match=r"2\^63 or more"):
        item(np.array([1, 2**63], np.uint64).tobytes())


@pytest.mark.parametrize("sequences", [False, True])
def test_the_halves_of_a_pair_share_no_memory(tmp_path: Path, *, sequences: bool) -> None:
    if sequences:
        data = AttestedMmapDataset(sequence_files.write(tmp_path / "m", [range(9)]), targets=True)
    else:
        data = AttestedMmapDataset(saved(tmp_path, [range(9)], "uint16"), targets=True)
    first, second = data[0]
    first[1] = -100
    assert second.tolist() == list(range(1, 9))


@pytest.mark.parametrize("index", [2**64 - 2, 2**63, np.uint64(2**64 - 1), 10**30, -(10**30)])
def test_numbers_beyond_the_machines_do_not_wrap_around(tmp_path: Path, index: Any) -> None:
    data = AttestedMmapDataset(saved(tmp_path, [[1, 2], [3, 4]], "uint16"))
    with pytest.raises(IndexError, match="of 2"):
        data[index]
    with pytest.raises(IndexError, match="of 2"):
        data.__getitems__([0, index])


@pytest.mark.parametrize(
    "indices", [[[0, 1], [1, 0]], np.zeros((2, 2), int), [slice(0, 2)], ["0"], [None], [True]]
)
def test_indices_are_integers_in_a_row(tmp_path: Path, indices: Any) -> None:
    data = AttestedMmapDataset(saved(tmp_path, [[1, 2], [3, 4]], "uint16"))
    with pytest.raises(TypeError):
        data.__getitems__(indices)


@pytest.mark.parametrize("length", ["8", 1.0, 0, None])
def test_lengths_of_records_are_whole_numbers(tmp_path: Path, length: Any) -> None:
    (tmp_path / "x.bin").write_bytes(bytes(8))
    with pytest.raises(DataError, match="record"):
        AttestedMmapDataset(tmp_path / "x.bin", record_length=length)
    made = AttestedMmapDataset(tmp_path / "x.bin", record_length=np.int64(2))  # type: ignore[arg-type]
    assert type(made.info.layout.fixed()[1][0]) is int


def test_arrays_of_too_many_axes_are_refused(tmp_path: Path) -> None:
    head = "{'descr': '<i4', 'fortran_order': False, 'shape': (2, " + ", ".join(["1"] * 70) + "), }"
    size = struct.pack("<H", len(head))
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\1\0" + size + head.encode() + bytes(8))
    with pytest.raises(DataError, match="expected an array of at most 32 axes, got 71"):
        AttestedMmapDataset(tmp_path / "x.npy")
    text = b'{"t":{"dtype":"I32","shape":[2' + b",1" * 40 + b'],"data_offsets":[0,8]}}'
    (tmp_path / "x.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    with pytest.raises(DataError, match="expected an array of at most 32 axes, got 41"):
        AttestedMmapDataset(tmp_path / "x.safetensors")


def test_paths_that_cannot_be_looked_up(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read: File name too long"):
        AttestedMmapDataset("a" * 5000)
    (tmp_path / ("a" * 250 + ".bin")).write_bytes(bytes(8))
    with pytest.raises(DataError, match="cannot be read: File name too long"):  # that of its manifest
        AttestedMmapDataset(tmp_path / ("a" * 250 + ".bin"), record_length=2)
    assert len(AttestedMmapDataset(tmp_path / ("a" * 250 + ".bin"), record_length=2, manifest=None)) == 2
