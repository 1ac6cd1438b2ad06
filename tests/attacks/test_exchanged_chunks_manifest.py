"""A worker opens a file by itself, after the host exchanged the file together with its manifest.

What the worker reads agrees with the manifest that it finds; the session opened another one. Evidence that
named the session's would speak of data that the loop never got.
"""

# ruff: noqa: PT012 (the whole block of a session is under test)
from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import loops
import numpy as np
import pytest
import torch

from palm_torch.attesting.attested import attested
from palm_torch.data import measure
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.formats.chunks import manifest_path
from palm_torch.data.generic import AttestedDataset
from palm_torch.data.loader import DataLoader
from palm_torch.data.memmap import memmap
from palm_torch.errors import CoverageError, SessionError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.usefixtures("fresh_process"), pytest.mark.filterwarnings("ignore:.*fork")]

WINDOW = 2048
ITEMS = 8


class OpenedInTheWorker(torch.utils.data.Dataset[Any]):
    """A dataset that opens its file where it slices it."""

    def __init__(self, open_it: Callable[[], Any]) -> None:
        self.open_it = open_it
        self.data: Any = None

    def __len__(self) -> int:
        return ITEMS

    def __getitem__(self, number: int) -> torch.Tensor:
        if self.data is None:
            self.data = self.open_it()
        got = self.data[number * WINDOW : (number + 1) * WINDOW]
        return torch.from_numpy(got.astype(np.float32))


class ByNumber(OpenedInTheWorker):
    """One whose file is a dataset itself."""

    def __getitem__(self, number: int) -> torch.Tensor:
        if self.data is None:
            self.data = self.open_it()
        item: torch.Tensor = self.data[number]
        return item.float()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return put(tmp_path / "tokens.bin", 7)


def put(path: Path, value: int) -> Path:
    """Writes a file of one value, in place, and measures it."""
    with path.open("r+b" if path.exists() else "wb") as stream:
        stream.write(np.full(ITEMS * WINDOW, value, np.uint16).tobytes())
    measure.measure(path, format="chunks")
    return path


def train(data: torch.utils.data.Dataset[Any]) -> set[float]:
    net = torch.nn.Linear(WINDOW, 1)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    seen: set[float] = set()
    batch: torch.Tensor
    for batch in DataLoader(data, batch_size=4, num_workers=1, multiprocessing_context="fork"):
        seen |= set(batch.flatten().tolist())
        net(batch).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return seen


@pytest.mark.parametrize("held", [True, False])
def test_the_pair_is_exchanged_after_the_session_opened_it(path: Path, *, held: bool) -> None:
    with (
        pytest.raises(CoverageError, match="opened it with another manifest than this process: expected sha"),
        attested("train") as run,
    ):
        mine = memmap(path, np.uint16) if held else memmap(path, np.uint16).shape
        put(path, 666)
        train(OpenedInTheWorker(lambda: memmap(path, np.uint16)))
    assert mine is not None
    with pytest.raises(SessionError):
        run.evidence  # noqa: B018 (asking for it is the test)


def test_the_good_manifest_comes_back_once_the_worker_opened_the_exchanged_pair(path: Path) -> None:
    kept = manifest_path(path).read_bytes()
    put(path, 666)
    opened = path.with_name("opened")

    def open_it() -> Any:
        data = memmap(path, np.uint16)
        opened.touch()
        return data

    with pytest.raises(CoverageError, match="opened it with another manifest"), attested("train"):
        loader = iter(
            DataLoader(
                OpenedInTheWorker(open_it), batch_size=4, num_workers=1, multiprocessing_context="fork"
            )
        )
        while not opened.exists():
            time.sleep(0.01)
        manifest_path(path).unlink()
        manifest_path(path).write_bytes(kept)
        mine = memmap(path, np.uint16)
        next(loader)
    assert mine.manifest is not None


@pytest.mark.parametrize(
    "open_it",
    [
        lambda path: AttestedMmapDataset(path, record_length=WINDOW),
        lambda path: AttestedDataset(torch.full((ITEMS, WINDOW), float(path.stat().st_size))),
    ],
)
def test_other_datasets_that_only_a_worker_opened_are_nobodys(
    path: Path, open_it: Callable[[Path], Any]
) -> None:
    with pytest.raises(CoverageError, match="which this process has not open"), attested("train"):
        mine = open_it(path)
        train(ByNumber(lambda: open_it(path)))
    assert len(mine) == ITEMS


def test_twin_the_same_pair_is_the_same_dataset_in_a_worker(path: Path, tmp_path: Path) -> None:
    with attested("train") as run:
        mine = memmap(path, np.uint16)
        assert train(OpenedInTheWorker(lambda: memmap(path, np.uint16))) == {7.0}
    found = loops.check(run, tmp_path).claims.data["dataset1"]
    assert mine.manifest is not None
    assert found.manifest == mine.manifest.digest
