from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from palm_torch.data import shards
from palm_torch.data.formats import table
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

W = table.Wanted


def opened(path: Path, **wanted: Any) -> list[shards.ShardFile]:
    return shards.open_all(path, W(**wanted))


def test_the_table_is_the_list_of_formats() -> None:
    assert set(table.FORMATS) == {
        module.__name__.rpartition(".")[2].replace("raw", "bin") for module in shards.FORMAT_MODULES
    }


def test_raw_records(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(range(32)))
    (file,) = opened(tmp_path, record_length=4)
    assert file.view.layout == table.Layout("bin", "uint16", (4,))
    assert (file.view.records, file.size_bytes, file.view.layout.record_bytes) == (4, 32, 8)
    assert bytes(file.view.buffer) == bytes(range(32))


def test_npy_rows_and_flat(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(12, dtype=np.int32).reshape(3, 4))
    (file,) = opened(tmp_path / "a.npy")
    assert file.view.layout == table.Layout("npy", "int32", (4,))
    assert bytes(file.view.buffer) == np.arange(12, dtype=np.int32).tobytes()
    np.save(tmp_path / "b.npy", np.arange(12, dtype=np.int32))
    (file,) = opened(tmp_path / "b.npy", record_length=3)
    assert (file.view.records, file.view.layout.shape) == (4, (3,))


def test_shards_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.bin", "a10.bin", "a2.bin", ".hidden.bin", "notes.txt", "Z.bin"):
        (tmp_path / name).write_bytes(bytes(4))
    (tmp_path / "sub.bin").mkdir()
    assert [file.name for file in opened(tmp_path, record_length=2)] == [
        "Z.bin",
        "a10.bin",
        "a2.bin",
        "b.bin",
    ]


def fortran(path: Path) -> None:
    np.save(path / "a.npy", np.asfortranarray(np.ones((2, 3), np.int32)))


def objects(path: Path) -> None:
    np.save(path / "a.npy", np.array([{}, []], dtype=object), allow_pickle=True)


def truncated(path: Path) -> None:
    np.save(path / "a.npy", np.ones((4, 3), np.int32))
    data = (path / "a.npy").read_bytes()
    (path / "a.npy").write_bytes(data[:-12])


def dtypes_differ(path: Path) -> None:
    np.save(path / "a.npy", np.ones((2, 3), np.int32))
    np.save(path / "b.npy", np.ones((2, 3), np.int64))


def mixed(path: Path) -> None:
    np.save(path / "a.npy", np.ones((2, 3), np.int32))
    (path / "b.bin").write_bytes(bytes(4))


def link_out(path: Path) -> None:
    outside = path.parent / f"{path.name}-outside"
    outside.mkdir()
    (outside / "a.bin").write_bytes(bytes(4))
    (path / "a.bin").symlink_to(outside / "a.bin")


def npy(header: str) -> Any:
    """A NumPy file whose header is any text, with sixteen bytes behind it."""
    encoded = header.encode("latin-1")
    head = b"\x93NUMPY\x01\x00" + len(encoded).to_bytes(2, "little")
    return raw_bytes(head + encoded + bytes(16), "a.npy")


def raw_bytes(data: bytes, name: str = "a.bin") -> Any:
    return lambda path: (path / name).write_bytes(data)


def saved(array: Any) -> Any:
    return lambda path: np.save(path / "a.npy", array)


