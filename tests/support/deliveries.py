"""Random ways of loading, and the comparison of what is claimed with what the loop received."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import hypothesis
import torch
from hypothesis import strategies as st
from torch.utils.data import (
    BatchSampler,
    RandomSampler,
    SequentialSampler,
    Subset,
    WeightedRandomSampler,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from recording import Remembering
    from sources import Source

    from palm_torch.data.ledger import Ledger
    from palm_torch.roles import Delivered

THOROUGH = hypothesis.settings().max_examples > 100


def examples(number: int) -> int:
    """Returns how many examples a property gets: many under the profile ``thorough``."""
    return 25 * number if THOROUGH else number


SAMPLERS = [
    "in order",
    "shuffled",
    "with replacement",
    "weighted",
    "subset",
    "listed",
    "batches",
    "listed batches",
]

ways = st.fixed_dictionaries(
    {
        "sampler": st.sampled_from(SAMPLERS),
        "seed": st.integers(0, 2**31),
        "batch_size": st.integers(1, 13),
        "drop_last": st.booleans(),
        "workers": st.sampled_from([0, 0, 0, 0, 1, 2, 3, 4]),
        "prefetch": st.integers(1, 4),
        "persistent": st.booleans(),
        "collate": st.sampled_from(["default", "list"]),
        "passes": st.integers(1, 2),
        "most": st.sampled_from([1, 2, 3, math.inf, math.inf]),
    }
)


def options(source: Source, way: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Returns dataset and arguments of a loader."""
    given_: dict[str, Any] = {"num_workers": way["workers"]}
    if way["workers"]:
        given_ |= {"prefetch_factor": way["prefetch"], "persistent_workers": way["persistent"]}
    if way["collate"] == "list" or source.apart is None:
        given_["collate_fn"] = list
    plain = {"batch_size": way["batch_size"], "drop_last": way["drop_last"]}
    if source.written is None:
        return source.loaded, given_ | plain
    generator, data = torch.Generator().manual_seed(way["seed"]), source.loaded
    size = len(data)
    listed = torch.randint(0, size, (2 * size,), generator=generator).tolist()
    match way["sampler"]:
        case "in order":
            return data, given_ | plain
        case "shuffled":
            return data, given_ | plain | {"shuffle": True, "generator": generator}
        case "with replacement":
            sampler: Any = RandomSampler(data, replacement=True, num_samples=50, generator=generator)
            return data, given_ | plain | {"sampler": sampler}
        case "weighted":
            sampler = WeightedRandomSampler([1 / (1 + at) for at in range(size)], 40, generator=generator)
            return data, given_ | plain | {"sampler": sampler}
        case "subset":
            chosen = Subset(Subset(data, range(0, size, 2)), range(1, size // 2))
            return chosen, given_ | plain | {"shuffle": True, "generator": generator}
        case "listed":  # also counted from the end
            return data, given_ | plain | {"sampler": [at - size * (at % 2) for at in listed]}
        case "batches":
            sampler = BatchSampler(SequentialSampler(data), way["batch_size"], drop_last=way["drop_last"])
            return data, given_ | {"batch_sampler": sampler}
        case _:
            cuts = [*range(0, len(listed), way["batch_size"])]
            return data, given_ | {"batch_sampler": [listed[at : at + 1 + at % 7] for at in cuts]}


def run(loader: Any, way: dict[str, Any]) -> list[Any]:
    """The loop, which may leave each pass early."""
    most = None if way["most"] == math.inf else way["most"]
    return [batch for _ in range(way["passes"]) for batch in itertools.islice(loader, most)]


def received(source: Source, batches: Sequence[Any], *, collated: bool) -> list[list[bytes]]:
    """Returns the canonical bytes of the records in each batch."""
    apart = source.apart if collated and source.apart is not None else list
    return [[record for item in apart(batch) for record in source.told(item)] for batch in batches]


def told(account: Ledger) -> Delivered | None:
    found = account.claim()
    return found["train"].claim if found else None


def take(account: Ledger, session: Remembering) -> Ledger:
    for batch in session.batches:
        for reads in batch:
            if account.info is None or reads.dataset == account.info.uid:
                account.add(reads, "train")
    return account


def assert_told(claim: Delivered | None, expected: dict[str, Any], chains: list[bytes] | None = None) -> None:
    """Compares a claim with the naive numbers."""
    if claim is None:
        assert not expected["delivered"]
        return
    assert claim.delivered == claim.multiset.count == expected["delivered"]
    assert claim.multiset.state == expected["multiset"]
    assert [one.value for one in claim.order] == ([expected["order"]] if chains is None else chains)
    counts = claim.counts
    found = counts and (counts.distinct, counts.least, counts.greatest, counts.coverage.value)
    assert found == expected["counts"]
