"""Records of any length behave in samplers, workers and loaders as fixed ones do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import sequence_files
import torch
from recording import recording
from torch.utils.data import Subset, WeightedRandomSampler

import palm_torch
from palm_torch.commit import records
from palm_torch.data import measure
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.errors import CoverageError, RecordError

if TYPE_CHECKING:
    from pathlib import Path

RECORDS = 150


def line(number: int) -> bytes:
    return json.dumps({"id": number, "text": "x" * (number % 7)}).encode()


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for shard, bounds in enumerate(((0, 60), (60, 61), (61, RECORDS))):
        (folder / f"{shard}.jsonl").write_bytes(b"".join(line(number) + b"\n" for number in range(*bounds)))
    return folder


def ids(batches: list[Any]) -> list[int]:
    return [number for batch in batches for number in batch["id"].tolist()]


@pytest.mark.parametrize("manifest", ["auto", None])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_workers": 2, "multiprocessing_context": "fork"},
        {"num_workers": 1, "multiprocessing_context": "spawn"},
        {"num_workers": 1, "multiprocessing_context": "forkserver"},
    ],
    ids=["here", "fork", "spawn", "forkserver"],
)
def test_what_the_loop_receives_is_what_is_counted(
    texts: Path, options: dict[str, Any], manifest: str | None
) -> None:
    measure.measure(texts)
    data = AttestedMmapDataset(texts, manifest=manifest)
    torch.manual_seed(4)
    with recording() as session:
        got = ids(list(palm_torch.DataLoader(data, batch_size=16, shuffle=True, **options)))
    assert sorted(got) == list(range(RECORDS))
    assert session.indices(data.uid) == got
    digests = b"".join(reads.digests for batch in session.batches for reads in batch)
    assert digests == b"".join(records.record_digest(line(number)) for number in got)
    assert all(reads.exact for batch in session.batches for reads in batch)


def test_subsets_and_weighted_samplers(texts: Path) -> None:
    data = AttestedMmapDataset(texts)
    sampler = WeightedRandomSampler([1.0] * 40, 100, replacement=True)
    with recording() as session:
        got = ids(list(palm_torch.DataLoader(Subset(data, range(50, 90)), batch_size=8, sampler=sampler)))
    assert session.indices() == got
    assert set(got) <= set(range(50, 90))


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata 0.11 calls it
def test_a_pass_goes_on_in_the_middle(texts: Path) -> None:
    def loader() -> Any:
        torch.manual_seed(2)
        return palm_torch.StatefulDataLoader(AttestedMmapDataset(texts), batch_size=20, shuffle=True)

    whole = ids(list(loader()))
    begun = loader()
    iterator = iter(begun)
    first = ids([next(iterator) for _ in range(3)])
    resumed = loader()
    resumed.load_state_dict(begun.state_dict())
    assert first + ids(list(resumed)) == whole


def test_sequences_of_one_length_are_stacked_by_the_default_collate(tmp_path: Path) -> None:
    path = sequence_files.write(tmp_path / "a", [[number] * 4 for number in range(12)])
    with recording():
        batches = list(palm_torch.DataLoader(AttestedMmapDataset(path, targets=True), batch_size=6))
    x, y = batches[1]
    assert (x.shape, y[0].tolist(), x.dtype) == ((6, 3), [6, 6, 6], torch.int64)


def test_a_changed_record_stops_the_run_in_a_worker(texts: Path) -> None:
    measure.measure(texts)
    data = AttestedMmapDataset(texts)
    with (texts / "1.jsonl").open("r+b") as stream:
        stream.write(b"[")
    loader = palm_torch.DataLoader(data, batch_size=16, num_workers=1)
    with recording(), pytest.raises(RecordError, match=r"1\.jsonl: record 60 \(line 1"):
        list(loader)


def test_a_stock_loader_with_workers_raises_at_the_first_record(texts: Path) -> None:
    loader = torch.utils.data.DataLoader(AttestedMmapDataset(texts), batch_size=16, num_workers=1)
    with recording(), pytest.raises(CoverageError, match=r"palm_torch\.DataLoader"):
        next(iter(loader))
