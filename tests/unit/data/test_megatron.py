from __future__ import annotations

import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sequence_files
import torch

from palm_torch.commit import manifest_file, records
from palm_torch.data import measure, shards
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.formats import table
from palm_torch.errors import DataError, RecordError

if TYPE_CHECKING:
    from collections.abc import Callable

GOLDEN = Path(__file__).parents[2] / "vectors" / "megatron"
GOLDEN_SEQUENCES = [[1, 2, 3], [40], [5, 6, 7, 8, 9], [100, 101]]
SEQUENCES = [[1, 2, 3], [], [4], list(range(700)), [65_535]]


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    return sequence_files.write(tmp_path / "corpus_text", SEQUENCES)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "uint16", "float32"])
def test_what_megatron_wrote(dtype: str) -> None:
    data = AttestedMmapDataset(GOLDEN / f"{dtype}.bin", dtype=None, manifest=None)
    assert data.info.layout == table.Layout("megatron", dtype)
    assert [item.tolist() for item in data.__getitems__([0, 1, 2, 3])] == GOLDEN_SEQUENCES
    assert data[0].dtype == getattr(torch, dtype)


def test_every_name_of_a_pair_is_the_pair(pair: Path, tmp_path: Path) -> None:
    measured = measure.measure(pair)
    assert (measured.format, measured.dtype, measured.record_shape) == ("megatron", "uint16", None)
    for path in (pair, pair.with_suffix(".idx"), tmp_path / "corpus_text", tmp_path):
        data = AttestedMmapDataset(path)
        assert [data[number].tolist() for number in range(5)] == SEQUENCES
        assert (data.manifest == measured) == (path != tmp_path)
    assert shards.manifest_beside(tmp_path / "corpus_text") == manifest_file.path_beside(pair)


def test_a_record_is_the_bytes_of_a_sequence(pair: Path) -> None:
    (file,) = shards.open_all(pair, table.Wanted())
    assert file.view.copy(0) == bytes([1, 0, 2, 0, 3, 0])
    assert file.view.copy(1) == b""
    assert file.view.where(2) == "bytes 6 to 7 of the file, by its index"
    assert file.name == "corpus_text.bin"
    assert records.record_key() == records.record_key(kind=file.view.layout.kind)


def test_format_bin_reads_the_same_file_as_raw_elements(pair: Path) -> None:
    data = AttestedMmapDataset(pair, format="bin", record_length=5)
    assert data[0].tolist() == [1, 2, 3, 4, 0]
    measure.measure(pair)
    with pytest.raises(DataError, match="expected format bin, got megatron in the manifest"):
        AttestedMmapDataset(pair, format="bin", record_length=5)


def test_folder_of_pairs(tmp_path: Path) -> None:
    for name, first in (("b", 2), ("a", 1)):
        sequence_files.write(tmp_path / name, [[first], [first, first]])
    measure.measure(tmp_path)
    data = AttestedMmapDataset(tmp_path)
    assert [data[number].tolist() for number in range(-4, 0)] == [[1], [1, 1], [2], [2, 2]]
    again = pickle.loads(pickle.dumps(data))  # noqa: S301 (bytes this test made)
    assert [item.tolist() for item in again.__getitems__([3, 0])] == [[2, 2], [1]]


def test_dtype_and_targets_apply(pair: Path) -> None:
    data = AttestedMmapDataset(pair, targets=True, dtype=torch.bfloat16)
    x, y = data[0]
    assert (x.tolist(), y.tolist(), x.dtype) == ([1, 2], [2, 3], torch.bfloat16)
    assert AttestedMmapDataset(pair, dtype=None)[4].dtype == torch.uint16
    sequence_files.write(pair.with_name("f"), [[1]], "float32")
    with pytest.raises(DataError, match="dtype=None"):
        AttestedMmapDataset(pair.with_name("f.bin"))


