"""Sums of rows and rows of tables."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
import torch
from operated import DTYPES, assert_consistent, assert_tight, exact, margin, of, stored

from palm_torch.audit import margins
from palm_torch.audit.operations import embedding, residual
from palm_torch.errors import DataError


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_sum_of_two_rows_is_rounded_once(dtype: str) -> None:
    torch.manual_seed(1)
    a, b = (torch.randn(3, 40) * 9).to(DTYPES[dtype]), torch.randn(3, 40).to(DTYPES[dtype])
    known = residual.added(exact(a), exact(b), of(dtype))
    assert_consistent(a + b, known)
    assert_tight(a + b, known)
    assert not margin(a - b, known).consistent


def test_a_sum_beyond_float16_is_infinite() -> None:
    a = torch.tensor([60000.0, -60000.0, 60000.0]).half()
    b = torch.tensor([60000.0, -60000.0, 5504.0]).half()
    assert_consistent(a + b, residual.added(exact(a), exact(b), of("float16")))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_of_a_table_is_given_as_it_is(dtype: str) -> None:
    table = torch.randn(10, 6).to(DTYPES[dtype])
    known = embedding.looked_up(stored(table)[[3, 3, 9]], tokens=3)
    assert_consistent(torch.nn.functional.embedding(torch.tensor([3, 3, 9]), table), known)
    wrong = table[[3, 3, 9]].clone()
    wrong[1, 2] *= 1.01
    found = margin(wrong, known)
    assert (found.ratio, found.index) == (math.inf, (1, 2))


def test_every_token_has_one_row() -> None:
    with pytest.raises(DataError, match=r"expected 2 rows of weights, got an array of shape \(3, 4\)"):
        embedding.looked_up(np.zeros((3, 4), np.float32), tokens=2)
    with pytest.raises(DataError, match="expected 3 rows of weights"):
        embedding.looked_up(np.zeros(3, ml_dtypes.bfloat16), tokens=3)


def test_a_table_that_is_not_finite_is_not_known() -> None:
    found = margins.compare(
        np.full((1, 2), np.nan, np.float32),
        embedding.looked_up(np.full((1, 2), np.nan, np.float32), tokens=1),
    )
    assert (found.compared, found.unbounded) == (0, 2)
