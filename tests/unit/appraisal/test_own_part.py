"""What one part of a run has to say of itself, and what is told where others are missing."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from workshop import put

from palm_torch.appraisal import own_part
from palm_torch.cvm import binding
from palm_torch.digest import TAGGED_SHA256, Digest
from palm_torch.errors import BindingError, ClaimError, EncodingError
from palm_torch.policies.policy import ClaimRules
from palm_torch.statement import Part, Ranks

if TYPE_CHECKING:
    from workshop import GoodRun

    from palm_torch.statement import Statement

OTHER = Digest(TAGGED_SHA256, bytes(32))


def rules(**changes: Any) -> ClaimRules:
    return ClaimRules(property="train", data=("any",), initial=("any",), tokenizer=("none",), **changes)


def with_ranks(good: GoodRun, *, count: int = 1, others: int = 1, begin: Digest | None = None) -> Statement:
    own = begin or Digest(
        TAGGED_SHA256, binding.begin_claims_root(good.bundle.begin.statement, good.bundle.session_key)
    )
    parts = (
        Part(begin=own, first=0, count=count),
        *(
            Part(begin=Digest(TAGGED_SHA256, bytes([n]) * 32), first=count - 1 + n, count=1)
            for n in range(1, others + 1)
        ),
    )
    ranks = Ranks(
        world_size=count + others,
        own=0,
        parts=parts,
        interconnect="unprotected" if others else "none",
        differing=("norm.mean",),
    )
    return dataclasses.replace(good.end, run=dataclasses.replace(good.end.run, ranks=ranks))


def test_a_part_names_itself_rightly(good: GoodRun) -> None:
    own_part.check(good.bundle, good.end)
    own_part.check(good.bundle, with_ranks(good))
    with pytest.raises(BindingError, match=r"parts\[0\]: the statement names palm-sha256:0000"):
        own_part.check(good.bundle, with_ranks(good, begin=OTHER))


def test_a_use_has_an_order_for_each_rank(good: GoodRun) -> None:
    with pytest.raises(ClaimError, match="expected 2 order chains, one for each rank, got 1"):
        own_part.check(good.bundle, with_ranks(good, count=2))


def test_missing_parts_and_the_network_are_told(good: GoodRun) -> None:
    assert own_part.reservations(good.end, rules()) == []
    assert own_part.reservations(with_ranks(good, others=0), rules()) == []
    found = own_part.reservations(with_ranks(good, others=2), rules())
    assert [item.about for item in found] == ["platform", "claims"]
    assert (
        "2 of 3 parts of the run are not at hand: the claims are about ranks 0 of 3 alone" in found[1].reason
    )
    assert "that of ranks 1, 2, and give it with --part" in found[1].advice
    known = rules(interconnect="unprotected")
    assert own_part.reservations(with_ranks(good, others=2), known, at_hand=(1, 2)) == []
    assert own_part.left_open(with_ranks(good)) == [
        "the buffers of other ranks than the first: 1 differ between ranks, such as norm.mean"
    ]
    assert own_part.left_open(good.end) == []


@pytest.mark.parametrize(
    ("path", "new", "says"),
    [
        ("world_size", 4, "expected part 0 of some that have 4 ranks"),
        ("own", 2, "expected part 2 of some"),
        ("parts.1.first", 3, r"parts\[1\]: expected ranks from 1 on"),
        ("parts.1.count", 0, r"parts\[1\]: expected ranks from 1 on, got 0"),
        ("interconnect", "none", "interconnect: 'none' between 2 parts"),
        ("differing", ("b", "a"), "differing: expected names that ascend"),
        ("parts.1.begin", None, "one session is there twice"),
    ],
)
def test_ranks_that_cannot_be_are_refused(good: GoodRun, path: str, new: Any, says: str) -> None:
    ranks = with_ranks(good).run.ranks
    assert ranks is not None
    with pytest.raises(EncodingError, match=says):
        put(ranks, path, ranks.parts[0].begin if new is None else new)
