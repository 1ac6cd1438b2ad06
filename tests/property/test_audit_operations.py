"""Bounds hold: for exact arithmetic, for every order of a sum, and for roundings that happen or do not."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palm_torch.audit import arithmetic, bounded, margins
from palm_torch.audit.arithmetic import BFLOAT16, FLOAT16, FLOAT32, Form
from palm_torch.audit.bounded import Bounded
from palm_torch.audit.operations import attention, linear, norms, tokens

KINDS: dict[str, Any] = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
FORMS = st.sampled_from([FLOAT32, FLOAT16, BFLOAT16])
NUMBERS = st.floats(-1e4, 1e4, allow_subnormal=True, width=32)
ERRORS = st.one_of(st.just(0.0), st.floats(0.0, 10.0), st.floats(1e-12, 1e-6))
PARTS = st.fractions(-1, 1, max_denominator=1000)  # where in its interval a number lies
SEEDS = st.integers(0, 2**32 - 1)


def one(value: float, error: float) -> Bounded:
    return Bounded(np.array([value]), np.array([error]))


def holds(found: Bounded, truth: Fraction) -> bool:
    value, error = Fraction(float(found.value[0])), float(found.error[0])
    return math.isinf(error) or abs(truth - value) <= Fraction(error)


def inside(value: float, error: float, part: Fraction) -> Fraction:
    return Fraction(value) + part * Fraction(error)


@given(a=NUMBERS, b=NUMBERS, ea=ERRORS, eb=ERRORS, pa=PARTS, pb=PARTS)
def test_sums_differences_and_products_hold_whatever_their_operands_are(
    a: float, b: float, ea: float, eb: float, pa: Fraction, pb: Fraction
) -> None:
    x, y, p, q = one(a, ea), one(b, eb), inside(a, ea, pa), inside(b, eb, pb)
    assert holds(x + y, p + q)
    assert holds(x - y, p - q)
    assert holds(x * y, p * q)
    assert holds(-x, -p)
    assert holds(x.times(b), p * Fraction(b))
    assert holds(x.plus(b), p + Fraction(b))


@given(a=NUMBERS, error=ERRORS, part=PARTS, form=FORMS, data=st.data())
def test_roundings_hold_each_of_them_whether_it_happens_or_not(
    a: float, error: float, part: Fraction, form: Form, data: st.DataObject
) -> None:
    truth = inside(a, error, part)
    times = data.draw(st.integers(0, 3))
    found = one(a, error).rounded(form, times=times)
    for _ in range(data.draw(st.integers(0, times))):
        with bounded.quiet():
            near = np.array(float(truth)).astype(KINDS[form.name])  # through float64, which has its own error
        truth = Fraction(float(near)) if np.isfinite(near) else truth
    wider = Bounded(found.value, found.error + abs(found.value) * 2.0**-51)
    assert holds(wider, truth)


@given(a=NUMBERS, error=ERRORS, part=PARTS)
def test_functions_with_a_slope_hold(a: float, error: float, part: Fraction) -> None:
    found = one(a, error).through(np.tanh, slope=1.0)
    assert abs(math.tanh(float(inside(a, error, part))) - found.value[0]) <= found.error[0] + 1e-15


@given(seed=SEEDS, terms=st.integers(1, 80), kind=st.sampled_from(sorted(KINDS)), fused=st.booleans())
def test_a_sum_of_products_holds_in_every_order_and_with_every_rounding(
    seed: int, terms: int, kind: str, *, fused: bool
) -> None:
    draw = np.random.default_rng(seed)
    scale = 10.0 ** draw.integers(-3, 2, terms)
    x, w = (draw.normal(size=(2, terms)) * scale).astype(KINDS[kind])
    bias = draw.normal(size=1).astype(KINDS[kind])
    found = linear.applied(bounded.exact(x[None]), w[None], bias, arithmetic.of(kind, {}))
    parts = [np.float32(0)] * int(draw.integers(1, 9))
    for at in draw.permutation(terms):  # several running sums, in any order
        lane = int(draw.integers(len(parts)))
        a, b = np.float32(x[at]), np.float32(w[at])
        if fused:
            parts[lane] = np.float32(float(a) * float(b) + float(parts[lane]))
        else:
            parts[lane] = np.float32(np.float32(a * b) + parts[lane])
    while len(parts) > 1:
        parts.append(np.float32(parts.pop(0) + parts.pop(0)))
    total = parts[0].astype(KINDS[kind]) if draw.integers(2) else parts[0]
    given_to = np.array([[np.float32(total) + np.float32(bias[0])]]).astype(KINDS[kind])
    assert margins.compare(given_to, found).consistent


@given(seed=SEEDS, width=st.integers(2, 60), kind=st.sampled_from(sorted(KINDS)), scale=st.floats(-6, 4))
def test_a_norm_holds_in_every_order(seed: int, width: int, kind: str, scale: float) -> None:
    draw = np.random.default_rng(seed)
    x = (draw.normal(size=width) * 10.0**scale).astype(KINDS[kind])
    w = draw.normal(size=width).astype(KINDS[kind])
    total = np.float32(0)
    for at in draw.permutation(width):
        total = np.float32(total + np.float32(x[at]) * np.float32(x[at]))
    root = np.float32(1) / np.sqrt(np.float32(total / np.float32(width)) + np.float32(1e-6))
    normed = (x.astype(np.float32) * root).astype(KINDS[kind])
    found = norms.rms(bounded.exact(x[None]), w, 1e-6, arithmetic.of(kind, {}))
    assert margins.compare((normed * w)[None], found).ratio <= 1.0


@pytest.mark.parametrize("kind", KINDS)
@given(seed=SEEDS, count=st.integers(1, 40), block=st.integers(16, 40), sharp=st.floats(0.1, 20.0))
def test_attention_in_blocks_holds(kind: str, seed: int, count: int, block: int, sharp: float) -> None:
    draw = np.random.default_rng(seed)
    q = (draw.normal(size=(1, 1, 8)) * sharp).astype(KINDS[kind])
    k, v = draw.normal(size=(2, count, 1, 8)).astype(KINDS[kind])
    top, total, out = np.float32(-np.inf), np.float32(0), np.zeros(8, np.float32)
    wide_q, wide_k, wide_v = (x.astype(np.float32) for x in (q[0, 0], k[:, 0], v[:, 0]))
    for start in range(0, count, block):  # a running maximum, and weights rounded before they are used
        scores = (wide_k[start : start + block] @ wide_q) * np.float32(8**-0.5)
        new = np.maximum(top, scores.max())
        weights, again = np.exp(scores - new), np.exp(top - new)
        total = np.float32(total * again + weights.sum(dtype=np.float32))
        out = out * again + weights.astype(KINDS[kind]).astype(np.float32) @ wide_v[start : start + block]
        top = new
    found = attention.attended(
        bounded.exact(q), bounded.exact(k), bounded.exact(v), 8**-0.5, arithmetic.of(kind, {})
    )
    assert margins.compare((out / total).astype(KINDS[kind])[None], found).ratio <= 1.0


@given(seed=SEEDS, top_k=st.integers(1, 50), top_p=st.floats(0.05, 1.0), temperature=st.floats(0.2, 3.0))
def test_the_likeliest_token_may_always_be_drawn(
    seed: int, top_k: int, top_p: float, temperature: float
) -> None:
    logits = np.random.default_rng(seed).normal(size=50).astype(np.float32) * 3
    first = int(logits.argmax())
    assert tokens.greedy(logits, first).consistent
    assert tokens.sampled(
        logits, first, temperature=temperature, top_k=top_k, top_p=top_p, min_p=1.0
    ).consistent
    last = int(logits.argmin())
    assert tokens.sampled(logits, last, temperature=temperature, top_k=top_k).consistent == (top_k == 50)