def test_items_are_private_memory(tmp_path: Path) -> None:
    data = AttestedMmapDataset(sequence_files.write(tmp_path / "a", SEQUENCES, "int64"), dtype=None)
    item = data[0]
    item += 1
    assert data[0].tolist() == [1, 2, 3]


def test_a_changed_sequence_is_named(pair: Path) -> None:
    measure.measure(pair)
    data = AttestedMmapDataset(pair)
    content = bytearray(pair.read_bytes())
    content[6] ^= 1
    pair.write_bytes(content)
    with pytest.raises(
        RecordError, match=r"corpus_text\.bin: record 2 \(bytes 6 to 7 of the file, by its index\)"
    ):
        data.__getitems__([0, 2, 4])
    assert len(data.__getitems__([0, 1, 3])) == 3


def test_pairs_and_lone_files_are_not_mixed(tmp_path: Path) -> None:
    sequence_files.write(tmp_path / "a", [[1]])
    (tmp_path / "b.bin").write_bytes(bytes(4))
    with pytest.raises(DataError, match=r"b\.bin: has no \.idx"):
        AttestedMmapDataset(tmp_path)
    assert len(AttestedMmapDataset(tmp_path, format="bin", record_length=1)) == 3


def edited(**fields: Any) -> Callable[[Path], object]:
    def edit(pair: Path) -> None:
        told = {"lengths": [2, 1], "pointers": [0, 4]} | fields
        pair.write_bytes(bytes(6))
        pair.with_suffix(".idx").write_bytes(sequence_files.index(**told))

    return edit


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (edited(magic=b"MMIDIDX\0\1"), "expected an index that begins"),
        (edited(version=2), "version 1, got .*version 2"),
        (edited(code=0), "code of an element type, 1 to 8, got 0"),
        (edited(code=9), "got 9"),
        (edited(sequences=3), r"expected \d+ bytes for 3 sequences and 1 document bounds"),
        (edited(sequences=2**63), "sequences and 1 document"),
        (edited(lengths=[], pointers=[]), "for 0 sequences"),
        (edited(documents=[]), None),
        (edited(pointers=[0, 2]), "sequence 1: expected it at byte 4, .* got 1 elements at byte 2"),
        (edited(pointers=[4, 0]), "sequence 0: expected it at byte 0"),
        (edited(pointers=[0, 2**62]), "sequence 1: expected it at byte 4"),
        (edited(lengths=[-1, 4]), "sequence 0: expected it at byte 0.*got -1 elements"),
        (edited(lengths=[2, 2]), r"expected 8 bytes, as the sequences of corpus_text\.idx add up to, got 6"),
        (edited(lengths=[2, 0]), "expected 4 bytes"),
        (lambda pair: pair.with_suffix(".idx").write_bytes(b"MMIDIDX"), "at least 34 bytes, got 7"),
        (lambda pair: pair.with_suffix(".idx").write_bytes(b""), "empty shard"),
        (lambda pair: pair.write_bytes(b""), "empty shard"),
        (
            lambda pair: pair.with_suffix(".idx").write_bytes(
                pair.with_suffix(".idx").read_bytes() + bytes(5)
            ),
            "a mode per sequence",
        ),
    ],
)
def test_bad_index(pair: Path, make: Callable[[Path], object], says: str | None) -> None:
    make(pair)
    if says is None:
        assert len(AttestedMmapDataset(pair)) == 2
        return
    with pytest.raises(DataError, match=says):
        AttestedMmapDataset(pair)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"record_length": 4}, "pass format='bin'"),
        ({"token_dtype": "int32"}, "expected elements of type int32, got uint16 in the index"),
        ({"format": "jsonl"}, "is not JSON|no dataset|empty"),
    ],
)
def test_arguments_that_contradict_the_index(pair: Path, arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        AttestedMmapDataset(pair, **arguments)[3]


def test_format_megatron_needs_an_index(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(bytes(4))
    with pytest.raises(DataError, match=r"a\.idx: no such file"):
        AttestedMmapDataset(tmp_path / "a.bin", format="megatron")
