"""Outputs of modules as tensors under paths."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import pytest
import torch
from transformers.cache_utils import DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast

from palm_torch.errors import CoverageError
from palm_torch.hooks import tap_outputs

X, Y = torch.ones(2), torch.zeros(3)
Pair = collections.namedtuple("Pair", ["first", "second"])  # noqa: PYI024 (as libraries have them)


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    extra: Any = None


def walk(output: object) -> dict[str, object]:
    return dict(tap_outputs.leaves(output))


@pytest.mark.parametrize(
    ("output", "paths"),
    [
        (X, {"": X}),
        ((X, Y), {"0": X, "1": Y}),
        ([X, (Y,)], {"0": X, "1.0": Y}),
        (Pair(X, None), {"0": X, "1": None}),
        ({"a": X, "b": {"c": Y}}, {"a": X, "b.c": Y}),
        (collections.OrderedDict(a=X), {"a": X}),
        (collections.UserDict(a=X), {"a": X}),
        (Output(X, (Y, 3)), {"logits": X, "extra.0": Y, "extra.1": 3}),
        ((X, torch.Size([4, 5])), {"0": X, "1.0": 4, "1.1": 5}),
        (
            CausalLMOutputWithPast(logits=X, hidden_states=(X, Y)),
            {"logits": X, "hidden_states.0": X, "hidden_states.1": Y},
        ),
        (None, {"": None}),
        ((), {"": ()}),
    ],
)
def test_paths(output: object, paths: dict[str, object]) -> None:
    found = walk(output)
    assert list(found) == list(paths)
    assert all(found[path] is value or found[path] == value for path, value in paths.items())


def test_caches_of_transformers_are_left_out() -> None:
    tap_outputs.learn_caches([])
    cache = DynamicCache()
    assert walk((X, cache)) == {"0": X, "1": cache}
    assert tap_outputs.kind_of(cache) == "DynamicCache"


@pytest.mark.parametrize(
    ("value", "kind"),
    [(None, "None"), (1, "int"), (True, "bool"), ("a", "str"), ((), "empty tuple"), ({}, "empty dict")],
)
def test_what_is_left_out_has_a_name(value: object, kind: str) -> None:
    assert tap_outputs.kind_of(value) == kind


@pytest.mark.parametrize("output", [object(), {1, 2}, iter([]), Output, (X, object())])
def test_other_types_are_refused(output: object) -> None:
    with pytest.raises(CoverageError, match=r"expected a tensor, or tuples, lists, dictionaries"):
        walk(output)


@pytest.mark.parametrize("key", [1, ("a", "b"), "two\nlines"])
def test_keys_that_are_no_names_are_refused(key: object) -> None:
    with pytest.raises(CoverageError, match="expected a name of one line"):
        walk({key: X})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.bool, torch.int64, torch.complex64])
def test_dense_tensors_have_bytes(dtype: torch.dtype) -> None:
    tap_outputs.require_dense(torch.zeros(2, 3, dtype=dtype).t(), what="x")
    tap_outputs.require_dense(torch.nn.Parameter(torch.zeros(2)), what="x")


def test_other_tensors_do_not() -> None:
    nested = torch.nested.nested_tensor([torch.ones(2), torch.ones(3)], layout=torch.jagged)
    quantized = torch.empty(2, device="meta")
    for tensor in (torch.eye(2).to_sparse(), nested, quantized):
        with pytest.raises(CoverageError, match="the output: "):
            tap_outputs.require_dense(tensor, what="the output")


def test_a_tensor_inside_of_a_transform_is_refused() -> None:
    def look(x: torch.Tensor) -> torch.Tensor:
        tap_outputs.require_dense(x, what="the output")
        return x

    with pytest.raises(CoverageError, match=r"torch\.func transform"):
        torch.func.vmap(look)(torch.ones(2, 3))


def test_first_tensor() -> None:
    assert tap_outputs.first_tensor(((X, Y),)) is X
    assert tap_outputs.first_tensor(([], X)) is None
    assert tap_outputs.first_tensor({"a": X}) is None
