"""What is claimed is what the loop received, whatever was loaded and however.

Every format and every class of dataset, under random samplers, workers, prefetching, early ends and
resumptions; the numbers expected are made from the items that the loop received, in plain Python.
"""

from __future__ import annotations

import itertools
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import any_data
import every_format
import naive
import pytest
import sources
import torch
from deliveries import THOROUGH, assert_told, examples, options, received, run, take, told, ways
from hypothesis import given, settings
from hypothesis import strategies as st
from recording import recording
from torch.utils.data import (
    ConcatDataset,
    DistributedSampler,
)

from palm_torch.data.formats import table
from palm_torch.data.ledger import Ledger
from palm_torch.data.loader import DataLoader
from palm_torch.data.shares import CountMap, Share, merge
from palm_torch.data.stateful import StatefulDataLoader
from palm_torch.roles import Dataset as Claimed
from palm_torch.roles import Source as Label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sources import Source

pytestmark = [
    pytest.mark.filterwarnings("ignore:This DataLoader will create . worker processes"),
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated"),  # torchdata 0.11 calls it
]

MAPPED = [name for name in sources.NAMES if name not in sources.STREAMS]


@pytest.fixture(scope="module")
def opened() -> Iterator[Callable[..., Source]]:
    """Returns what opens a source by its name; its files are written once."""
    with tempfile.TemporaryDirectory() as folder:
        made: dict[str, Callable[..., Source]] = {}

        def of(name: str, *, manifest: bool) -> Source:
            if name not in made:
                made[name] = sources.opener(name, Path(folder) / str(len(made)))
            return made[name](manifest=manifest)

        yield of


def test_every_format_of_the_table_is_among_them() -> None:
    assert set(every_format.MAKERS) == set(table.FORMATS)


# ---------------------------------------------------------------------------------------------------------
# one loop


@pytest.mark.parametrize("name", sources.NAMES)
@settings(max_examples=examples(10))
@given(way=ways, manifest=st.booleans())
def test_one_loop(opened: Callable[..., Source], name: str, way: dict[str, Any], *, manifest: bool) -> None:
    source = opened(name, manifest=manifest)
    data, given_ = options(source, way)
    loader: Any = DataLoader(data, **given_)
    with recording() as session:
        batches = run(loader, way)
    del loader
    got = received(source, batches, collated="collate_fn" not in given_)
    claim = told(take(Ledger(source.attested.info), session))
    assert_told(claim, naive.claim(got, source.written, source.kind))
    if claim is not None and isinstance(source.loaded, type(source.attested)):
        assert claim.exact == ("collate_fn" not in given_)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@settings(max_examples=40 if THOROUGH else 1)
@given(way=ways.filter(lambda way: way["sampler"] not in ("subset", "in order")), workers=st.integers(1, 4))
def test_all_formats_side_by_side(
    opened: Callable[..., Source], method: str, way: dict[str, Any], workers: int
) -> None:
    """Workers open every dataset anew: one loader over all of them, with each way to start a worker."""
    parts = [opened(name, manifest=at % 3 != 0) for at, name in enumerate(MAPPED)]
    together: Any = ConcatDataset([part.loaded for part in parts])
    starts = [0, *together.cumulative_sizes]
    order = torch.randperm(len(together), generator=torch.Generator().manual_seed(way["seed"])).tolist()
    loader: Any = DataLoader(
        Numbered(together),
        sampler=order[: 200 if way["most"] == math.inf else None],
        batch_size=way["batch_size"],
        drop_last=way["drop_last"],
        num_workers=workers if THOROUGH else 1,
        prefetch_factor=way["prefetch"],
        multiprocessing_context=method,
        collate_fn=list,
    )
    with recording() as session:
        batches = run(loader, way | {"passes": 1, "most": max(way["most"], 3)})
    del loader
    for at, part in enumerate(parts):
        got = [
            [
                record
                for number, item in batch
                if starts[at] <= number < starts[at + 1]
                for record in part.told(item)
            ]
            for batch in batches
        ]
        claim = told(take(Ledger(part.attested.info), session))
        assert_told(claim, naive.claim([batch for batch in got if batch], part.written, part.kind))
        assert claim is None or not claim.exact


