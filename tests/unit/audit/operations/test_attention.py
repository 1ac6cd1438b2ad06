"""Attention of torch's kernels and of transformers lies within the bounds; other attention does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from operated import DTYPES, assert_consistent, assert_tight, exact, margin, of
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from palm_torch.audit import bounded
from palm_torch.audit.bounded import Bounded
from palm_torch.audit.operations import attention
from palm_torch.errors import DataError

CASES = [
    (1, 4, 4, 16, 1.0),
    (17, 4, 2, 64, 1.0),
    (300, 6, 2, 64, 2.0),
    (200, 2, 1, 128, 8.0),
    (40, 3, 3, 7, 30.0),
]


def made(
    tokens: int, heads: int, shared: int, width: int, scale: float, dtype: torch.dtype
) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(tokens)
    q = (torch.randn(tokens, heads, width) * scale).to(dtype)
    return q, torch.randn(tokens, shared, width).to(dtype), torch.randn(tokens, shared, width).to(dtype)


def repeated(x: torch.Tensor, heads: int) -> torch.Tensor:
    return x.repeat_interleave(heads // x.shape[1], 1).transpose(0, 1)[None]


def fused(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, backend: SDPBackend) -> torch.Tensor:
    """All queries at once, each seeing what is before it."""
    heads = q.shape[1]
    with sdpa_kernel(backend):
        out = functional.scaled_dot_product_attention(
            q.transpose(0, 1)[None], repeated(k, heads), repeated(v, heads), is_causal=True
        )
    return out[0].transpose(0, 1).reshape(len(q), -1)


def single(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, backend: SDPBackend) -> torch.Tensor:
    """The last query alone, with a cache."""
    heads = q.shape[1]
    with sdpa_kernel(backend):
        out = functional.scaled_dot_product_attention(
            q[-1:].transpose(0, 1)[None], repeated(k, heads), repeated(v, heads)
        )
    return out[0].transpose(0, 1).reshape(1, -1)


def eager(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """As transformers do without a kernel."""
    heads, tokens = q.shape[1], len(q)
    scores = torch.matmul(q.transpose(0, 1)[None], repeated(k, heads).transpose(2, 3)) * q.shape[2] ** -0.5
    scores = scores + torch.full((tokens, tokens), torch.finfo(q.dtype).min, dtype=q.dtype).triu(1)
    weights = functional.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype)
    return torch.matmul(weights, repeated(v, heads))[0].transpose(0, 1).reshape(tokens, -1)


def expected(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, rows: list[int], dtype: str) -> Bounded:
    seen = np.arange(len(k))[None, :] <= np.array(rows)[:, None]
    return attention.attended(exact(q[rows]), exact(k), exact(v), q.shape[2] ** -0.5, of(dtype), visible=seen)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_kernels_and_plain_operations_are_consistent(
    dtype: str, case: tuple[int, int, int, int, float]
) -> None:
    q, k, v = made(*case, DTYPES[dtype])
    rows = sorted({0, len(q) // 2, len(q) - 1})
    known = expected(q, k, v, rows, dtype)
    for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.MATH):
        assert_consistent(fused(q, k, v, backend)[rows], known)
        assert_consistent(single(q, k, v, backend), known[-1:])
    assert_consistent(eager(q, k, v)[rows], known)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_last_query_sees_everything_without_flags(dtype: str) -> None:
    q, k, v = made(30, 4, 2, 16, 1.0, DTYPES[dtype])
    plain = attention.attended(exact(q[-1:]), exact(k), exact(v), 0.25, of(dtype))
    flagged = expected(q, k, v, [29], dtype)
    assert (plain.value == flagged.value).all()
    assert (plain.error == flagged.error).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_change_of_two_bounds_is_found(dtype: str) -> None:
    q, k, v = made(12, 2, 1, 8, 1.0, DTYPES[dtype])
    assert_tight(eager(q, k, v)[[11]], expected(q, k, v, [11], dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_missing_token_another_scale_and_other_heads_are_found(dtype: str) -> None:
    q, k, v = made(60, 4, 2, 64, 1.5, DTYPES[dtype])
    known = expected(q, k, v, [59], dtype)
    for wrong in (
        eager(q[1:], k[1:], v[1:])[58:],
        eager((q.float() * 1.3).to(q.dtype), k, v)[59:],
        eager(q, k.flip(1), v)[59:],
        eager(q, k, v.roll(1, 0))[59:],
    ):
        assert not margin(wrong, known).consistent


def test_what_is_not_seen_does_not_matter() -> None:
    q, k, v = made(20, 2, 2, 8, 1.0, torch.float32)
    seen = np.ones((1, 20), bool)
    seen[0, :5] = False
    first = attention.attended(exact(q[-1:]), exact(k), exact(v), 0.35, of("float32"), visible=seen)
    k[:5], v[:5] = 30.0, -1e9
    again = attention.attended(exact(q[-1:]), exact(k), exact(v), 0.35, of("float32"), visible=seen)
    assert (first.value == again.value).all()
    assert (first.error == again.error).all()


def test_many_tokens_are_taken_head_by_head(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = (exact(x) for x in made(90, 6, 2, 16, 1.0, torch.float32))
    at_once = attention.attended(q[-1:], k, v, 0.25, of("float32"))
    monkeypatch.setattr(attention, "AT_ONCE", 100)
    by_heads = attention.attended(q[-1:], k, v, 0.25, of("float32"))
    assert by_heads.error == pytest.approx(at_once.error, rel=1e-9)


@pytest.mark.parametrize("which", [1, 2])
def test_what_is_not_seen_and_not_finite_may_matter_since_masks_multiply_by_zero(which: int) -> None:
    made_of = made(20, 2, 2, 8, 1.0, torch.float32)
    seen = np.arange(20)[None] >= 5
    made_of[which][3, 1] = torch.nan
    found = attention.attended(
        *(exact(x) for x in (made_of[0][-1:], *made_of[1:])), 0.35, of("float32"), visible=seen
    )
    assert np.isinf(found.error).tolist() == [[False] * 8 + [True] * 8]


@pytest.mark.parametrize(("large", "known"), [(40.0, True), (1200.0, True), (4000.0, False)])
def test_a_score_that_is_not_seen_may_matter_if_it_leaves_float16(large: float, *, known: bool) -> None:
    q, k, v = made(12, 1, 1, 8, 1.0, torch.float16)
    q[-1], k[0] = 8.0, large
    k[0, 0, ::2] *= 0.25 if known else 1.0
    seen = np.arange(12)[None] >= 5
    found = attention.attended(exact(q[-1:]), exact(k), exact(v), 0.35, of("float16"), visible=seen)
    assert np.isfinite(found.error).all() == known


@pytest.mark.parametrize("which", [0, 1, 2])
def test_inputs_with_errors_widen_the_bounds_enough(which: int) -> None:
    made_of = made(25, 4, 2, 16, 1.0, torch.float32)
    exactly = [exact(made_of[0][-1:]), exact(made_of[1]), exact(made_of[2])]
    loose = [Bounded(x.value, np.full_like(x.value, 0.01 * (at == which))) for at, x in enumerate(exactly)]
    known = attention.attended(*loose, 0.25, of("float32"))
    torch.manual_seed(9)
    for _ in range(20):
        moved = [x.clone() for x in made_of]
        moved[which] += 0.0099 * torch.randn(moved[which].shape).sign()
        assert_consistent(eager(*moved)[-1:], known)
    assert margin(eager(*made_of)[-1:] + 1.0, known).ratio > 5.0


def test_a_score_that_may_leave_the_format_is_not_known() -> None:
    q, k, v = made(9, 2, 2, 64, 1.0, torch.float16)
    q, k = q.float().abs().mul(300).half(), k.float().abs().mul(300).half()
    assert np.isinf(expected(q, k, v, [8], "float16").error).all()
    v[2] = torch.nan
    q, k, _ = made(9, 2, 2, 64, 1.0, torch.float16)
    assert np.isinf(expected(q, k, v, [8], "float16").error).all()
    assert np.isfinite(expected(q, k[:2], v[:2], [1], "float16").error).all()


@pytest.mark.parametrize(
    ("q", "k", "v"),
    [
        ((2, 4), (5, 2, 8), (5, 2, 8)),
        ((2, 4, 8), (5, 16), (5, 16)),
        ((2, 4, 8), (5, 2, 8), (4, 2, 8)),
        ((2, 4, 6), (5, 2, 8), (5, 2, 8)),
        ((2, 3, 8), (5, 2, 8), (5, 2, 8)),
        ((2, 4, 8), (5, 0, 8), (5, 0, 8)),
        ((2, 4, 0), (5, 2, 0), (5, 2, 0)),
    ],
)
def test_shapes_that_do_not_fit_are_an_error(
    q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...]
) -> None:
    made_of = [bounded.exact(np.zeros(shape, np.float32)) for shape in (q, k, v)]
    with pytest.raises(DataError, match="attention: expected queries"):
        attention.attended(*made_of, 1.0, of("float32"))


def test_a_query_has_to_see_a_token() -> None:
    q, k, v = (exact(x) for x in made(4, 2, 2, 8, 1.0, torch.float32))
    with pytest.raises(DataError, match=r"expected \(4, 4\) flags of what is seen, got \(4, 3\)"):
        attention.attended(q, k, v, 1.0, of("float32"), visible=np.ones((4, 3), bool))
    with pytest.raises(DataError, match="expected a token that each query sees, got none"):
        attention.attended(q, k, v, 1.0, of("float32"), visible=np.eye(4, k=-1, dtype=bool))
    with pytest.raises(DataError, match="expected a token that each query sees, got none"):
        attention.attended(q, k[:0], v[:0], 1.0, of("float32"))
