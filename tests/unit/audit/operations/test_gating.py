"""Activation functions of torch lie within the bounds, over all of their range; other functions do not."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from operated import DTYPES, assert_consistent, assert_tight, exact, margin, of
from torch.nn import functional

from palm_torch.audit.bounded import Bounded
from palm_torch.audit.operations import gating
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable


def gelu_new(x: torch.Tensor) -> torch.Tensor:
    """As transformers compute it, step by step."""
    inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))
    return 0.5 * x * (1.0 + torch.tanh(inner))


FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": functional.silu,
    "swish": functional.silu,
    "gelu": functional.gelu,
    "gelu_new": gelu_new,
    "gelu_pytorch_tanh": lambda x: functional.gelu(x, approximate="tanh"),
}
WIDE = torch.cat(
    [
        torch.linspace(-8, 8, 20_001),
        torch.linspace(-130, 130, 4001),
        torch.logspace(-40, 4, 2001),
        -torch.logspace(-40, 4, 2001),
        torch.tensor([0.0, -0.0, 65000.0, -65000.0, -88.0, -88.8, -104.0]),
    ]
)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", gating.ACTIVATIONS)
def test_what_torch_computes_is_consistent_everywhere(dtype: str, name: str) -> None:
    x = WIDE.to(DTYPES[dtype])
    assert_consistent(FUNCTIONS[name](x), gating.activated(exact(x), name, of(dtype)))
    for count in (1, 3, 5, 19):  # what is left beside whole vectors is computed by other code
        few = x[7000 : 7000 + count]
        assert_consistent(FUNCTIONS[name](few), gating.activated(exact(few), name, of(dtype)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_gated_rows_are_consistent_also_as_written_out(dtype: str) -> None:
    torch.manual_seed(2)
    gate, up = (torch.randn(5, 999) * 5).to(DTYPES[dtype]), torch.randn(5, 999).to(DTYPES[dtype])
    known = gating.gated(exact(gate), exact(up), "silu", of(dtype))
    assert_consistent(functional.silu(gate) * up, known)
    wide = gate.float()
    assert_consistent((wide / (1 + torch.exp(-wide)) * up.float()).to(gate.dtype), known)  # as a fused kernel


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["silu", "gelu", "gelu_new", "gelu_pytorch_tanh"])
def test_a_change_of_two_bounds_is_found(dtype: str, name: str) -> None:
    x = torch.linspace(-3, 4, 57).to(DTYPES[dtype])
    assert_tight(FUNCTIONS[name](x), gating.activated(exact(x), name, of(dtype)))


def test_other_functions_are_found() -> None:
    x = torch.linspace(-3, 3, 301)
    for name in ("silu", "gelu", "gelu_new"):
        known = gating.activated(exact(x), name, of("float32"))
        for other in ("silu", "gelu", "gelu_new"):
            assert margin(FUNCTIONS[other](x), known).consistent == (name == other)
    assert not margin(torch.relu(x), gating.activated(exact(x), "gelu", of("float32"))).consistent


@pytest.mark.parametrize("name", gating.ACTIVATIONS)
def test_inputs_with_errors_widen_the_bounds_enough(name: str) -> None:
    x = torch.linspace(-5, 5, 501)
    known = gating.activated(Bounded(exact(x).value, np.full(501, 0.05)), name, of("float32"))
    for move in (-0.0499, -0.02, 0.03, 0.0499):
        assert_consistent(FUNCTIONS[name](x + move), known)


def test_a_cube_beyond_float16_does_not_hide_large_numbers() -> None:
    x = torch.tensor([41.0, -41.0, 60000.0, -60000.0]).half()
    assert torch.isinf(torch.pow(x, 3.0)).all()
    known = gating.activated(exact(x), "gelu_new", of("float16"))
    assert_consistent(gelu_new(x), known)
    assert not margin(x / 2, known).consistent
    assert not margin(-x, known).consistent


def test_an_unknown_function_is_an_error() -> None:
    with pytest.raises(DataError, match=r"activation: expected one of silu, swish, gelu, .* got 'relu'"):
        gating.activated(exact(torch.ones(1)), "relu", of("float32"))
