"""What a policy may demand of answers."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from palm_torch.errors import PolicyError
from palm_torch.policies.bounds import Range
from palm_torch.policies.inference_rules import InferenceRules

GOOD: dict[str, Any] = {"property": "session", "model": ("any",), "tokenizer": ("none",)}


def test_what_is_unset_demands_no_number_and_allows_no_revoked_answer() -> None:
    rules = InferenceRules(**GOOD)
    assert (rules.answers, rules.revoked, rules.traced, rules.declared) == (None, 0, False, 0)
    assert rules.references("tokenizer").word == "none"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"revoked": -1}, "revoked: expected 0 or more, got -1"),
        ({"declared": -1}, "declared: expected 0 or more"),
        ({"model": ()}, "model: an empty list"),
        ({"tokenizer": ("sha256:00",)}, "tokenizer"),
        ({"choices": {"do_sample": ()}}, "choices.do_sample: expected one or more values"),
        ({"choices": {"t": (1,)}, "decoding": {"t": Range(least=0)}}, "has no range in 'decoding'"),
        ({"choices": {"t": (float("nan"),)}}, "choices.t"),
    ],
)
def test_rules_that_accept_nothing_or_mean_nothing_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(PolicyError, match=says):
        InferenceRules(**{**GOOD, **changes})


def test_choices_are_any_values_as_yaml_writes_them() -> None:
    rules = InferenceRules(**GOOD, choices={"stop": tuple(yaml.safe_load("[null, true, text, [a]]"))})
    assert rules.choices["stop"] == (None, True, "text", ["a"])
