"""Whatever a sampler draws, what is claimed of it is what the loop received, and a verifier can tell.

Epochs, part epochs, drop_last, replacement, weights, packing of several records into one item: for each the
sealed numbers are compared with a plain count, and the manifest and the coverage map with the sealed hash.
"""

from __future__ import annotations

import collections
import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recording import recording
from torch.utils.data import BatchSampler, Dataset, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

import palm_torch
from palm_torch.appraisal import claims, consistency, coverage_maps, data_rules, datasets_at_hand
from palm_torch.appraisal.at_hand import Held
from palm_torch.commit import coverage, multiset
from palm_torch.data import ledger, measure
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.errors import ArtifactError, ClaimError
from palm_torch.policies.policy import ClaimRules, Range
from palm_torch.recomputation import RecordsAtHand
from palm_torch.roles import Dataset as Claimed
from palm_torch.roles import Source

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDS = 37


class Packed(Dataset[torch.Tensor]):
    """Items of several records each, side by side."""

    def __init__(self, inner: AttestedMmapDataset, number: int) -> None:
        self.inner = inner
        self.number = number

    def __len__(self) -> int:
        return len(self.inner) - self.number + 1

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.cat([self.inner[index + step] for step in range(self.number)])


@pytest.fixture(scope="module")
def data() -> Iterator[AttestedMmapDataset]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.bin"
        np.arange(RECORDS * 2, dtype=np.uint16).reshape(RECORDS, 2).tofile(path)
        measure.measure(path, record_length=2)
        yield AttestedMmapDataset(path)


def sampled(kind: str, draw: Any) -> tuple[list[list[int]], int]:
    """Returns batches of indices as torch's own samplers make them, and records per item."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    packing = draw(st.integers(1, 4)) if kind == "packing" else 1
    size = RECORDS - packing + 1
    samplers: dict[str, Any] = {
        "epochs": lambda: RandomSampler(range(size), generator=generator),
        "drop_last": lambda: RandomSampler(range(size), generator=generator),
        "replacement": lambda: RandomSampler(
            range(size), replacement=True, num_samples=draw(st.integers(1, 90)), generator=generator
        ),
        "weighted": lambda: WeightedRandomSampler(
            [1.0 / (1 + index) for index in range(size)], draw(st.integers(1, 90)), generator=generator
        ),
        "subset": lambda: SubsetRandomSampler(range(0, size, 3), generator=generator),
        "packing": lambda: RandomSampler(range(size), generator=generator),
    }
    batches = BatchSampler(samplers[kind](), draw(st.integers(1, 8)), drop_last=kind == "drop_last")
    made = [batch for _ in range(draw(st.integers(1, 3))) for batch in batches]
    return made[: draw(st.integers(1, len(made)))] if draw(st.booleans()) else made, packing


def claimed(data: AttestedMmapDataset, batches: list[list[int]], packing: int, *, named: bool) -> Any:
    """Delivers batches in a plain loop; returns the claim, its map, and what the loop received."""
    received: collections.Counter[int] = collections.Counter()
    account = ledger.Ledger(data.info)
    source: Any = data if packing == 1 else Packed(data, packing)
    with recording() as session:
        for batch in palm_torch.DataLoader(source, batch_sampler=batches):
            received.update((batch.reshape(-1, 2)[:, 0] // 2).tolist())
    for delivered in session.batches:
        for reads in delivered:
            account.add(reads, "train")
    summary = account.claim()["train"]
    header = data.info.manifest
    assert header is not None
    return (
        Claimed(
            source=Source.MEASURED,
            format="bin",
            manifest=header.digest if named else None,
            records=RECORDS,
            record_bytes=4,
            layout=header.layout,
            uses={"train": summary.claim},
        ),
        summary,
        received,
    )


def rules(**changes: Any) -> ClaimRules:
    fields = {"property": "train", "data": ("any",), "initial": ("any",), "tokenizer": ("any",)}
    return ClaimRules(**(fields | changes))


@pytest.mark.parametrize("kind", ["epochs", "drop_last", "replacement", "weighted", "subset", "packing"])
@settings(max_examples=12)
@given(drawn=st.data(), named=st.booleans())
def test_claims_are_what_the_loop_received(
    data: AttestedMmapDataset, kind: str, drawn: st.DataObject, *, named: bool
) -> None:
    batches, packing = sampled(kind, drawn.draw)
    if not batches:
        return
    dataset, summary, received = claimed(data, batches, packing, named=named)
    use = dataset.uses["train"]
    counts = [received[index] for index in range(RECORDS)]

    product = multiset.MultisetHash()
    assert data.info.table is not None
    for index, count in enumerate(counts):
        product.add(data.info.table.group(index // 64)[index % 64 * 32 :][:32], count)
    assert use.multiset.state == product.state.hex()
    assert use.delivered == use.multiset.count == sum(counts)
    assert (use.counts.distinct, use.counts.least, use.counts.greatest) == (
        sum(map(bool, counts)),
        min(counts),
        max(counts),
    )
    consistency._check_dataset("data", dataset)
    assert claims.whole_epochs(use) == min(counts)

    exactly = rules(multiplicity=Range(least=min(counts), greatest=max(counts)))
    data_rules.check({"a": dataset}, exactly)
    with pytest.raises(ClaimError, match="multiplicity"):
        data_rules.check({"a": dataset}, rules(multiplicity=Range(least=min(counts) + 1)))

    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(f"{data.info.path}.palm-manifest")
        maps = coverage_maps.Maps(evidence=Path(folder) / "run.palm.json")
        coverage.write_sidecar(maps.place("a", "train"), summary.counts, summary.itemsize)
        again = RecordsAtHand(Path(data.info.path), manifest)
        for held in (Held(manifest), Held(manifest, again)):
            found = datasets_at_hand.compare("data.a", "a", held, dataset, maps)
            assert "train: " in found.detail

        swapped = counts[1:] + counts[:1]  # as often in all, but other records
        if swapped != counts:
            lie = multiset.MultisetHash()
            for index, count in enumerate(swapped):
                lie.add(data.info.table.group(index // 64)[index % 64 * 32 :][:32], count)
            state = dataclasses.replace(use.multiset, state=lie.state.hex())
            told = dataclasses.replace(dataset, uses={"train": dataclasses.replace(use, multiset=state)})
            with pytest.raises(ArtifactError, match="not those of the sealed multiset hash"):
                datasets_at_hand.compare("data.a", "a", Held(manifest), told, maps)
