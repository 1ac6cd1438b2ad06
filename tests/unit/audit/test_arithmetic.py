"""What a trace says of its environment, turned into units of rounding."""

from __future__ import annotations

import math

import pytest

from palm_torch.audit import arithmetic
from palm_torch.audit.arithmetic import BFLOAT16, CUDA_ACCUMULATOR, FLOAT16, FLOAT32, Arithmetic
from palm_torch.errors import DataError

PROCESSOR = {"autocast.cpu": "off", "float32_matmul_precision": "highest"}
REDUCED = "backends.cuda.matmul.allow_bf16_reduced_precision_reduction"


@pytest.mark.parametrize("form", [FLOAT32, BFLOAT16, FLOAT16])
def test_each_format_has_the_numbers_that_torch_gives_it(form: arithmetic.Form) -> None:
    import torch

    known = torch.finfo(getattr(torch, form.name))
    assert form.unit == known.eps / 2
    assert form.largest == known.max
    assert form.tiny == (
        known.tiny if form is not FLOAT16 else torch.finfo(torch.float16).smallest_normal / 2**11
    )


def test_a_processor_with_whole_numbers_needs_no_assumptions() -> None:
    found = arithmetic.of("float32", PROCESSOR)
    assert found == Arithmetic(form=FLOAT32)
    assert arithmetic.of("bfloat16", {}) == Arithmetic(form=BFLOAT16)


@pytest.mark.parametrize(("precision", "operand"), [("high", 2.0**-10), ("medium", 2.0**-7)])
def test_operands_that_may_be_rounded_first_widen_the_bounds_and_are_told_of(
    precision: str, operand: float
) -> None:
    found = arithmetic.of("float32", PROCESSOR | {"float32_matmul_precision": precision})
    assert found.operand == operand
    assert precision in found.assumptions[0]
    assert found.products(8) > 2 * operand > arithmetic.of("float32", PROCESSOR).products(8)
    assert arithmetic.of("bfloat16", {"float32_matmul_precision": precision}).operand == 0.0


def test_what_is_not_stated_is_taken_for_granted_and_told_of() -> None:
    found = arithmetic.of("float32", {})
    assert (found.operand, len(found.assumptions)) == (0.0, 1)
    assert "float32_matmul_precision is not stated" in found.assumptions[0]
    found = arithmetic.of("bfloat16", {"autocast.cuda": "off"})
    assert found.reduction == 0.0
    assert f"{REDUCED} is not stated" in found.assumptions[1]


def test_a_gpu_cuts_sums_off() -> None:
    found = arithmetic.of("float32", PROCESSOR | {"autocast.cuda": "off"})
    assert found.accumulator == CUDA_ACCUMULATOR
    assert "GPU" in found.assumptions[0]
    assert found.sums(8) == arithmetic.of("float32", PROCESSOR).sums(8)  # no matrix unit computes these


def test_partial_sums_in_a_narrow_format_widen_the_bounds_where_they_are_allowed() -> None:
    environment = PROCESSOR | {"autocast.cuda": "off"}
    found = arithmetic.of("bfloat16", environment | {REDUCED: "True"})
    assert found.reduction >= 8 * BFLOAT16.unit
    assert REDUCED in found.assumptions[1]
    assert arithmetic.of("bfloat16", environment | {REDUCED: "False"}).reduction == 0.0
    assert arithmetic.of("bfloat16", PROCESSOR | {REDUCED: "True"}).reduction == 0.0  # no GPU was there
    name = REDUCED.replace("bf16", "fp16")
    assert 0.0 < arithmetic.of("float16", environment | {name: "True"}).reduction < found.reduction


@pytest.mark.parametrize(
    ("dtype", "environment", "message"),
    [
        ("float64", {}, "dtype: expected one of float32, bfloat16, float16, got 'float64'"),
        ("bfloat16", {"autocast.cpu": "bfloat16"}, "autocast.cpu: expected 'off', got 'bfloat16'"),
        ("bfloat16", {"autocast.cuda": "float16"}, "autocast.cuda: expected 'off'"),
        (
            "float32",
            {"float32_matmul_precision": "best"},
            "float32_matmul_precision: expected one of highest",
        ),
        ("bfloat16", {"autocast.cuda": "off", REDUCED: "maybe"}, "expected 'False' or 'True', got 'maybe'"),
    ],
)
def test_where_no_bounds_are_known_the_error_says_so(
    dtype: str, environment: dict[str, str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        arithmetic.of(dtype, environment)


def test_a_sum_of_absurdly_many_products_has_no_bound() -> None:
    assert arithmetic.of("float32", PROCESSOR).products(1 << 25) == math.inf
