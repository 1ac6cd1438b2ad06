"""Which function it is, and what it was called with."""

from __future__ import annotations

import enum
import functools
from typing import Any

import pytest
import torch

from palm_torch.errors import MeasurementError
from palm_torch.hooks import source
from palm_torch.hooks.functions import MAX_DEPTH, function_identity


def scale(x: object, factor: object = 1, **options: object) -> object:
    return x, factor, options


class Colour(enum.Enum):
    RED = 1


def test_plain_method_and_callable_object() -> None:
    expected = function_identity(torch.nn.functional.softmax)
    assert expected.name == "torch.nn.functional.softmax"
    assert expected.files[0].module == "torch.nn.functional"
    layer = torch.nn.Linear(2, 2)
    assert function_identity(layer).name == "torch.nn.modules.linear.Linear"
    assert function_identity(layer.forward).name == "torch.nn.modules.linear.Linear.forward"
    assert function_identity(len).name == "builtins.len"


def test_decorated_function_names_both_files() -> None:
    decorated = torch.no_grad()(source.of_module)
    identity = function_identity(decorated)
    assert identity.name == "palm_torch.hooks.source.of_module"
    assert identity.files[-1].module == "palm_torch.hooks.source"


def test_what_a_partial_binds_counts_as_what_a_call_gives() -> None:
    plain = function_identity(scale)
    called = function_identity(scale, factor=2, kind="a")
    bound = function_identity(functools.partial(functools.partial(scale, kind="a"), factor=3), factor=2)
    assert (bound, bound.digest) == (called, called.digest)
    assert called.digest != plain.digest
    assert (called.name, called.files) == (plain.name, plain.files)
    assert function_identity(scale, 7, 2) == function_identity(functools.partial(scale, 7), factor=2)


@pytest.mark.parametrize(
    "value",
    [
        None, True, 1, 1.0, -0.0, 0.0, "1", b"1", [1], (1,), {"a": 1}, [[1]], 2**80, Colour.RED,
        torch.float32, len, scale, functools.partial(scale, 1), functools.partial(scale, 2), Colour, "None",
        "true", ["int", "0x1"],
    ],
)  # fmt: skip
def test_arguments_differ_by_value_and_type(value: object) -> None:
    others = [None, True, 1, 1.0, "1", b"1", [1], (1,), {"a": 1}, [[1]], scale, functools.partial(scale, 1)]
    digest = function_identity(scale, factor=value).digest
    assert digest == function_identity(scale, factor=value).digest
    same = [other for other in others if function_identity(scale, factor=other).digest == digest]
    assert all(repr(other) == repr(value) for other in same)


def deep(levels: int) -> Any:
    return 1 if not levels else [deep(levels - 1)]


@pytest.mark.parametrize(
    "value",
    [
        object(), torch.ones(1), float("nan"), float("inf"), {1: 2}, {1}, [0, {"a": object()}],
        deep(MAX_DEPTH + 1),
    ],
)  # fmt: skip
def test_what_has_no_canonical_form_is_named(value: object) -> None:
    with pytest.raises(MeasurementError, match="scale: argument 'factor'"):
        function_identity(scale, factor=value)


def test_further_faults_are_named() -> None:
    assert function_identity(scale, deep(MAX_DEPTH)).files
    with pytest.raises(MeasurementError, match="scale: cannot be called like this: too many positional"):
        function_identity(scale, 1, 2, 3)
    with pytest.raises(MeasurementError, match="an argument has no canonical form"):
        function_identity(scale, "\ud800")


def test_functions_without_a_signature_take_their_arguments_as_they_come() -> None:
    assert function_identity(dict, a=1) != function_identity(dict, a=2)
    assert function_identity(torch.add, 1, 2) != function_identity(torch.add, 2, 1)
