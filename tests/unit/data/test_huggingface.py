"""What `datasets` writes and holds is read as its own rows."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
import tables
import torch

from palm_torch.commit import manifest_file
from palm_torch.data import measure
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.formats import huggingface, row_decoder, table
from palm_torch.data.loader import DataLoader
from palm_torch.errors import DataError, RecordError

datasets = pytest.importorskip("datasets")

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = {"bytes": b"png", "path": None}


@pytest.fixture(autouse=True)
def _quietly() -> None:
    datasets.disable_progress_bars()


def made(count: int = 20) -> Any:
    return datasets.Dataset.from_list(
        [
            {"ids": list(range(at)), "text": f"text {at}", "label": at, "more": {"x": [at > 3]}}
            for at in range(count)
        ]
    )


def labels(rows: table.Rows) -> list[int]:
    decode = row_decoder.decoder(rows.layout)
    return [decode(copy)["label"] for copy in tables.copies(rows)]


@pytest.mark.parametrize("shards", [1, 3])
def test_a_saved_dataset_is_opened_as_it_was(tmp_path: Path, shards: int) -> None:
    made().shuffle(seed=1).save_to_disk(tmp_path / "d", num_shards=shards)
    data, theirs = AttestedMmapDataset(tmp_path / "d"), datasets.load_from_disk(tmp_path / "d")
    assert len(data) == len(theirs)
    for item, other in zip((data[at] for at in range(20)), theirs, strict=True):
        assert item["ids"].tolist() == other["ids"]
        assert (item["text"], item["label"]) == (other["text"], other["label"])
        assert item["more"]["x"].tolist() == other["more"]["x"]


def test_rows_in_memory_have_the_digests_of_the_saved_ones(tmp_path: Path) -> None:
    made().save_to_disk(tmp_path / "d", num_shards=2)
    manifest = measure.measure(tmp_path / "d")
    saved = datasets.load_from_disk(tmp_path / "d")
    assert manifest.columns == huggingface.rows_of(made()).layout.columns
    copies = [tables.copies(huggingface.rows_of(one)) for one in (made(), saved)]
    data = AttestedMmapDataset(tmp_path / "d")
    reader = data._items.reader  # type: ignore[attr-defined]
    assert copies[0] == copies[1] == reader.read(torch.arange(20).numpy())[0]


def test_a_dataset_at_hand_is_checked_against_the_manifest_of_the_saved_one(tmp_path: Path) -> None:
    made().save_to_disk(tmp_path / "d", num_shards=2)
    measure.measure(tmp_path / "d")
    manifest = manifest_file.path_beside(tmp_path / "d")
    loader = DataLoader(AttestedMmapDataset(made(), manifest=manifest), batch_size=None, num_workers=1)
    assert [item["label"] for item in loader] == [*range(20)]
    with pytest.raises(RecordError, match="record 0"):
        AttestedMmapDataset(made().select([1, *range(1, 20)]), manifest=manifest)[0]


def test_chosen_rows_are_read_in_their_order() -> None:
    whole = made()
    assert labels(huggingface.rows_of(whole.select([3, 1, 3]))) == [3, 1, 3]
    assert labels(huggingface.rows_of(whole.select(range(5, 9)))) == [5, 6, 7, 8]
    shuffled = whole.shuffle(seed=2).filter(lambda row: row["label"] % 2 == 0)
    assert labels(huggingface.rows_of(shuffled)) == shuffled["label"][:]
    twice = datasets.concatenate_datasets([whole.select([4, 2]), whole])
    assert labels(huggingface.rows_of(twice)) == [4, 2, *range(20)]


def test_columns_left_out_are_not_in_the_rows() -> None:
    rows = huggingface.rows_of(made().select_columns(["label"]))
    assert [column.name for column in rows.layout.columns or ()] == ["label"]


def test_transforms_and_formats_that_hide_columns_are_refused() -> None:
    with pytest.raises(DataError, match=r"before any transform.*with_format\(None\).*AttestedDataset"):
        huggingface.rows_of(made().with_transform(lambda batch: batch))
    with pytest.raises(DataError, match=r"select_columns"):
        huggingface.rows_of(made().with_format("numpy", columns=["label"]))
    with pytest.raises(DataError, match=r"expected a datasets\.Dataset, got DatasetDict"):
        huggingface.rows_of(datasets.DatasetDict({"train": made()}))
    assert labels(huggingface.rows_of(made().with_format("torch"))) == [*range(20)]


def test_a_dataset_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="empty"):
        huggingface.rows_of(made().select([]))


def test_several_splits_are_refused_and_named(tmp_path: Path) -> None:
    datasets.DatasetDict({"train": made(), "test": made()}).save_to_disk(tmp_path / "d")
    with pytest.raises(DataError, match=r"open one of its splits \(train, test\)"):
        AttestedMmapDataset(tmp_path / "d")
    assert len(AttestedMmapDataset(tmp_path / "d" / "test")) == 20


def test_rows_travel_to_other_processes(tmp_path: Path) -> None:
    made().save_to_disk(tmp_path / "d")
    for dataset in (made(), datasets.load_from_disk(tmp_path / "d").select([5, 2])):
        rows = huggingface.rows_of(dataset)
        again = pickle.loads(pickle.dumps(rows))  # noqa: S301 (made one line before)
        assert tables.copies(again) == tables.copies(rows)


def test_an_index_that_was_rewritten_leads_nowhere_else() -> None:
    dataset = made().select([3, 1])
    rows = huggingface.rows_of(dataset)
    memory = dataset._indices.table.column(0).chunks[0].buffers()[1]
    import ctypes

    ctypes.memset(memory.address, 0xFF, 8)
    with pytest.raises(DataError, match="its index was changed"):
        rows.copy(0)
    with pytest.raises(DataError, match="no record 2"):
        rows.copy(2)


def test_images_are_their_bytes() -> None:
    whole = pa.table({"image": pa.array([IMAGE], pa.struct([("bytes", pa.binary()), ("path", pa.string())]))})
    rows = huggingface.rows_of(datasets.Dataset(whole, info=datasets.DatasetInfo(features=None)))
    assert str(rows.layout) == "arrow rows of (image: struct<bytes: binary, path: string>)"
    assert row_decoder.decoder(rows.layout)(rows.copy(0)) == {"image": IMAGE}
