from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import any_data
import numpy as np
import pytest
import torch
from any_data import ITEMS, AtOnce, Mapped, Stream, digest, digests_of, item
from recording import recording
from torch.utils.data import Subset, TensorDataset

from palm_torch.commit import manifest_file
from palm_torch.data import ledger, open_datasets
from palm_torch.data.generic import AttestedDataset
from palm_torch.data.loader import DataLoader
from palm_torch.errors import CoverageError, DataError, ManifestError, RecordError
from palm_torch.roles import Counts

if TYPE_CHECKING:
    from pathlib import Path


class Changing(Mapped):
    """A dataset one of whose items can be made another."""

    other: int | None = None

    def __getitem__(self, number: int) -> dict[str, Any]:
        return item(number + 1000 if number == self.other else number)


class Unspeakable(Mapped):
    def __getitem__(self, number: int) -> Any:
        return {"meta": [object()]} if number == 3 else item(number)


@pytest.mark.parametrize("inner", [Mapped, AtOnce])
def test_items_are_those_of_the_inner_dataset(inner: type[Mapped]) -> None:
    data: AttestedDataset[Any] = AttestedDataset(inner())
    assert len(data) == ITEMS
    assert data[-1]["y"] == ITEMS - 1
    with recording() as session:
        got = data.__getitems__([3, -1, 3])
        assert data.__getitems__([]) == []
    assert [one["y"] for one in got] == [3, ITEMS - 1, 3]
    assert session.indices(data.uid) == [3, ITEMS - 1, 3]
    assert digests_of(session.batches) == [digest(item(number)) for number in (3, ITEMS - 1, 3)]
    assert not session.batches[0][0].exact


