"""The attested loader uses random numbers, and makes batches, bit for bit as torch's own does."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torch.utils.data
from recording import LENGTH, recording, write_tokens

from palm_torch.data import measure
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.data.loader import DataLoader

OPTIONS = [
    {"batch_size": 8, "shuffle": True},
    {"batch_size": 8, "shuffle": True, "num_workers": 2},
    {"batch_size": 5, "shuffle": True, "drop_last": True, "num_workers": 1, "persistent_workers": True},
    {"batch_size": None, "shuffle": True},
]


class Plain(torch.utils.data.Dataset):
    """The same records without attestation, with a random transform."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return noisy(torch.from_numpy(self.rows[index].astype(np.int64)))


class Attested(torch.utils.data.Dataset):
    def __init__(self, path):
        self.inner = AttestedMmapDataset(path)

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, index):
        return noisy(self.inner[index])


def noisy(record):
    return record + torch.randint(0, 1000, record.shape) + random.randrange(1000)


def run(loader_class, dataset, options):
    torch.manual_seed(11)
    random.seed(12)
    np.random.seed(13)  # noqa: NPY002 (the legacy state is what others use)
    loader = loader_class(dataset, **options)
    batches = [batch.clone() for _ in range(2) for batch in loader]
    return batches, (torch.get_rng_state(), random.getstate(), np.random.get_state()[1])  # noqa: NPY002


def same(left, right):
    return (
        len(left[0]) == len(right[0])
        and all(torch.equal(a, b) for a, b in zip(left[0], right[0], strict=True))
        and torch.equal(left[1][0], right[1][0])
        and left[1][1] == right[1][1]
        and np.array_equal(left[1][2], right[1][2])
    )


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_same_batches_and_random_states(tmp_path, options):
    rows = write_tokens(tmp_path / "corpus")
    measure.measure(tmp_path / "corpus", record_length=LENGTH)
    stock = run(torch.utils.data.DataLoader, Plain(rows), options)
    with recording():
        attested = run(DataLoader, Attested(tmp_path / "corpus"), options)
    assert same(stock, attested)


def test_the_comparison_can_fail(tmp_path):
    rows = write_tokens(tmp_path / "corpus")
    one = run(torch.utils.data.DataLoader, Plain(rows), OPTIONS[0])
    torch.rand(1)
    other = [batch for batch in one[0]], (torch.get_rng_state(), *one[1][1:])
    assert not same(one, other)
    other = [*one[0][:-1], one[0][-1] + 1], one[1]
    assert not same(one, other)
