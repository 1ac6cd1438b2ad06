from __future__ import annotations

import copy
import gc
import pickle
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.utils.data import Subset

from palm_torch.commit import manifest_file, records
from palm_torch.data import measure, open_datasets
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.errors import DataError, ManifestError, RecordError

if TYPE_CHECKING:
    from pathlib import Path

L = 16
BYTE = "uint8"
MANIFEST = "manifest.palm-manifest"


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as stream:
        stream.seek(at)
        byte = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("with_manifest", [False, True])
def test_items_are_the_records(tokens: Path, rows: np.ndarray, *, with_manifest: bool) -> None:
    if with_manifest:
        measure.measure(tokens, record_length=L)
    data = AttestedMmapDataset(tokens, record_length=None if with_manifest else L)
    assert len(data) == 123
    assert (data.manifest is not None) == with_manifest
    expected = torch.from_numpy(rows.astype(np.int64))
    wanted = [5, 122, 40, 39, 80, 81, 5, -1, *range(123)]
    got = data.__getitems__(wanted)
    assert torch.equal(torch.stack(got), expected[wanted])
    assert all(item.dtype == torch.int64 for item in got)
    assert torch.equal(data[-123], expected[0])
    assert torch.equal(data[np.int64(3)], expected[3])
    assert data.__getitems__([]) == []


def test_single_file_and_its_manifest_beside_it(tokens: Path, rows: np.ndarray) -> None:
    file = tokens / "part-0.bin"
    measured = measure.measure(file, record_length=L)
    assert (tokens / "part-0.bin.palm-manifest").is_file()
    data = AttestedMmapDataset(file)
    assert data.manifest == measured
    assert torch.equal(
        torch.stack(data.__getitems__(list(range(40)))), torch.from_numpy(rows[:40].astype(np.int64))
    )


def test_targets_are_shifted_pairs(tokens: Path, rows: np.ndarray) -> None:
    x, y = AttestedMmapDataset(tokens, record_length=L, targets=True)[7]
    assert x.tolist() == rows[7, :-1].tolist()
    assert y.tolist() == rows[7, 1:].tolist()


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (None, torch.uint16),
        (torch.int64, torch.int64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.bfloat16),
    ],
)
def test_dtype_of_the_tensors(tokens: Path, dtype: Any, expected: Any) -> None:
    assert AttestedMmapDataset(tokens, record_length=L, dtype=dtype)[0].dtype == expected


def test_npy_rows_keep_their_shape(tmp_path: Path) -> None:
    array = np.arange(5 * 3 * 4, dtype=np.float32).reshape(5, 3, 4)
    np.save(tmp_path / "a.npy", array)
    measure.measure(tmp_path / "a.npy")
    data = AttestedMmapDataset(tmp_path / "a.npy", dtype=None)
    assert torch.equal(torch.stack(list(data)[:5]), torch.from_numpy(array))


def test_float_records_are_not_cut_to_integers(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 3), np.float32))
    with pytest.raises(DataError, match="dtype=None"):
        AttestedMmapDataset(tmp_path / "a.npy")


def test_targets_need_flat_records(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 3, 4), np.int64))
    with pytest.raises(DataError, match="targets"):
        AttestedMmapDataset(tmp_path / "a.npy", targets=True)


@pytest.mark.parametrize("index", [123, -124, 10**12])
def test_index_out_of_range(tokens: Path, index: int) -> None:
    with pytest.raises(IndexError, match="123"):
        AttestedMmapDataset(tokens, record_length=L)[index]


def test_only_integers_are_indices(tokens: Path) -> None:
    with pytest.raises(TypeError, match="integers"):
        AttestedMmapDataset(tokens, record_length=L).__getitems__([1.5])


def test_records_are_private_memory(tokens: Path) -> None:
    data = AttestedMmapDataset(tokens, record_length=L)
    record = data[0]
    before = record.clone()
    flip(tokens / "part-0.bin", 0)
    assert torch.equal(record, before)
    assert not torch.equal(data[0], before)


