"""The policy names a dataset; the evidence lists none, so that no entry of its list is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from workshop import NEVER

from palm_torch.errors import ClaimError

if TYPE_CHECKING:
    from workshop import GoodRun


@pytest.fixture(scope="module")
def undemanding() -> dict[str, None]:
    """The good policy without the minima that would refuse an empty list by themselves."""
    return {"claims.records": None, "claims.epochs": None}


def test_no_dataset_is_not_the_dataset_demanded(good: GoodRun, undemanding: dict[str, None]) -> None:
    with pytest.raises(ClaimError, match="data: the policy demands sha256:"):
        good.verify(
            good.sealed_end("claims.data", {}),
            policy=good.policy(undemanding),
            challenge=NEVER,  # the good run's request asks for measured data by itself
            freshness_rule="not_checked",
        )


def test_nor_is_one_that_was_only_evaluated_on(good: GoodRun, undemanding: dict[str, None]) -> None:
    only = {"eval": good.end.claims.data["dataset1"].uses["eval"]}
    evaluated = good.sealed_end("claims.data.dataset1.uses", only)
    with pytest.raises(ClaimError, match="data: the policy demands sha256:"):
        good.verify(evaluated, policy=good.policy(undemanding))


def test_twin_the_honest_run_passes_that_policy(good: GoodRun, undemanding: dict[str, None]) -> None:
    assert good.verify(policy=good.policy(undemanding)).checks