class Numbered(torch.utils.data.Dataset[Any]):
    """Items with their numbers: a dataset of the user's own around attested ones."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, number: int) -> Any:
        return number, self.inner[number]


# ---------------------------------------------------------------------------------------------------------
# a loop that is broken off and goes on in another process


@pytest.mark.parametrize("name", sources.NAMES)
@settings(max_examples=examples(3))
@given(
    seed=st.integers(0, 2**31),
    cuts=st.lists(st.integers(1, 6), min_size=1, max_size=3 if THOROUGH else 2),
    shuffle=st.booleans(),
    workers=st.sampled_from([0, 0, 0, 0, 1, 2]),
    batch_size=st.integers(3, 11),
    manifest=st.booleans(),
)
def test_a_loop_that_is_taken_up_again(
    opened: Callable[..., Source],
    name: str,
    seed: int,
    cuts: list[int],
    *,
    shuffle: bool,
    workers: int,
    batch_size: int,
    manifest: bool,
) -> None:
    """Each leg opens the data anew and loads the position; the account goes on from its checkpoint."""
    if name in sources.STREAMS:
        shuffle = False  # torch asks for it
    torch.manual_seed(seed)
    account: Ledger | None = None
    state, got, items = None, [], 0
    size = any_data.ITEMS if name in sources.STREAMS else len(opened(name, manifest=manifest).loaded)
    for most in [*cuts, math.inf]:
        source = opened(name, manifest=manifest)
        loader: Any = StatefulDataLoader(
            source.loaded, batch_size=batch_size, shuffle=shuffle, num_workers=workers, collate_fn=list
        )
        if state is not None:
            loader.load_state_dict(state)
        if account is None:
            account = Ledger(source.attested.info)
        else:
            account = Ledger.resumed(*account.held())
            account.take_up(source.attested.info)
        with recording() as session:
            iterator = iter(loader)
            batches = list(iterator if most == math.inf else itertools.islice(iterator, most))
            state = loader.state_dict()
        del iterator, loader
        take(account, session)
        got += received(source, batches, collated=False)
        items += sum(map(len, batches))
        if items == size:  # the epoch has ended; torchdata takes up no stream from there
            break
    assert_told(told(account), naive.claim(got, source.written, source.kind))
    if source.written is not None and name not in ("AttestedWindows", "memmap"):
        assert sorted(itertools.chain(*got)) == sorted(source.written)  # one epoch, each record once


# ---------------------------------------------------------------------------------------------------------
# ranks


@pytest.mark.parametrize("name", MAPPED)
@pytest.mark.parametrize("ranks", [1, 2, 4])
@settings(max_examples=examples(2))
@given(
    seed=st.integers(0, 2**31),
    batch_size=st.integers(1, 13),
    drop_last=st.booleans(),
    epochs=st.integers(1, 2),
    most=st.sampled_from([1, 3, math.inf]),
    manifest=st.booleans(),
)
def test_ranks_together_are_one(  # noqa: PLR0913 (what a loop may be)
    opened: Callable[..., Source],
    name: str,
    ranks: int,
    seed: int,
    batch_size: int,
    epochs: int,
    most: float,
    *,
    drop_last: bool,
    manifest: bool,
) -> None:
    """Every rank samples and counts its own part; merged they are what one rank says of all of it."""
    shares, every, repeated = [], [], 0
    for rank in range(ranks):
        source = opened(name, manifest=manifest)
        sampler: Any = DistributedSampler(
            source.loaded, num_replicas=ranks, rank=rank, seed=seed, drop_last=drop_last
        )
        loader: Any = DataLoader(source.loaded, sampler=sampler, batch_size=batch_size, collate_fn=list)
        batches = []
        with recording() as session:
            for epoch in range(epochs):
                sampler.set_epoch(epoch)
                batches += run(loader, {"passes": 1, "most": most})
        every.append(received(source, batches, collated=False))
        shares.append(share(take(Ledger(source.attested.info), session)))
        size = len(source.loaded)
        if rank + ranks * (sampler.num_samples - 1) >= size and most == math.inf:
            repeated += epochs
    found = merge(shares)
    chains = [
        naive.chain([[naive.digest(one, source.kind) for one in batch] for batch in part]) for part in every
    ]
    if source.attested.info.manifest is None and source.attested.info.same is None:
        apart = [part for part in every if part]  # nothing proves that they are one dataset
        for item, part in zip(found.data.values(), apart, strict=True):
            own = [link if other is part else bytes(32) for link, other in zip(chains, every, strict=True)]
            assert_told(item.uses["train"], naive.claim(part, source.written, source.kind), own)
        return
    if not any(every):
        assert not found.data
        return
    claim = found.data["dataset1"].uses["train"]
    alone = naive.claim([batch for part in every for batch in part], source.written, source.kind)
    assert_told(claim, alone, chains)
    merged = found.maps["dataset1", "train"]
    width = merged.itemsize
    times = [
        int.from_bytes(merged.counts[at : at + width], "little") for at in range(0, len(merged.counts), width)
    ]
    assert naive.coverage(times) == alone["counts"][3]
    if most == math.inf and not drop_last and source.loaded is source.attested and name != "AttestedWindows":
        assert claim.padded == repeated


def share(account: Ledger) -> Share:
    """Returns what a rank says."""
    claims, found, info = account.claim(), account.identity, account.info
    if not claims:
        return Share(data={}, maps={})
    summary = claims["train"]
    assert summary.counts is not None
    assert info is not None
    dataset = Claimed(
        source=Label.MEASURED,
        format=found.format,
        manifest=found.manifest,
        records=found.records,
        record_bytes=found.record_bytes,
        layout=found.layout,
        uses={"train": summary.claim},
    )
    counts = CountMap(bytes(summary.counts), summary.itemsize)
    same = {} if info.same is None else {"dataset1": info.same}
    return Share(data={"dataset1": dataset}, maps={("dataset1", "train"): counts}, same=same)