def test_records_wider_than_the_scratch_memory(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 255, (5, 300_000), dtype=np.uint8)
    array.tofile(tmp_path / "wide.bin")
    measure.measure(tmp_path / "wide.bin", record_length=300_000, token_dtype=BYTE)
    data = AttestedMmapDataset(tmp_path / "wide.bin", dtype=None)
    assert np.array_equal(torch.stack(data.__getitems__([4, 0, 2])).numpy(), array[[4, 0, 2]])


# What others changed ---------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before opening", "after opening"])
def test_changed_byte_names_shard_record_and_bytes(tokens: Path, when: str) -> None:
    measure.measure(tokens, record_length=L)
    if when == "before opening":
        flip(tokens / "part-1.bin", 3 * 32 + 5)
    data = AttestedMmapDataset(tokens)
    if when == "after opening":
        flip(tokens / "part-1.bin", 3 * 32 + 5)
    with pytest.raises(RecordError, match=r"part-1\.bin: record 43 \(bytes 96 to 127"):
        data.__getitems__(list(range(123)))
    assert len(data.__getitems__([42, 44])) == 2  # its neighbours are as they were


def test_without_a_manifest_a_changed_byte_is_only_counted(tokens: Path) -> None:
    flip(tokens / "part-1.bin", 3)
    assert AttestedMmapDataset(tokens, record_length=L, manifest=None)[40] is not None


@pytest.mark.parametrize("record", [0, 100, 122])
def test_manifest_rewritten_after_opening(tokens: Path, record: int) -> None:
    measure.measure(tokens, record_length=L)
    data = AttestedMmapDataset(tokens)
    path = tokens / MANIFEST
    flip(path, path.stat().st_size - (123 - record) * 32)
    with pytest.raises(ManifestError, match="rewritten after it was opened"):
        data.__getitems__([record])


def test_changed_record_with_its_digest_in_the_manifest_changed_too(tokens: Path) -> None:
    measure.measure(tokens, record_length=L)
    data = AttestedMmapDataset(tokens)
    flip(tokens / "part-0.bin", 0)
    path = tokens / MANIFEST
    fresh = records.record_digest((tokens / "part-0.bin").read_bytes()[: 2 * L])
    with path.open("r+b") as stream:
        stream.seek(path.stat().st_size - 123 * 32)
        stream.write(fresh)
    with pytest.raises(ManifestError, match="rewritten"):
        data[0]


def test_manifest_whose_digests_do_not_lead_to_its_root(tokens: Path) -> None:
    measure.measure(tokens, record_length=L)
    path = tokens / MANIFEST
    flip(path, path.stat().st_size - 1)
    with pytest.raises(ManifestError, match="root"):
        AttestedMmapDataset(tokens)


def test_record_left_out_after_measuring(tokens: Path) -> None:
    measure.measure(tokens, record_length=L)
    file = tokens / "part-2.bin"
    file.write_bytes(file.read_bytes()[: -2 * L])
    with pytest.raises(ManifestError, match=r"part-2\.bin.*1344.*1312"):
        AttestedMmapDataset(tokens)


def test_shard_added_after_measuring(tokens: Path) -> None:
    measure.measure(tokens, record_length=L)
    (tokens / "part-3.bin").write_bytes(bytes(2 * L))
    with pytest.raises(ManifestError, match="another dataset's"):
        AttestedMmapDataset(tokens)


def test_manifest_of_another_dataset(tokens: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "x.bin").write_bytes(bytes(range(64)))
    measure.measure(other, record_length=L)
    with pytest.raises(ManifestError, match="not the manifest of"):
        AttestedMmapDataset(tokens, manifest=other / MANIFEST)


def test_manifest_insisted_on_but_missing(tokens: Path) -> None:
    with pytest.raises(ManifestError, match="nowhere"):
        AttestedMmapDataset(tokens, record_length=L, manifest=tokens / "nowhere.palm-manifest")


def test_manifest_none_reads_without(tokens: Path) -> None:
    measure.measure(tokens, record_length=L)
    assert AttestedMmapDataset(tokens, record_length=L, manifest=None).manifest is None


