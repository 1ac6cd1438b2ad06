"""A block of Llama, Mistral, Qwen2 or Qwen3: attention and a gated MLP, each behind a norm and a residual.

    normed = rms(input);  query, key, value = W · normed;  attended = attention(query, keys, values)
    middle = input + W · attended;  normed = rms(middle);  output = middle + W · (act(gate) · up)

They differ in biases and in norms of heads, which the geometry says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch.audit.operations import gating, norms, residual

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from palm_torch.audit.bounded import Bounded
    from palm_torch.audit.stretch import Stretch


def check(stretch: Stretch, attended: Sequence[Bounded], without: Mapping[int, str]) -> None:
    """Compares every operation of the block at some places.

    Args:
        stretch: The rows of the block, which takes the findings.
        attended: What the output projection was given, in each way that positions may be counted.
        without: Places whose attention cannot be computed, and why.
    """
    geometry, arithmetic = stretch.source.geometry, stretch.arithmetic
    hidden, epsilon = geometry.hidden, geometry.norm_epsilon

    def normed(role: str, rows: Bounded) -> Bounded:
        weight = stretch.source.vector(role, hidden)
        return stretch.compare(role, norms.rms(rows, weight, epsilon, arithmetic))

    given = stretch.exact("input")
    before = normed("attention norm", given)
    for role in ("query", "key", "value"):
        stretch.linear(role, before)
    out = stretch.linear("attention out", *attended, without=without)
    middle = stretch.settled(residual.added(given, out, arithmetic))
    between = normed("mlp norm", middle)
    gate, up = stretch.linear("gate", between), stretch.linear("up", between)
    down = stretch.linear("down", gating.gated(gate, up, geometry.activation, arithmetic))
    stretch.compare("output", residual.added(middle, down, arithmetic))
