"""The eight properties: each has its roles, and says what it produces."""

from __future__ import annotations

import dataclasses

import pytest

from palm_torch.properties import OPERATIONS, PROPERTIES

ROLES = {
    "preprocess": {"data", "produced", "function", "arguments"},
    "distribute": {"data", "distribution", "function", "arguments"},
    "bind": {"files", "manifest", "multiset", "records_root", "records", "framing"},
    "train": {"architecture", "data", "configuration", "tokenizer", "initial", "model", "steps", "seeds"},
    "optimize": {
        "kind",
        "base",
        "tokenizer",
        "configuration",
        "adapter",
        "data",
        "model",
        "steps",
        "seeds",
    },
    "evaluate": {"model", "tokenizer", "data", "metric", "benchmark", "configuration"},
    "infer": {"model", "tokenizer", "query", "response", "decoding", "seeds"},
    "session": {"model", "tokenizer", "query", "response", "history", "decoding", "seeds"},
}
"""PAL*M, arXiv 2601.16199, section 4 and table 1, with its errata mended."""


def test_there_are_eight() -> None:
    assert tuple(PROPERTIES) == OPERATIONS == tuple(ROLES)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_has_its_roles_and_no_default(operation: str) -> None:
    fields = dataclasses.fields(PROPERTIES[operation])
    assert {field.name for field in fields} == ROLES[operation]
    for field in fields:
        assert field.default is field.default_factory is dataclasses.MISSING


@pytest.mark.parametrize("operation", OPERATIONS)
def test_what_is_produced_is_one_of_the_roles(operation: str) -> None:
    outputs = PROPERTIES[operation].OUTPUTS
    assert outputs
    assert set(outputs) <= ROLES[operation]