def test_a_loader_says_that_batches_are_the_very_items() -> None:
    data: AttestedDataset[Any] = AttestedDataset(Mapped())
    with recording() as session:
        for batch in DataLoader(Subset(data, range(9)), batch_size=4, num_workers=1):
            assert torch.equal(batch["x"], torch.stack([item(int(y))["x"] for y in batch["y"]]))
    assert [len(reads.indices) // 8 for (reads,) in session.batches] == [4, 4, 1]
    assert all(reads.exact for (reads,) in session.batches)


def test_a_derived_class_may_do_otherwise() -> None:
    class Dropping(AttestedDataset[Any]):
        def __getitems__(self, indices: Any) -> list[Any]:
            return super().__getitems__(indices)[:1]

    with recording() as session:
        next(iter(DataLoader(Dropping(Mapped()), batch_size=4)))
    assert not session.batches[0][0].exact


def test_without_a_manifest_items_are_multiplied() -> None:
    data: AttestedDataset[Any] = AttestedDataset(Mapped())
    with recording() as session:
        data.__getitems__([1, 2, 2])
    account = ledger.Ledger(data.info)
    account.add(session.batches[0][0], "train")
    claim = account.claim()["train"].claim
    expected = any_data.product(digest(item(number)) for number in (1, 2, 2))
    assert (claim.multiset.state, claim.multiset.count) == expected
    assert isinstance(claim.counts, Counts)
    assert (claim.counts.distinct, claim.counts.greatest) == (2, 2)


def test_a_manifest_is_written_and_read(tmp_path: Path) -> None:
    written = AttestedDataset(AtOnce()).measure(tmp_path / "items.palm-manifest")
    assert (written.format, written.records, written.record_bytes, written.salted) == (
        "items",
        ITEMS,
        None,
        False,
    )
    assert [(shard.name, shard.records, shard.sha256) for shard in written.shards] == [("items", ITEMS, None)]
    found: list[bytes] = []
    manifest_file.read(tmp_path / "items.palm-manifest", each=found.append)
    assert b"".join(found) == b"".join(digest(item(number)) for number in range(ITEMS))
    data: AttestedDataset[Any] = AttestedDataset(Mapped(), manifest=tmp_path / "items.palm-manifest")
    assert data.manifest == written
    with recording() as session:
        data[5]
    assert session.batches[0][0].product == b""


def test_measuring_delivers_nothing(tmp_path: Path) -> None:
    inner: AttestedDataset[Any] = AttestedDataset(Mapped())
    with recording() as session:
        AttestedDataset(inner).measure(tmp_path / "m")
    assert session.batches == []


def test_a_changed_item_is_named_and_spoils_the_session(tmp_path: Path) -> None:
    inner = Changing()
    AttestedDataset(inner).measure(tmp_path / "m")
    data: AttestedDataset[Any] = AttestedDataset(inner, manifest=tmp_path / "m")
    inner.other = 7
    data[6]
    with (
        recording() as session,
        pytest.raises(RecordError, match=r"Changing@\w{8}\[7\] is not the item .*augmentation"),
    ):
        data.__getitems__([6, 7])
    assert session.batches == []


@pytest.mark.parametrize("workers", [0, 1])
def test_an_item_without_canonical_bytes_is_named(workers: int) -> None:
    data: AttestedDataset[Any] = AttestedDataset(Unspeakable())
    says = r"Unspeakable@\w{8}\[3\]: item\['meta'\]\[0\]: builtins\.object has no canonical bytes"
    with recording(), pytest.raises(DataError, match=says):
        for _ in DataLoader(data, batch_size=2, num_workers=workers):
            pass


def test_a_function_spells_what_has_no_spelling(tmp_path: Path) -> None:
    data: AttestedDataset[Any] = AttestedDataset(Unspeakable(), encode=encode)
    assert data[3]["meta"]
    written = data.measure(tmp_path / "m")
    assert written.format == "encoded"
    with pytest.raises(
        ManifestError, match="expected a manifest of 'items', got one of 'encoded': write one with"
    ):
        AttestedDataset(Mapped(), manifest=tmp_path / "m")


def encode(value: Any) -> bytes:
    return b"none" if "meta" in value else bytes([value["y"]])


def test_salts_are_kept_apart(tmp_path: Path) -> None:
    written = AttestedDataset(Mapped(), salt=b"1" * 16 * 16).measure(tmp_path / "m")
    assert written.salted
    AttestedDataset(Mapped(), salt=b"1" * 16 * 16, manifest=tmp_path / "m")[0]
    with pytest.raises(RecordError):
        AttestedDataset(Mapped(), salt=b"2" * 16 * 16, manifest=tmp_path / "m")[0]
    with pytest.raises(ManifestError, match="made with a salt, but none was given"):
        AttestedDataset(Mapped(), manifest=tmp_path / "m")


def test_a_manifest_of_another_length_is_refused(tmp_path: Path) -> None:
    AttestedDataset(Subset(Mapped(), range(5))).measure(tmp_path / "m")  # type: ignore[arg-type]
    with pytest.raises(ManifestError, match="expected 5 records, got 37"):
        AttestedDataset(Mapped(), manifest=tmp_path / "m")


@pytest.mark.parametrize(
    ("inner", "says"),
    [
        (Stream(), "expected a map-style dataset.*AttestedIterableDataset"),
        (object(), "expected a map-style dataset"),
        ([], "list: empty dataset"),
    ],
)
def test_what_is_no_map_style_dataset_is_refused(inner: object, says: str) -> None:
    with pytest.raises(DataError, match=says):
        AttestedDataset(inner)


def test_indices_are_checked() -> None:
    data: AttestedDataset[Any] = AttestedDataset(Mapped())
    with pytest.raises(IndexError, match="item 37 of 37"):
        data[ITEMS]
    with pytest.raises(TypeError):
        data["a"]  # type: ignore[index]


def test_a_batch_of_another_size_is_refused() -> None:
    class Short(Mapped):
        def __getitems__(self, numbers: list[int]) -> list[Any]:
            return [item(numbers[0])]

    with pytest.raises(DataError, match="expected 2 items, got 1"):
        AttestedDataset(Short()).__getitems__([1, 2])


def test_attributes_are_the_inner_datasets() -> None:
    data: AttestedDataset[Any] = AttestedDataset(TensorDataset(torch.zeros(2, 1)))
    assert data.tensors[0].shape == (2, 1)
    with pytest.raises(AttributeError, match="has no '_private'"):
        _ = data._private
    with pytest.raises(AttributeError):
        _ = data.nothing


def test_a_copy_is_the_same_dataset(tmp_path: Path) -> None:
    AttestedDataset(Mapped()).measure(tmp_path / "m")
    data: AttestedDataset[Any] = AttestedDataset(Mapped(), manifest=tmp_path / "m")
    copy = pickle.loads(pickle.dumps(data))  # noqa: S301 (our own bytes)
    assert copy.uid == data.uid
    assert copy[3]["y"] == 3
    assert open_datasets.info_of(data.uid).records == ITEMS


def test_a_stock_loader_with_workers_is_told_what_to_do() -> None:
    loader = torch.utils.data.DataLoader(AttestedDataset(Mapped()), num_workers=1)  # type: ignore[var-annotated]
    with pytest.raises(CoverageError, match=r"palm_torch\.DataLoader"):
        next(iter(loader))


def test_arrays_of_a_mapped_dataset_are_private(tmp_path: Path) -> None:
    rows = np.lib.format.open_memmap(tmp_path / "a.npy", mode="w+", dtype=np.int64, shape=(4, 2))
    data: AttestedDataset[Any] = AttestedDataset(rows)
    got = data[1]
    rows[1] = 9
    assert got.tolist() == [0, 0]


def test_datasets_of_hugging_face_and_their_transforms(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_dict({"a": [1, 2, 3], "text": ["x", "yy", ""], "v": [[1.0], [2.0], [3.0]]})
    plain: AttestedDataset[Any] = AttestedDataset(table)
    assert plain.column_names == ["a", "text", "v"]
    assert plain.__getitems__([0, 2]) == [
        {"a": 1, "text": "x", "v": [1.0]},
        {"a": 3, "text": "", "v": [3.0]},
    ]
    tensors: AttestedDataset[Any] = AttestedDataset(table.with_format("torch"))
    made: AttestedDataset[Any] = AttestedDataset(table.with_transform(lambda rows: {"n": rows["a"]}))
    for data in (plain, tensors, made):
        written = data.measure(tmp_path / "m")
        with recording() as session:
            got = list(DataLoader(data, batch_size=2, collate_fn=list))
        found = [digest(one) for batch in got for one in batch]
        assert digests_of(session.batches) == found
        assert (written.multiset.state, written.records) == any_data.product(found)
