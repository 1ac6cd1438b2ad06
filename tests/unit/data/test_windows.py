from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from any_data import digests_of
from recording import recording

from palm_torch.commit import records
from palm_torch.data import measure
from palm_torch.data.formats.chunks import CHUNK_BYTES
from palm_torch.data.loader import DataLoader
from palm_torch.data.windows import AttestedWindows
from palm_torch.errors import DataError, RecordError

ELEMENTS = 9000


@pytest.fixture
def tokens() -> np.ndarray[Any, Any]:
    return np.random.default_rng(5).integers(0, 60_000, ELEMENTS).astype(np.uint16)


@pytest.fixture
def path(tmp_path: Path, tokens: np.ndarray[Any, Any]) -> Path:
    tokens.tofile(tmp_path / "a.bin")
    return tmp_path / "a.bin"


def touched(start: int, stop: int) -> list[int]:
    return list(range(start // CHUNK_BYTES, (stop - 1) // CHUNK_BYTES + 1))


@pytest.mark.parametrize(
    ("length", "stride"), [(1, 1), (64, 1), (64, 64), (100, 7), (5000, 3999), (ELEMENTS, 1)]
)
def test_windows_are_slices(path: Path, tokens: np.ndarray[Any, Any], length: int, stride: int) -> None:
    data = AttestedWindows(path, length, stride=stride)
    expected = np.lib.stride_tricks.sliding_window_view(tokens, length)[::stride]
    assert len(data) == len(expected)
    for number in {0, len(data) // 2, len(data) - 1, -1}:
        got = data[number]
        assert isinstance(got, torch.Tensor)
        assert got.tolist() == expected[number].tolist()
        assert got.dtype == torch.int64


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_delivers_the_chunks_a_window_touches(
    path: Path, tokens: np.ndarray[Any, Any], workers: int
) -> None:
    data = AttestedWindows(path, 65, stride=30, targets=True)
    starts = []
    with recording() as session:
        for x, y in DataLoader(data, batch_size=4, num_workers=workers):
            assert x.shape[1] == y.shape[1] == 64
            assert torch.equal(x[:, 1:], y[:, :-1])
            starts.extend(x[:, 0].tolist())
    assert starts == [int(tokens[number * 30]) for number in range(len(data))]
    expected = [at for number in range(len(data)) for at in touched(number * 60, number * 60 + 130)]
    assert session.indices(data.uid) == expected
    whole = tokens.tobytes()
    digests = [records.record_digest(whole[at * CHUNK_BYTES : (at + 1) * CHUNK_BYTES]) for at in expected]
    assert digests_of(session.batches) == digests
    assert all(reads.exact for (reads,) in session.batches)


@pytest.mark.parametrize(
    "dtype", [None, torch.int32, torch.int64, torch.float32, torch.bfloat16, torch.uint16, torch.float64]
)
@pytest.mark.parametrize("targets", [False, True])
def test_batches_are_those_that_the_default_collate_makes(path: Path, dtype: Any, *, targets: bool) -> None:
    data = AttestedWindows(path, 9, dtype=dtype, targets=targets)
    singly = [data[number] for number in range(4)]
    batch = next(iter(DataLoader(data, batch_size=4)))
    again = torch.utils.data.default_collate(singly)
    for one, other in zip(batch if targets else [batch], again if targets else [again], strict=True):
        assert torch.equal(one, other)
        assert one.dtype == (dtype or torch.uint16)


def test_with_a_manifest_a_changed_chunk_stops_the_run(path: Path) -> None:
    measure.measure(path, format="chunks")
    data = AttestedWindows(path, 64)
    assert data.manifest is not None
    assert data.info.records == 5
    with path.open("r+b") as stream:
        stream.seek(CHUNK_BYTES)
        stream.write(b"changed")
    data[0]
    with pytest.raises(RecordError, match="chunk 1"):
        data.__getitems__([0, 2048])


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.uint8])
def test_a_flat_array_tells_its_type_by_its_verified_header(tmp_path: Path, dtype: Any) -> None:
    tokens = np.arange(5000).astype(dtype)
    np.save(tmp_path / "a.npy", tokens)
    data = AttestedWindows(tmp_path / "a.npy", 10, stride=3)
    assert len(data) == (5000 - 10) // 3 + 1
    assert data[700].tolist() == tokens[2100:2110].tolist()
    with pytest.raises(DataError, match="expected elements of type int64"):
        AttestedWindows(tmp_path / "a.npy", 10, token_dtype="int64")  # noqa: S106 (a type)


def test_a_header_that_the_manifest_does_not_know_is_not_read(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(5000, dtype=np.uint16))
    measure.measure(tmp_path / "a.npy", format="chunks")
    data = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(data.replace(b"<u2", b"<i2"))
    with pytest.raises(RecordError, match="chunk 0"):
        AttestedWindows(tmp_path / "a.npy", 10)


def test_arrays_that_are_no_row_of_numbers_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    for array, says in [
        (np.zeros((3, 4)), "expected a flat array, got one of shape"),
        (np.zeros((1,) * 33), "expected an array of at most 32 axes, got 33"),
        (np.zeros(4, ">i4"), "expected little-endian elements"),
        (np.array(["a"]), "expected numbers"),
    ]:
        np.save(file, array)
        with pytest.raises(DataError, match=says):
            AttestedWindows(file, 1)
    file.write_bytes(b"no array at all")
    with pytest.raises(DataError, match=r"not a \.npy file"):
        AttestedWindows(file, 1)
    np.save(file, np.zeros(9))
    file.write_bytes(file.read_bytes() + b"1")
    with pytest.raises(DataError, match="expected 9 elements after the header"):
        AttestedWindows(file, 1)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"length": 0}, "length: expected at least 1 element, got 0"),
        ({"length": 3, "stride": 0}, "stride: expected at least 1"),
        ({"length": ELEMENTS + 1}, "expected at least one window of 9001, got 9000 elements"),
        ({"length": 3, "token_dtype": "int7"}, "token_dtype: expected one of"),
        ({"length": 3, "dtype": "int64"}, "dtype: expected a torch.dtype"),
        ({"length": 3, "token_dtype": "float32", "dtype": torch.int64}, "not all of their values fit"),
        ({"length": 3, "token_dtype": "uint16", "dtype": torch.int16}, "not all of their values fit"),
        ({"length": 3, "token_dtype": "uint16", "dtype": torch.float16}, "not all of their values fit"),
        ({"length": 3, "token_dtype": "int32", "dtype": torch.int16}, "convert in the loop what is known"),
        ({"length": 3, "token_dtype": "bfloat16"}, "of types that NumPy has"),
        ({"length": "3"}, "length: expected at least 1 element, got '3'"),
    ],
)
def test_what_cannot_be_is_refused(path: Path, words: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        AttestedWindows(path, words.pop("length"), **words)


@pytest.mark.parametrize("name", ["a.safetensors", "a.Parquet", "a.jsonl", "a.arrow"])
def test_files_of_other_formats_are_no_row_of_elements(path: Path, name: str) -> None:
    path.rename(path.with_name(name))
    with pytest.raises(DataError, match=f"expected a file of elements .* got {Path(name).suffix.lower()}"):
        AttestedWindows(path.with_name(name), 3)


def test_an_array_is_one_however_its_name_is_spelled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(9, dtype=np.uint16))
    (tmp_path / "a.npy").rename(tmp_path / "A.NPY")
    assert AttestedWindows(tmp_path / "A.NPY", 3)[1].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "head",
    [
        "{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (4,), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (-4,), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (4.0,), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (True,), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (" + "9" * 5000 + ",), }",
        "{'descr': ',,', 'fortran_order': False, 'shape': (4,), }",
        "{'descr': 'i4:::', 'fortran_order': False, 'shape': (4,), }",
        "{'descr': (" + "(" * 200,
        "{" * 60,
        "-" * 6000 + "1",
    ],
)
@pytest.mark.parametrize("version", [1, 2, 3])
def test_headers_that_are_none(tmp_path: Path, head: str, version: int) -> None:
    size = len(head).to_bytes(2 if version == 1 else 4, "little")
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY" + bytes([version, 0]) + size + head.encode() + bytes(16))
    with pytest.raises(DataError):
        AttestedWindows(tmp_path / "a.npy", 2)


