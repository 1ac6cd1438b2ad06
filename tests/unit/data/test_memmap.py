from __future__ import annotations

import gc
import os
import pickle
from typing import TYPE_CHECKING, Any

import any_data
import numpy as np
import pytest
import torch
from any_data import digests_of
from recording import recording
from torch.utils.data import Dataset

from palm_torch.commit import multiset, records
from palm_torch.data import chunks, ledger, measure, open_datasets
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.formats.chunks import CHUNK_BYTES, manifest_path
from palm_torch.data.loader import DataLoader
from palm_torch.data.memmap import AttestedMemmap, memmap
from palm_torch.errors import DataError, ManifestError, RecordError

if TYPE_CHECKING:
    from pathlib import Path

ELEMENTS = 10_001


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "train.bin"
    np.random.default_rng(3).integers(0, 50_000, ELEMENTS).astype(np.uint16).tofile(file)
    return file


@pytest.fixture
def plain(path: Path) -> np.ndarray[Any, Any]:
    return np.fromfile(path, np.uint16)


def chunk_digests(path: Path, numbers: list[int]) -> list[bytes]:
    data = path.read_bytes()
    return [records.record_digest(data[at * CHUNK_BYTES : (at + 1) * CHUNK_BYTES]) for at in numbers]


@pytest.mark.parametrize(
    "key",
    [
        slice(0, 10), slice(None), slice(5, 5), slice(7, 3), slice(-9, None), slice(2040, 2060),
        slice(1, 9000, 3),
        slice(None, None, -1), slice(9000, 1, -4000), slice(0, None, 4096), slice(ELEMENTS, None),
        slice(0, 10**9),
        slice(torch.tensor(3), torch.tensor(9)), 0, -1, 5000, np.int64(7), torch.tensor(7), (), (4,),
    ],
    ids=str,
)  # fmt: skip
def test_reads_what_numpy_reads(path: Path, plain: np.ndarray[Any, Any], key: Any) -> None:
    data = memmap(path, np.uint16)
    got, expected = data[key], plain[key]
    assert type(got) is type(expected)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    "key", [3, -1, slice(2, 9), slice(90, 2, -7), (3, 4), (slice(1, 5), 2), (-1, slice(1, 4))]
)
def test_rows_of_an_array_that_begins_anywhere(path: Path, key: Any) -> None:
    ours = memmap(path, np.float32, "r", 6, (99, 7))
    theirs = np.memmap(path, np.float32, "r", 6, (99, 7))
    np.testing.assert_array_equal(ours[key], theirs[key])
    assert (ours.shape, ours.ndim, ours.size, ours.itemsize, ours.nbytes, len(ours)) == (
        (99, 7),
        2,
        693,
        4,
        2772,
        99,
    )
    np.testing.assert_array_equal(np.asarray(ours), theirs)


def test_signature_is_numpys(path: Path) -> None:
    data = memmap(path, dtype="<u2", mode="r", offset=2, shape=12, order="C")
    assert data.shape == (12,)
    assert memmap(str(path)).dtype == np.uint8
    assert memmap(path, np.uint16, shape=[3, 4]).shape == (3, 4)


def test_chunks_are_what_is_delivered(path: Path) -> None:
    data = memmap(path, np.uint16)
    with recording() as session:
        data[2047:2049]
        data[0]
        assert data[4:4].size == 0
        data[0 : 3 * 2048 : 4096]
    assert [np.frombuffer(batch[0].indices, "<i8").tolist() for batch in session.batches] == [
        [0, 1],
        [0],
        [0, 2],
    ]
    assert session.batches[0][0].dataset == data.uid
    assert digests_of(session.batches) == chunk_digests(path, [0, 1, 0, 0, 2])


