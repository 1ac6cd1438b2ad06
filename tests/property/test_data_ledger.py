"""Whatever is delivered, the multiset derived from the manifest is the product record by record."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gmpy2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recording import recording

from palm_torch import receipt
from palm_torch.commit import coverage, multiset
from palm_torch.data import account, ledger, measure
from palm_torch.data.dataset import AttestedMmapDataset
from palm_torch.digest import TAGGED_SHA256, Digest

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORDS = 70


@pytest.fixture(scope="module")
def data() -> Iterator[Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.bin"
        np.arange(RECORDS * 2, dtype=np.uint16).reshape(RECORDS, 2).tofile(path)
        measure.measure(path, record_length=2)
        yield AttestedMmapDataset(path), AttestedMmapDataset(path, record_length=2, manifest=None)


batches = st.lists(
    st.lists(st.integers(-RECORDS, RECORDS - 1), min_size=1, max_size=9), min_size=1, max_size=12
)


@settings(max_examples=40)
@given(epochs=st.integers(0, 3), batches=batches)
def test_derived_multiset_is_the_product(
    data: tuple[AttestedMmapDataset, AttestedMmapDataset], epochs: int, batches: list[list[int]]
) -> None:
    with_manifest, without = data
    batches = [list(range(RECORDS))] * epochs + batches
    product = multiset.MultisetHash(number=gmpy2.mpz)
    summaries = []
    for dataset in (with_manifest, without):
        counted = ledger.Ledger(dataset.info)
        with recording() as session:
            for batch in batches:
                dataset.__getitems__(batch)
        for (reads,) in session.batches:
            counted.add(reads, "train")
            if dataset is without:
                product.add_many(reads.digests)
        summaries.append(counted.claim()["train"])
    assert summaries[0].claim == summaries[1].claim
    assert summaries[0].claim.multiset.state == product.state.hex()
    told = coverage.summary(summaries[0].counts, summaries[0].itemsize)
    claim, by = summaries[0].claim, summaries[0].claim.counts
    assert told == coverage.Summary(claim.delivered, by.distinct, by.least, by.greatest)


@given(
    counts=st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 3), min_size=1, max_size=40),
    index=st.integers(0, 39),
)
def test_sidecar_round_trip(counts: list[int], index: int) -> None:
    data = np.array(counts, "<u4").tobytes()
    root = coverage.coverage_root(data, 4)
    with tempfile.TemporaryDirectory() as folder:
        coverage.write_sidecar(Path(folder) / "map", data, 4)
        read, width = coverage.read_sidecar(Path(folder) / "map", root)
    assert np.frombuffer(read, f"<u{width}").tolist() == counts
    index %= len(counts)
    assert (
        coverage.verify_inclusion(coverage.inclusion(read, width, index), root, records=len(counts))
        == counts[index]
    )


@settings(max_examples=40)
@given(data_=st.data(), width=st.sampled_from([1, 2, 4]), base=st.integers(0, 3))
def test_derived_multiset_of_any_counts_is_the_product(
    data: tuple[AttestedMmapDataset, AttestedMmapDataset], data_: st.DataObject, width: int, base: int
) -> None:
    """Counts that nobody could deliver one by one in a test: taken up from a checkpoint."""
    with_manifest, _ = data
    near = st.just(base) | st.integers(0, 3) | st.integers(0, 2 ** (8 * width) - 1)
    counts = np.array(data_.draw(st.lists(near, min_size=RECORDS, max_size=RECORDS)), "<u4")
    narrow = counts.astype(f"<u{coverage.narrowest(int(counts.max()))}").tobytes()
    held = receipt.DeliveredSoFar(
        delivered=int(counts.sum(dtype=np.int64)),
        order=Digest(TAGGED_SHA256, bytes(32)),
        coverage=coverage.coverage_root(narrow, len(narrow) // RECORDS),
        exact=True,
        product=None,
    )
    claim = account.Account.resumed(RECORDS, held, narrow, multiplies=False).summary(
        with_manifest.info, "data.train"
    )
    product = multiset.MultisetHash(number=gmpy2.mpz)
    assert with_manifest.info.table is not None
    for index, count in enumerate(counts.tolist()):
        product.add(with_manifest.info.table.group(index // 64)[index % 64 * 32 :][:32], count)
    assert claim.claim.multiset.state == product.state.hex()
    assert claim.claim.delivered == product.count
