"""What torch compiles lies within the same bounds: fused kernels round less often, and in other places."""

from __future__ import annotations

import pytest
import torch
from operated import DTYPES, assert_consistent, exact, of, stored
from torch.nn import functional

from palm_torch.audit.operations import gating, linear, norms, residual, rotary


def step(
    x: torch.Tensor, more: torch.Tensor, w: torch.Tensor, b: torch.Tensor, m: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """One of each operation, all in one graph."""
    frequency = 1.0 / (1e4 ** (torch.arange(0, 32, 2, dtype=torch.float) / 32))
    angle = torch.arange(x.shape[0])[:, None].float() * frequency
    cosine, sine = (torch.cat((part, part), -1).to(x.dtype)[:, None] for part in (angle.cos(), angle.sin()))
    heads = x.view(x.shape[0], -1, 32)
    rotated = torch.cat((-heads[..., 16:], heads[..., :16]), -1)
    wide = x.float()
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)
    inner = 0.7978845608028654 * (x + 0.044715 * torch.pow(x, 3.0))
    return (
        w * wide.to(x.dtype),
        functional.layer_norm(x, (x.shape[1],), w, b, 1e-5),
        heads * cosine + rotated * sine,
        functional.silu(x) * more,
        0.5 * x * (1.0 + torch.tanh(inner)),
        functional.gelu(x),
        x + more,
        functional.linear(x, m, b),
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("dtype", DTYPES)
def test_compiled_operations_are_consistent(dtype: str) -> None:
    torch.manual_seed(6)
    kind, arithmetic = DTYPES[dtype], of(dtype)
    x, more = torch.randn(9, 160).mul(3).to(kind), torch.randn(9, 160).to(kind)
    w, b, m = torch.randn(160).to(kind), torch.randn(160).to(kind), torch.randn(160, 160).div(12).to(kind)
    given = torch.compile(step, fullgraph=True)(x, more, w, b, m)
    known_x, known_more = exact(x), exact(more)
    turns = rotary.turns(torch.arange(9).numpy(), 1e4, 32, arithmetic)
    expected = (
        norms.rms(known_x, stored(w), 1e-6, arithmetic),
        norms.layer(known_x, stored(w), stored(b), 1e-5, arithmetic),
        rotary.turned(known_x.reshape(9, 5, 32), turns, arithmetic),
        gating.gated(known_x, known_more, "silu", arithmetic),
        gating.activated(known_x, "gelu_new", arithmetic),
        gating.activated(known_x, "gelu", arithmetic),
        residual.added(known_x, known_more, arithmetic),
        linear.applied(known_x, stored(m), stored(b), arithmetic),
    )
    for one, known in zip(given, expected, strict=True):
        assert_consistent(one, known)
    for one, known in zip(step(x, more, w, b, m), expected, strict=True):
        assert_consistent(one, known)