def test_the_account_is_of_chunks(path: Path) -> None:
    measure.measure(path, format="chunks")
    accounts = []
    for manifest in ("auto", None):
        data = memmap(path, np.uint16, manifest=manifest)
        account = ledger.Ledger(open_datasets.info_of(data.uid))
        with recording() as session:
            data[:]
            data[3000:4000]
        for (reads,) in session.batches:
            account.add(reads, "train")
        accounts.append(account.claim()["train"].claim)
    assert accounts[0] == accounts[1]
    numbers = [0, 1, 2, 3, 4, 1]
    expected = any_data.product(chunk_digests(path, numbers))
    assert (accounts[0].multiset.state, accounts[0].multiset.count) == expected
    assert accounts[0].counts is not None
    assert (accounts[0].counts.least, accounts[0].counts.greatest) == (1, 2)


def test_what_is_read_is_private_and_can_be_written_to(path: Path, plain: np.ndarray[Any, Any]) -> None:
    data = memmap(path, np.uint16)
    got = data[3:9]
    got[:] = 0
    np.testing.assert_array_equal(data[3:9], plain[3:9])
    torch.from_numpy(data[3:9])  # read-only arrays would make torch warn


def test_the_same_file_is_one_dataset(path: Path) -> None:
    one, other = memmap(path, np.uint16), memmap(path.parent / "." / path.name, np.uint8, offset=1)
    assert one.uid == other.uid
    assert memmap(path, manifest=None).uid == one.uid  # there is none
    assert memmap(path, salt=b"1" * 16 * 16).uid != one.uid
    measure.measure(path, format="chunks")
    assert memmap(path).uid != one.uid
    assert memmap(path).manifest is not None


def test_a_file_that_was_replaced_is_another_dataset(path: Path) -> None:
    one = memmap(path)
    path.with_suffix(".new").write_bytes(path.read_bytes())
    path.with_suffix(".new").replace(path)
    assert memmap(path).uid != one.uid


def test_a_file_that_was_rewritten_and_measured_again_is_read_anew(path: Path) -> None:
    measure.measure(path, format="chunks")
    before = memmap(path, np.uint16)
    before[:]
    with path.open("r+b") as stream:
        stream.write(b"\1\2\3\4")
    measure.measure(path, format="chunks")
    after = memmap(path, np.uint16)
    assert after[:2].tobytes() == b"\1\2\3\4"
    assert after.manifest != before.manifest
    assert after.uid != before.uid


def test_without_a_manifest_a_rewritten_file_is_the_same_dataset_with_other_content(path: Path) -> None:
    before = memmap(path, np.uint16)
    before[:]
    os.utime(path, ns=(1, 1))
    with path.open("r+b") as stream:
        stream.write(b"\1\2\3\4")
    after = memmap(path, np.uint16)
    assert after[:2].tobytes() == b"\1\2\3\4"
    assert after.uid == before.uid


def test_files_that_nobody_holds_are_let_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "KEPT_FILES", 2)
    monkeypatch.setattr(chunks, "_kept_files", {})
    held = memmap(path)
    for number in range(8):
        other = path.with_name(f"{number}.bin")
        other.write_bytes(b"other")
        memmap(other)[:]
    gc.collect()
    alive = [item.info.path for item in open_datasets.opened()]
    assert len([one for one in alive if one.parent == path.parent and one != path]) <= 2
    assert memmap(path)._file is held._file


def test_a_changed_chunk_is_named(path: Path) -> None:
    measure.measure(path, format="chunks")
    data = memmap(path, np.uint16)
    with path.open("r+b") as stream:
        stream.seek(2 * CHUNK_BYTES + 5)
        stream.write(b"changed")
    data[:2048]
    with (
        recording() as session,
        pytest.raises(RecordError, match=r"chunk 2 \(bytes 8192 to 12287 of the file\)"),
    ):
        data[:]
    assert session.batches == []


