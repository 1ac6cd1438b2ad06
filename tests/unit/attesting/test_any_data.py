"""Sessions over datasets that are no files of records: items, streams, chunks of a file."""

from __future__ import annotations

import io
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import any_data
import loops
import numpy as np
import pytest
import torch
from any_data import ITEMS, Mapped, Stream, digest, item

from palm_torch.attesting.attested import attested
from palm_torch.commit import coverage, records
from palm_torch.data import measure
from palm_torch.data.generic import AttestedDataset
from palm_torch.data.loader import DataLoader
from palm_torch.data.memmap import memmap
from palm_torch.data.stream import AttestedIterableDataset
from palm_torch.errors import CoverageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from palm_torch.attesting.session import Session

pytestmark = pytest.mark.usefixtures("fresh_process")

SCRIPT = Path(__file__).parents[2] / "scripts" / "nano_windows.py"


class Script:
    """A model of one layer, and its steps."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.net = torch.nn.Linear(3, 1)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=0.01)

    def step(self, x: torch.Tensor) -> None:
        self.net(x).sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def train(self, batches: Iterable[Any]) -> None:
        for batch in batches:
            self.step(batch["x"])

    def save(self, run: Session) -> bytes:
        file = io.BytesIO()
        state = {
            "net": self.net.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "palm": run.state_dict(),
        }
        torch.save(state, file)
        return file.getvalue()

    def load(self, file: bytes) -> dict[str, Any]:
        found: dict[str, Any] = torch.load(io.BytesIO(file), weights_only=True)
        self.net.load_state_dict(found["net"])
        self.optimizer.load_state_dict(found["optimizer"])
        return found


def test_items_of_any_dataset(tmp_path: Path) -> None:
    AttestedDataset(Mapped()).measure(tmp_path / "items.palm-manifest")
    data: AttestedDataset[Any] = AttestedDataset(Mapped(), manifest=tmp_path / "items.palm-manifest")
    with attested("train") as run:
        for _ in range(2):
            Script().train(DataLoader(data, batch_size=8, shuffle=True, num_workers=1))
    found = loops.check(run, tmp_path)
    dataset = found.claims.data["dataset1"]
    assert data.manifest is not None
    assert (dataset.format, dataset.records, dataset.manifest) == ("items", ITEMS, data.manifest.digest)
    assert found.uses() == {"train": (2 * ITEMS, ITEMS, 2, 2)}
    assert dataset.uses["train"].exact


def test_a_stream(tmp_path: Path) -> None:
    with attested("train") as run:
        data: AttestedIterableDataset[Any] = AttestedIterableDataset(Stream())
        Script().train(DataLoader(data, batch_size=8, num_workers=2))
    found = loops.check(run, tmp_path, streams=True)
    dataset = found.claims.data["dataset1"]
    used = dataset.uses["train"]
    assert (dataset.records, dataset.manifest, used.counts) == (None, None, None)
    assert (used.delivered, used.exact, len(used.order)) == (ITEMS, True, 1)
    expected = any_data.product(digest(item(number)) for number in range(ITEMS))
    assert (used.multiset.state, used.multiset.count) == expected
    assert not list(tmp_path.glob("*.coverage"))


def test_a_stream_of_ones_own_bytes(tmp_path: Path) -> None:
    with attested("train") as run:
        data: AttestedIterableDataset[Any] = AttestedIterableDataset(
            Stream(4), encode=lambda one: bytes([one["y"]])
        )
        Script().train(DataLoader(data, batch_size=2))
    found = loops.check(run, tmp_path, streams=True)
    dataset = found.claims.data["dataset1"]
    assert dataset.format == "encoded"
    expected = any_data.product(records.record_digest(bytes([number]), kind="encoded") for number in range(4))
    assert dataset.uses["train"].multiset.state == expected[0]


def test_a_stream_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    def numbers(first: int, last: int) -> AttestedIterableDataset[Any]:
        return AttestedIterableDataset([item(number) for number in range(first, last)])

    with attested("train") as run:
        script = Script()
        script.train(DataLoader(numbers(0, 16), batch_size=4))
        file = script.save(run)
    again = Script()
    found = again.load(file)
    with attested("train", resume=found["palm"]) as run:
        rest = numbers(16, 30)
        again.train(DataLoader(rest, batch_size=4))
    checked = loops.check(run, tmp_path, streams=True)
    (dataset,) = checked.claims.data.values()
    expected = any_data.product(digest(item(number)) for number in range(30))
    assert (dataset.uses["train"].multiset.state, dataset.uses["train"].delivered) == expected


def test_two_streams_cannot_be_told_apart_after_a_checkpoint() -> None:
    with attested("train") as run:
        script = Script()
        script.train(DataLoader(AttestedIterableDataset([item(0)])))
        file = script.save(run)
    again = Script()
    found = again.load(file)
    one: AttestedIterableDataset[Any] = AttestedIterableDataset([item(1)])
    other: AttestedIterableDataset[Any] = AttestedIterableDataset([item(2)])
    says = pytest.raises(CoverageError, match="2 streams are open or in the checkpoint")
    with says, attested("train", resume=found["palm"]):
        again.train(DataLoader(one))
    assert other


@pytest.mark.parametrize("measured", [True, False], ids=["manifest", "no manifest"])
def test_the_loop_that_people_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, measured: bool
) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        rng.integers(0, 64, 20_000).astype(np.uint16).tofile(tmp_path / f"{split}.bin")
        if measured:
            measure.measure(tmp_path / f"{split}.bin", format="chunks")
    monkeypatch.setattr(sys, "argv", ["nano_windows.py", str(tmp_path), "6"])
    left = runpy.run_path(str(SCRIPT), run_name="__main__")
    assert "6 steps" in capsys.readouterr().out
    checked = loops.check(left["run"], tmp_path)
    data = checked.claims.data
    assert [(one.format, one.records) for one in data.values()] == [("chunks", 10), ("chunks", 10)]
    assert [one.manifest is not None for one in data.values()] == [measured, measured]
    by_split = {"val": data["dataset1"], "train": data["dataset2"]}
    for split, use in (("train", "train"), ("val", "eval")):
        touched = [
            number
            for where, starts in left["seen"]
            if where == split
            for shift in (0, 2)
            for at in starts
            for number in range((2 * at + shift) // 4096, (2 * at + shift + 63) // 4096 + 1)
        ]
        whole = (tmp_path / f"{split}.bin").read_bytes()
        digests = [records.record_digest(whole[at * 4096 : (at + 1) * 4096]) for at in touched]
        claim = by_split[split].uses[use]
        assert list(by_split[split].uses) == [use]
        assert (claim.multiset.state, claim.multiset.count) == any_data.product(digests)
        counts = np.bincount(touched, minlength=10).astype("<u4").tobytes()
        assert claim.counts is not None
        assert claim.counts.coverage == coverage.coverage_root(counts, 4)
        assert not claim.exact  # what becomes of a slice is the script's business


def test_a_memmap_across_sessions_is_counted_in_each(tmp_path: Path) -> None:
    np.arange(9000, dtype=np.float32).tofile(tmp_path / "a.bin")
    claims = []
    for _ in range(2):
        script = Script()
        with attested("train") as run:
            data = memmap(tmp_path / "a.bin", np.float32)
            script.step(torch.from_numpy(data[3:6])[None])
        claims.append(loops.check(run, tmp_path).claims.data)
    assert claims[0] == claims[1]
