"""A record is left out of training, and the counts are made up to look like whole epochs."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING

import pytest
import records_at_hand as at_hand
from workshop import put

from palm_torch.errors import ArtifactError, ClaimError

if TYPE_CHECKING:
    from pathlib import Path

    from workshop import GoodRun

USE = "claims.data.dataset1.uses.train"
LEFT_OUT = bytes([2]) * 9 + b"\0"


def test_told_honestly_it_fails_the_policy(good: GoodRun) -> None:
    with pytest.raises(ClaimError, match="records: the policy demands >= 20"):
        good.verify(good.sealed_end(USE, at_hand.delivered(LEFT_OUT)))
    another_instead = at_hand.delivered(bytes([4]) + bytes([2]) * 8 + b"\0")
    with pytest.raises(ClaimError, match="epochs: the policy demands >= 2, the evidence says 0"):
        good.verify(good.sealed_end(USE, another_instead))


@pytest.mark.parametrize(
    "lie",
    [
        {"counts.least": 2},
        {"counts.distinct": 10},
        {"delivered": 20},
        {"counts.distinct": 10, "counts.least": 2, "delivered": 20},
    ],
)
def test_half_a_lie_contradicts_itself(good: GoodRun, lie: dict[str, int]) -> None:
    claimed = functools.reduce(lambda told, part: put(told, *part), lie.items(), at_hand.delivered(LEFT_OUT))
    with pytest.raises(ClaimError, match=r"exclude each other|multiset of 18 records"):
        good.verify(good.sealed_end(USE, claimed))


def test_a_whole_lie_is_caught_by_the_manifest_at_hand(good: GoodRun, tmp_path: Path) -> None:
    """Only code that nobody reviewed could seal this: right counts, and the product of other records."""
    told = at_hand.delivered(bytes([2]) * 10)
    truth = at_hand.multiset_of(bytes([4]) + bytes([2]) * 8 + b"\0")
    lie = good.sealed_end(USE, dataclasses.replace(told, multiset=truth))
    manifest = at_hand.write_manifest(tmp_path / "corpus.palm-manifest")
    assert good.verify(lie).checks
    with pytest.raises(ArtifactError, match="2 whole epochs of it are not what data delivered for train"):
        good.verify(lie, files={"data": manifest})
