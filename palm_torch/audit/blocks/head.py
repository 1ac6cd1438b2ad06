"""The end of a model: a norm, and the logits of the next token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from palm_torch.audit.blocks import gpt2
from palm_torch.audit.operations import norms

if TYPE_CHECKING:
    from palm_torch.audit.stretch import Stretch


def check(stretch: Stretch) -> None:
    """Compares norm and logits at some places; the stretch takes the findings."""
    source = stretch.source
    given = stretch.exact("input")
    if source.geometry.family == "gpt2":
        normed = gpt2.normed(stretch, "norm", given)
    else:
        weight = source.vector("norm", source.geometry.hidden)
        expected = norms.rms(given, weight, source.geometry.norm_epsilon, stretch.arithmetic)
        normed = stretch.compare("norm", expected)
    stretch.linear("logits", normed)