def test_arguments_that_contradict_the_manifest(tokens: Path) -> None:
    measure.measure(tokens, record_length=L)
    with pytest.raises(DataError, match="records of 8 elements"):
        AttestedMmapDataset(tokens, record_length=8)
    with pytest.raises(DataError, match="expected uint8 elements"):
        AttestedMmapDataset(tokens, token_dtype=BYTE)


def test_salt(tokens: Path) -> None:
    plain = measure.measure(tokens, record_length=L)
    salted = measure.measure(tokens, record_length=L, salt=b"a secret of salt")
    assert salted.salted
    assert plain.digests_root != salted.digests_root
    assert {shard.sha256 for shard in salted.shards} == {None}
    assert len(AttestedMmapDataset(tokens, salt=b"a secret of salt").__getitems__(list(range(123)))) == 123
    with pytest.raises(ManifestError, match="with a salt"):
        AttestedMmapDataset(tokens)
    with pytest.raises(RecordError, match="another salt"):
        AttestedMmapDataset(tokens, salt=b"some other salt!")[0]
    measure.measure(tokens, record_length=L)
    with pytest.raises(ManifestError, match="without a salt"):
        AttestedMmapDataset(tokens, salt=b"a secret of salt")


# Copies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_manifest", [False, True])
def test_pickling_opens_the_files_again(tokens: Path, *, with_manifest: bool) -> None:
    if with_manifest:
        measure.measure(tokens, record_length=L)
    data = AttestedMmapDataset(tokens, record_length=L)
    data[0]
    for again in (
        pickle.loads(pickle.dumps(data)),  # noqa: S301 (bytes this test made)
        copy.deepcopy(data),
        pickle.loads(pickle.dumps(Subset(data, [0]))).dataset,  # noqa: S301 (bytes this test made)
    ):
        assert again.uid == data.uid
        assert again.manifest == data.manifest
        assert torch.equal(again[122], data[122])
    assert len(pickle.dumps(data)) < 8000  # the digests stay in their file


def test_pickled_copy_refuses_files_that_changed_their_size(tokens: Path) -> None:
    data = pickle.dumps(AttestedMmapDataset(tokens, record_length=L))
    (tokens / "part-2.bin").write_bytes(bytes(2 * L))
    with pytest.raises(DataError, match="changed while"):
        pickle.loads(data)  # noqa: S301 (bytes this test made)


def test_pickled_copy_refuses_another_manifest(tokens: Path) -> None:
    measure.measure(tokens, record_length=L)
    data = pickle.dumps(AttestedMmapDataset(tokens))
    flip(tokens / "part-0.bin", 0)
    measure.measure(tokens, record_length=L)
    with pytest.raises(ManifestError, match="on its way"):
        pickle.loads(data)  # noqa: S301 (bytes this test made)


def test_pickled_copy_keeps_the_private_digests(tokens: Path) -> None:
    measure.measure(tokens, record_length=L)
    data = pickle.dumps(AttestedMmapDataset(tokens))
    path = tokens / MANIFEST
    flip(path, path.stat().st_size - 1)
    with pytest.raises(ManifestError, match="rewritten after"):
        pickle.loads(data)[122]  # noqa: S301 (bytes this test made)


def test_opened_lists_what_is_alive_once(tokens: Path) -> None:
    gc.collect()
    before = len(open_datasets.opened())
    first = AttestedMmapDataset(tokens, record_length=L)
    second = AttestedMmapDataset(tokens, record_length=L)
    clone = copy.deepcopy(first)
    assert first.uid != second.uid
    assert [data.uid for data in open_datasets.opened()[before:]] == [first.uid, second.uid]
    del first
    assert clone in open_datasets.opened()
    del clone, second
    gc.collect()
    assert len(open_datasets.opened()) == before


def test_manifest_path_for_files_and_folders(tokens: Path) -> None:
    assert manifest_file.path_beside(tokens) == tokens / MANIFEST
    assert manifest_file.path_beside(tokens / "part-0.bin") == tokens / "part-0.bin.palm-manifest"


def test_a_dtype_that_is_none_of_torchs(tokens: Path) -> None:
    with pytest.raises(DataError, match=r"expected a torch\.dtype"):
        AttestedMmapDataset(tokens, record_length=16, dtype="int64")  # type: ignore[arg-type]
