"""A block of GPT-2: attention and an MLP, each behind a layer norm and a residual, with biases everywhere.

    normed = norm(input);  query, key, value = W · normed;  attended = attention(query, keys, values)
    middle = input + W · attended;  output = middle + W · act(W · norm(middle))

What the first block is given is the sum of two embeddings, which no module returns.
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
        attended: What the output projection was given.
        without: Places whose attention cannot be computed, and why.
    """
    arithmetic = stretch.arithmetic
    given = _given(stretch)
    stretch.linear("qkv", normed(stretch, "attention norm", given))
    out = stretch.linear("attention out", *attended, without=without)
    middle = stretch.settled(residual.added(given, out, arithmetic))
    up = stretch.linear("up", normed(stretch, "mlp norm", middle))
    activated = gating.activated(up, stretch.source.geometry.activation, arithmetic)
    down = stretch.linear("down", activated)
    stretch.compare("output", residual.added(middle, down, arithmetic))


def normed(stretch: Stretch, role: str, rows: Bounded) -> Bounded:
    """Compares the output of a layer norm, and returns it."""
    source, hidden = stretch.source, stretch.source.geometry.hidden
    weight, bias = source.vector(role, hidden), source.vector(f"{role}.bias", hidden)
    return stretch.compare(
        role, norms.layer(rows, weight, bias, source.geometry.norm_epsilon, stretch.arithmetic)
    )


def _given(stretch: Stretch) -> Bounded:
    if "input" in stretch.rows:
        return stretch.exact("input")
    word, position = stretch.exact("token embedding"), stretch.exact("position embedding")
    return stretch.settled(residual.added(word, position, stretch.arithmetic))
