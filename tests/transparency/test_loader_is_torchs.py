"""The attested loader uses random numbers, and makes batches, bit for bit as torch's own does."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import torch.utils.data
from recording import LENGTH, recording, write_tokens

from palm_torch.data import measure
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.loader import DataLoader

if TYPE_CHECKING:
    from pathlib import Path

# Under coverage, a worker of the plain loader ends with this warning: it ran nothing of ours.
pytestmark = pytest.mark.filterwarnings("ignore:No data was collected")

OPTIONS = [
    {"batch_size": 8, "shuffle": True},
    {"batch_size": 8, "shuffle": True, "num_workers": 2},
    {"batch_size": 5, "shuffle": True, "drop_last": True, "num_workers": 1, "persistent_workers": True},
    {"batch_size": None, "shuffle": True},
]


class Plain(torch.utils.data.Dataset):
    """The same records without attestation, with a random transform."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return noisy(torch.from_numpy(self.rows[index].astype(np.int64)))


class Attested(torch.utils.data.Dataset):
    def __init__(self, path: Path) -> None:
        self.inner = AttestedMmapDataset(path)

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Any:
        return noisy(self.inner[index])


def noisy(record: torch.Tensor) -> torch.Tensor:
    return record + torch.randint(0, 1000, record.shape) + random.randrange(1000)


def run(loader_class: Any, dataset: Any, options: dict[str, Any]) -> Any:
    torch.manual_seed(11)
    random.seed(12)
    np.random.seed(13)  # noqa: NPY002 (the legacy state is what others use)
    loader = loader_class(dataset, **options)
    batches = [batch.clone() for _ in range(2) for batch in loader]
    return batches, (torch.get_rng_state(), random.getstate(), np.random.get_state()[1])  # noqa: NPY002


def same(left: Any, right: Any) -> bool:
    return (
        len(left[0]) == len(right[0])
        and all(torch.equal(a, b) for a, b in zip(left[0], right[0], strict=True))
        and torch.equal(left[1][0], right[1][0])
        and left[1][1] == right[1][1]
        and np.array_equal(left[1][2], right[1][2])
    )


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_same_batches_and_random_states(tmp_path: Path, options: dict[str, Any]) -> None:
    rows = write_tokens(tmp_path / "corpus")
    measure.measure(tmp_path / "corpus", record_length=LENGTH)
    stock = run(torch.utils.data.DataLoader, Plain(rows), options)
    with recording():
        attested = run(DataLoader, Attested(tmp_path / "corpus"), options)
    assert same(stock, attested)


def test_the_comparison_can_fail(tmp_path: Path) -> None:
    rows = write_tokens(tmp_path / "corpus")
    one = run(torch.utils.data.DataLoader, Plain(rows), OPTIONS[0])
    torch.rand(1)
    other = list(one[0]), (torch.get_rng_state(), *one[1][1:])
    assert not same(one, other)
    other = [*one[0][:-1], one[0][-1] + 1], one[1]
    assert not same(one, other)
