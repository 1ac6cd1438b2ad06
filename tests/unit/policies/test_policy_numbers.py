"""Numbers and bounds in a policy: decimal, finite, and nothing that YAML 1.1 would make of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from palm_torch.errors import PolicyError
from palm_torch.policies import policy
from palm_torch.policies.policy import Range

if TYPE_CHECKING:
    from workshop import GoodRun


@pytest.mark.parametrize(("text", "value"), [("1e-3", 0.001), ("0.5", 0.5), ("2E+2", 200.0), ("-7", -7)])
def test_decimal_numbers_of_a_policy(good: GoodRun, text: str, value: float) -> None:
    spelled = good.policy_text({"claims.steps": {"least": "NUMBER"}}).replace(b"NUMBER", text.encode())
    steps = policy.parse(spelled).claims.steps
    assert steps is not None
    assert steps.least == value


@pytest.mark.parametrize("bound", [float("nan"), float("inf"), 1e400])
def test_a_bound_is_finite(bound: float) -> None:
    with pytest.raises(PolicyError, match="finite numbers"):
        Range(least=bound)


@pytest.mark.parametrize("text", ["010", "1:30", "0x10", "1_000"])
def test_other_spellings_are_refused(good: GoodRun, text: str) -> None:
    spelled = good.policy_text({"claims.steps": {"least": "NUMBER"}}).replace(b"NUMBER", text.encode())
    with pytest.raises(PolicyError, match="expected a decimal number"):
        policy.parse(spelled)