WIDE: Any = {"token_dtype": "uint64"}


def test_tokens_beyond_what_the_type_holds_do_not_wrap_around(tmp_path: Path) -> None:
    np.array([1, 2, 3, 2**63, 5], np.uint64).tofile(tmp_path / "a.bin")
    data = AttestedWindows(tmp_path / "a.bin", 3, **WIDE)
    assert data[0].tolist() == [1, 2, 3]
    with pytest.raises(DataError, match=r"an element of uint64 is 2\^63 or more"):
        data[1]
    assert AttestedWindows(tmp_path / "a.bin", 3, dtype=None, **WIDE)[1].dtype == torch.uint64


def test_a_ragged_file_is_refused(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b"1")
    with pytest.raises(
        DataError, match="length is not a multiple of the element: 9000 elements of uint16 and 1"
    ):
        AttestedWindows(path, 3)


def test_indices_are_checked(path: Path) -> None:
    data = AttestedWindows(path, 8)
    assert data.__getitems__([]) == []
    for number in (len(data), -len(data) - 1):
        with pytest.raises(IndexError, match="of 8993"):
            data[number]
    with pytest.raises(TypeError):
        data[1.5]  # type: ignore[index]


def test_a_copy_is_the_same_dataset(path: Path) -> None:
    data = AttestedWindows(path, 8)
    copy = pickle.loads(pickle.dumps(data))  # noqa: S301 (our own bytes)
    assert copy.uid == data.uid
    assert torch.equal(copy[5], data[5])