def test_a_verified_copy_is_used_again_whatever_becomes_of_the_file(path: Path) -> None:
    measure.measure(path, format="chunks")
    data = memmap(path, np.uint16)
    before = data[:100].copy()
    path.write_bytes(bytes(path.stat().st_size))
    np.testing.assert_array_equal(data[:100], before)
    with pytest.raises(RecordError):
        data[2048:2050]


def test_kept_copies_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "KEPT_CHUNKS", 4)
    monkeypatch.setattr(chunks, "_kept_chunks", {})
    (tmp_path / "a").write_bytes(os.urandom(20 * CHUNK_BYTES))
    data = memmap(tmp_path / "a")
    assert data[:].tobytes() == data[:].tobytes() == (tmp_path / "a").read_bytes()
    assert len(chunks._kept_chunks) <= 4


def test_salted_manifest(path: Path) -> None:
    measure.measure(path, format="chunks", salt=b"1" * 16 * 16)
    memmap(path, salt=b"1" * 16 * 16)[:]
    with pytest.raises(RecordError, match="another salt"):
        memmap(path, salt=b"2" * 16 * 16)[:]
    with pytest.raises(ManifestError, match="made with a salt, but none was given"):
        memmap(path)


def test_another_manifest_is_refused(path: Path) -> None:
    measure.measure(path, record_length=73)
    with pytest.raises(ManifestError, match="expected a manifest of 'chunks', got one of 'bin'"):
        memmap(path, manifest=path.with_name("train.bin.palm-manifest"))
    measure.measure(path, format="chunks")
    with path.open("ab") as stream:
        stream.write(b"12")
    with pytest.raises(ManifestError, match=r"expected \[20002\] bytes, got 20004"):
        memmap(path)
    with path.open("ab") as stream:
        stream.write(bytes(CHUNK_BYTES))
    with pytest.raises(ManifestError, match="expected 5 records, got 6"):
        memmap(path)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mode": "r+"}, "expected mode 'r' and order 'C', got 'r\\+'"),
        ({"order": "F"}, "expected mode 'r' and order 'C'"),
        ({"dtype": object}, "plain bytes, got object"),
        ({"dtype": np.uint32}, "20002 bytes are no whole number of uint32"),
        ({"offset": 10**6}, "offset: expected 0 to 20002"),
        ({"offset": -1}, "offset: expected 0 to 20002"),
        ({"shape": (5, 10**6)}, "does not fit into 20002 bytes"),
        ({"shape": ()}, "does not fit"),
        ({"shape": -1}, "does not fit"),
        ({"shape": (5.0,)}, "offset and shape in whole numbers"),
        ({"shape": "ab"}, "offset and shape in whole numbers"),
        ({"offset": 1.0}, "offset and shape in whole numbers"),
        ({"dtype": "nonsense"}, "expected a NumPy dtype"),
        ({"dtype": "u2,,"}, "expected a NumPy dtype"),
        ({"dtype": ("u2", 2)}, "plain bytes"),
    ],
)
def test_what_cannot_be_is_refused(path: Path, options: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        memmap(path, **options)


@pytest.mark.parametrize("shape", [np.int64(5), np.array([5]), [5], (np.int32(5),)])
def test_shapes_in_other_whole_numbers(path: Path, shape: Any) -> None:
    assert memmap(path, np.uint16, shape=shape)[:].shape == (5,)


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        memmap(tmp_path / "nothing")
    with pytest.raises(DataError, match="cannot be read"):
        memmap("a\0b")
    with pytest.raises(DataError, match="cannot be read: File name too long"):
        memmap("a" * 5000)
    (tmp_path / "empty").touch()
    with pytest.raises(DataError, match="empty shard"):
        memmap(tmp_path / "empty")


@pytest.mark.parametrize("key", [[1, 2], np.array([1]), None, ..., "a", 1.5])
def test_other_indices_are_refused(path: Path, key: Any) -> None:
    with pytest.raises(TypeError, match=r"read by numbers and slices along its first axis.*AttestedWindows"):
        memmap(path)[key]


def test_indices_out_of_bounds(path: Path) -> None:
    data = memmap(path)
    for key in (len(data), -len(data) - 1):
        with pytest.raises(IndexError):
            data[key]


def test_what_an_array_could_do_in_place_is_refused_by_name(path: Path) -> None:
    data = memmap(path, np.uint16)
    with pytest.raises(AttributeError, match=r"data\[a:b\]\.max.*np\.asarray\(data\)"):
        data.max()
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(data, copy=False)
    with pytest.raises(TypeError):
        data + 1  # type: ignore[operator]
    assert np.asarray(data, dtype=np.int64).dtype == np.int64
    assert repr(data) == f"AttestedMemmap('{path}', dtype=uint16, shape=(10001,))"


def test_empty_shapes(path: Path) -> None:
    with recording() as session:
        assert memmap(path, np.uint16, shape=(0, 4))[:].shape == (0, 4)
        assert memmap(path, np.uint16, shape=(4, 0))[1].shape == (0,)
    assert session.batches == []


class Slicing(Dataset[torch.Tensor]):
    """A dataset of one's own that slices the file, opened where it is constructed or where it is read."""

    def __init__(self, path: Path, *, lazily: bool) -> None:
        self.path = path
        self.data: AttestedMemmap = memmap(path, np.uint16)
        self.lazily = lazily

    def __len__(self) -> int:
        return 40

    def __getitem__(self, number: int) -> torch.Tensor:
        data = memmap(self.path, np.uint16) if self.lazily else self.data
        return torch.from_numpy(data[number * 200 : number * 200 + 64].astype(np.int64))


@pytest.mark.parametrize("lazily", [False, True])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_in_the_workers_of_a_loader(
    path: Path, plain: np.ndarray[Any, Any], method: str, *, lazily: bool
) -> None:
    data = Slicing(path, lazily=lazily)
    numbers = []
    with recording() as session:
        loader = DataLoader(data, batch_size=8, num_workers=1, multiprocessing_context=method)
        for batch in loader:
            numbers.extend(batch[:, 0].tolist())
            if len(numbers) == 16:
                break
    assert numbers == [int(plain[number * 200]) for number in range(16)]
    touched = [
        at for n in range(16) for at in range(n * 400 // CHUNK_BYTES, (n * 400 + 127) // CHUNK_BYTES + 1)
    ]
    assert session.indices(data.data.uid) == touched
    assert digests_of(session.batches) == chunk_digests(path, touched)


def test_a_copy_is_refused_if_the_file_changed_its_size(path: Path) -> None:
    for kind in (DataError, ManifestError):
        copy = pickle.dumps(memmap(path, np.uint16))
        assert pickle.loads(copy).uid == memmap(path, np.uint16).uid  # noqa: S301 (our own bytes)
        data = path.read_bytes()
        path.write_bytes(data[:-2])
        with pytest.raises(kind, match="changed while it was on its way"):
            pickle.loads(copy)  # noqa: S301 (our own bytes)
        path.write_bytes(data)
        measure.measure(path, format="chunks")


def test_the_manifest_is_that_of_plain_loops(path: Path) -> None:
    made = measure.measure(path, format="chunks")
    assert manifest_path(path).name == "train.bin.chunks.palm-manifest"
    assert (made.format, made.records, made.record_bytes, made.dtype) == ("chunks", 5, None, None)
    expected = multiset.MultisetHash()
    for digest in chunk_digests(path, list(range(5))):
        expected.add(digest)
    assert made.multiset.state == expected.state.hex()


def test_chunks_can_be_read_as_records_of_their_own(path: Path) -> None:
    made = measure.measure(path, format="chunks")
    data = AttestedMmapDataset(path, format="chunks")
    assert data.manifest == made
    assert bytes(data[4].numpy()) == path.read_bytes()[4 * CHUNK_BYTES :]
