"""Every rule of a policy by its path, found from the dataclasses: no table of rules can leave one out."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

from palm_torch.policies.dataset_rules import BindRules, DistributeRules, PreprocessRules
from palm_torch.policies.inference_rules import InferenceRules
from palm_torch.policies.policy import Range

ELSEWHERE = (BindRules, PreprocessRules, DistributeRules, InferenceRules)
"""Claim rules with tables of their own: test_dataset_claims.py, test_answers_against_rules.py."""


def rules_of(kind: Any, path: str = "") -> typing.Iterator[str]:
    """Yields the path of every rule in a tree of dataclasses."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        for member in typing.get_args(kind):
            if member is not type(None) and member not in ELSEWHERE:
                yield from rules_of(member, path)
    elif dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            yield from rules_of(hints[field.name], f"{path}.{field.name}" if path else field.name)
    elif typing.get_origin(kind) is dict and typing.get_args(kind)[1] is Range:
        yield from rules_of(Range, f"{path}.*")
    else:
        yield path
