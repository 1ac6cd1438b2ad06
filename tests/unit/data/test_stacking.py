from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, Dataset, Subset, default_collate

from palm_torch.data import stacking
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.loader import DataLoader, stacks

if TYPE_CHECKING:
    from pathlib import Path


class Doubling(Dataset[Any]):
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Any:
        return self.inner[index] * 2


class Reversing(AttestedMmapDataset):
    def __getitems__(self, indices: Any) -> Any:
        return list(reversed(super().__getitems__(indices)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    where = tmp_path / "tokens.bin"
    np.arange(40 * 6, dtype=np.uint16).tofile(where)
    return where


def opened(path: Path, **options: Any) -> AttestedMmapDataset:
    return AttestedMmapDataset(path, record_length=6, **options)


def same(found: Any, expected: Any) -> bool:
    if isinstance(expected, list):
        return type(found) is list and all(map(same, found, expected))
    return (
        torch.equal(found, expected)
        and found.dtype == expected.dtype
        and found.stride() == expected.stride()
        and found.is_shared() == expected.is_shared()
    )


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    "options", [{}, {"targets": True}, {"dtype": None}, {"dtype": torch.float32}, {"dtype": torch.bfloat16}]
)
def test_batches_are_those_of_the_default_collate_function(
    path: Path, options: dict[str, Any], workers: int
) -> None:
    stock = torch.utils.data.DataLoader(opened(path, **options), batch_size=7)
    ours: DataLoader[Any] = DataLoader(opened(path, **options), batch_size=7, num_workers=workers)
    batches = list(ours)
    assert len(batches) == len(stock)
    for found, expected in zip(batches, stock, strict=True):
        if not workers:
            assert same(found, expected)
        elif isinstance(found, list):  # in shared memory, which has a test of its own
            assert same([item.clone() for item in found], expected)
        else:
            assert same(found.clone(), expected)


def test_a_worker_makes_the_batch_in_shared_memory(path: Path) -> None:
    batch = next(iter(DataLoader(opened(path), batch_size=7, num_workers=1)))
    assert batch.is_shared()


@pytest.mark.parametrize(
    ("wrap", "expected"),
    [
        (lambda data: data, True),
        (lambda data: Subset(Subset(data, range(30)), range(20)), True),
        (lambda data: ConcatDataset([data, data]), False),
        (Doubling, False),
    ],
    ids=["itself", "subset", "concat", "wrapper"],
)
def test_only_what_hands_on_unchanged_is_stacked(path: Path, wrap: Any, expected: bool) -> None:  # noqa: FBT001
    data = wrap(opened(path))
    loader: DataLoader[Any] = DataLoader(data, batch_size=8)
    assert stacks(loader) is expected
    first = next(iter(loader))
    assert same(first, default_collate([data[index] for index in range(8)]))


def test_a_subclass_is_not_stacked(path: Path) -> None:
    loader: DataLoader[Any] = DataLoader(Reversing(path, record_length=6), batch_size=4)
    assert not stacks(loader)
    assert next(iter(loader))[0, 0] == 18


def test_another_collate_function_gets_a_list(path: Path) -> None:
    loader: DataLoader[Any] = DataLoader(opened(path), batch_size=4, collate_fn=list)
    assert type(next(iter(loader))) is list


def test_a_changed_default_is_respected(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(stacking.collate.default_collate_fn_map, torch.Tensor, lambda batch, **_: len(batch))
    assert next(iter(DataLoader(opened(path), batch_size=4))) == 4


def test_it_reads_like_the_list_it_stands_for() -> None:
    whole = torch.arange(12).reshape(4, 3)
    single, pairs = stacking.Stacked([whole]), stacking.Stacked([whole, whole + 1])
    assert len(single) == len(pairs) == 4
    assert [row.tolist() for row in single] == whole.tolist()
    assert torch.equal(single[-1], whole[3])
    assert [row.tolist() for row in single[1:3]] == whole[1:3].tolist()
    assert isinstance(pairs[0], tuple)
    assert same(default_collate(list(pairs)), pairs.collated())
