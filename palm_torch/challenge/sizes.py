"""What a verifier says that a model is: sizes and switches of a transformer, from its own copy of the config.

It says which modules a trace has and what each of them computes. Nothing of it is taken from the prover.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from palm_torch.errors import DataError

Family: TypeAlias = Literal["llama", "gpt2"]
"""``llama``: Llama, Mistral, Qwen2, Qwen3, whose blocks differ in biases and norms of heads; and ``gpt2``."""

ACTIVATIONS: Final = ("silu", "gelu", "gelu_new", "gelu_pytorch_tanh")

MAX_BLOCKS: Final = 1 << 12
MAX_EXTENT: Final = 1 << 24
"""Most blocks, and largest number of anything else."""

PREFIXES: Final[dict[Family, str]] = {"llama": "model.", "gpt2": "transformer."}


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """Sizes and switches of a model.

    Attributes:
        family: How its blocks are built.
        blocks: How many blocks.
        hidden: Width of the residual stream.
        intermediate: Width within the MLP.
        vocabulary: How many tokens there are.
        heads: Heads of queries.
        key_value_heads: Heads of keys and values, of which each serves as many heads of queries.
        head_width: Width of a head.
        norm_epsilon: What norms add under the root.
        rope_theta: Base of the rotary positions; None where positions have embeddings.
        activation: What the MLP applies, one of `ACTIVATIONS`.
        query_bias: Whether queries, keys and values have biases.
        output_bias: Whether the output of the attention has one.
        mlp_bias: Whether the linear layers of the MLP have them.
        head_norms: Whether heads of queries and keys are normed.
        tied: Whether the head has the weights of the embedding.
        prefix: What names of modules begin with: ``model.`` or ``transformer.``.

    Raises:
        DataError: If no such model can be.
    """

    family: Family
    blocks: int
    hidden: int
    intermediate: int
    vocabulary: int
    heads: int
    key_value_heads: int
    head_width: int
    norm_epsilon: float
    rope_theta: float | None
    activation: str
    query_bias: bool
    output_bias: bool
    mlp_bias: bool
    head_norms: bool
    tied: bool
    prefix: str

    def __post_init__(self) -> None:
        """Refuses what no model is."""
        for name in _SIZES:
            most = MAX_BLOCKS if name == "blocks" else MAX_EXTENT
            if not 1 <= (size := getattr(self, name)) <= most:
                raise DataError(f"{name}: expected a number from 1 to {most}, got {size}")
        if self.heads % self.key_value_heads:
            raise DataError(
                f"key_value_heads: expected a divisor of the {self.heads} heads, got {self.key_value_heads}"
            )
        if not (math.isfinite(self.norm_epsilon) and self.norm_epsilon > 0):
            raise DataError(f"norm_epsilon: expected a number above 0, got {self.norm_epsilon}")
        if self.activation not in ACTIVATIONS:
            raise DataError(
                f"activation: expected one of {', '.join(ACTIVATIONS)}, got {self.activation[:80]!r}"
            )
        if self.prefix != PREFIXES[self.family]:
            raise DataError(f"prefix: expected {PREFIXES[self.family]!r}, got {self.prefix[:80]!r}")
        if self.family == "gpt2":
            self._check_gpt2()
        else:
            self._check_llama()

    def _check_gpt2(self) -> None:
        expected = {
            "key_value_heads": self.heads,
            "rope_theta": None,
            "query_bias": True,
            "output_bias": True,
            "mlp_bias": True,
            "head_norms": False,
        }
        for name, value in expected.items():
            if (found := getattr(self, name)) != value:
                raise DataError(f"{name}: of gpt2 it is {value}, got {found}")
        if self.heads * self.head_width != self.hidden:
            raise DataError(
                f"head_width: expected {self.heads} heads to make a width of {self.hidden}, got "
                f"{self.head_width} each"
            )

    def _check_llama(self) -> None:
        theta = self.rope_theta
        if theta is None or not (math.isfinite(theta) and theta > 0):
            raise DataError(f"rope_theta: expected a number above 0, got {theta}")
        if self.head_width % 2:
            raise DataError(
                f"head_width: expected an even number, half of which turns, got {self.head_width}"
            )


_SIZES: Final = (
    "blocks",
    "hidden",
    "intermediate",
    "vocabulary",
    "heads",
    "key_value_heads",
    "head_width",
)