@pytest.mark.parametrize(
    ("make", "wanted", "says"),
    [
        (lambda _: None, {}, "no dataset files"),
        (raw_bytes(b""), {"record_length": 2}, "empty shard"),
        (raw_bytes(bytes(4)), {}, "record_length"),
        (raw_bytes(bytes(11)), {"record_length": 2}, "3 bytes over"),
        (raw_bytes(bytes(3)), {"record_length": 2}, "0 bin records.*3 bytes over"),
        (raw_bytes(bytes(4)), {"record_length": 0}, "at least 1"),
        (raw_bytes(bytes(4)), {"record_length": 2, "dtype": "object"}, "got 'object'"),
        (raw_bytes(b"", "a.npy"), {}, "empty shard"),
        (raw_bytes(b"hello" * 30, "a.npy"), {}, "not a .npy"),
        (raw_bytes(b"\x93NUMPY\x03\x00" + bytes(90), "a.npy"), {}, "version"),
        (raw_bytes(b"\x93NUMPY\x01\x00\x10\x00{'descr': }     \n", "a.npy"), {}, "not a .npy"),
        (npy("{'descr': '<i4', 'fortran_order': False, 'shape': (-2, -2)}"), {}, "not a .npy"),
        (npy("{'descr': '<i4', 'fortran_order': False, 'shape': (4)}"), {}, "its shape is no tuple"),
        (npy("{'descr': '<i4', 'fortran_order': False, 'shape': (2, 2), } \x0b"), {}, "not a .npy"),
        (npy("{'descr': '<i4', 'fortran_order': False, 'shape': (04, 1)}"), {}, "not a .npy"),
        (npy("{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (4,)}"), {}, "expected numbers"),
        (npy("{'descr': '', 'fortran_order': False, 'shape': (4,)}"), {}, "expected numbers"),
        (raw_bytes(b"\x93NUMPY\x01\x00\xff\x00{'descr'", "a.npy"), {}, "not a .npy"),
        (raw_bytes(b"\x93NUMPY\x01", "a.npy"), {}, "version"),
        (saved(np.ones(6, np.int32)), {}, "flat array"),
        (saved(np.ones(7, np.int32)), {"record_length": 2}, "4 bytes over"),
        (saved(np.int32(1)), {}, "single number"),
        (saved(np.ones((0, 3), np.int32)), {}, "empty shard"),
        (saved(np.ones((2, 3), ">i4")), {}, "little-endian"),
        (saved(np.array(["a", "b"])), {}, "expected numbers"),
        (saved(np.ones((2, 3), np.int32)), {"record_length": 4}, "rows of"),
        (saved(np.ones((2, 3), np.int32)), {"dtype": "int64"}, "expected elements of type int64, got int32"),
        (fortran, {}, "Fortran"),
        (objects, {}, "never unpickled"),
        (truncated, {}, "after the header"),
        (dtypes_differ, {}, "as in .*a.npy, got npy records of int64"),
        (mixed, {"record_length": 2}, ".bin and .npy"),
        (link_out, {"record_length": 2}, "leads out"),
    ],
)
def test_bad_input(tmp_path: Path, make: Any, wanted: Any, says: str) -> None:
    make(tmp_path)
    with pytest.raises(DataError, match=says):
        opened(tmp_path, **wanted)


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 2), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 2)}",
        "{'descr':'<i4','fortran_order':False,'shape':(2,2)}",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (2, 2,), }   \n",
    ],
)
def test_headers_of_other_writers(tmp_path: Path, header: str) -> None:
    npy(header)(tmp_path)
    (file,) = opened(tmp_path)
    assert (file.view.records, file.view.layout.shape) == (2, (2,))


@pytest.mark.parametrize("dtype", sorted(table.ELEMENT_TYPES))
@pytest.mark.parametrize("version", [(1, 0), (2, 0)])
def test_every_element_type_in_both_versions(tmp_path: Path, dtype: str, version: tuple[int, int]) -> None:
    array = np.arange(6).astype(dtype).reshape(2, 3)
    with (tmp_path / "a.npy").open("wb") as stream:
        np.lib.format.write_array(stream, array, version=version)
    (file,) = opened(tmp_path)
    assert file.view.layout == table.Layout("npy", dtype, (3,))
    assert bytes(file.view.buffer) == array.tobytes()


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        opened(tmp_path / "nowhere")


def test_file_of_an_unknown_format(tmp_path: Path) -> None:
    (tmp_path / "a.xyz").write_bytes(b"x")
    with pytest.raises(DataError, match=r"end in \.arrow, \.bin, \.jsonl, .*\.npy"):
        opened(tmp_path / "a.xyz")


def test_a_named_format_goes_before_the_names_of_files(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 3), np.int32))
    (tmp_path / "b.bin").write_bytes(bytes(4))
    (tmp_path / "tokens").write_bytes(bytes(6))
    (file,) = opened(tmp_path, record_length=1, format="bin")
    assert (file.name, file.view.records) == ("b.bin", 2)
    (file,) = opened(tmp_path / "tokens", record_length=1, format="bin")
    assert (file.name, file.view.records) == ("tokens", 3)
    with pytest.raises(DataError, match=r"expected names that end in \.jsonl"):
        opened(tmp_path, format="jsonl")
    with pytest.raises(DataError, match=r"format: expected one of .*, got 'tar'"):
        opened(tmp_path, format="tar")
