"""Llamas of given sizes with random weights, and what they are made to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
from transformers import LlamaConfig, LlamaForCausalLM

PROMPT: Final = 32


@dataclass(frozen=True)
class Case:
    """A model, what it does, which of its outputs are committed to, and what that may cost."""

    name: str
    width: int
    depth: int
    dtype: torch.dtype
    layers: Any
    bar_percent: float
    generate: bool = True

    def model(self) -> Any:  # noqa: ANN401 (transformers has no types)
        """Returns a Llama of these sizes with random weights."""
        torch.manual_seed(0)
        config = LlamaConfig(
            hidden_size=self.width,
            intermediate_size=self.width * 8 // 3 // 64 * 64,
            num_hidden_layers=self.depth,
            num_attention_heads=self.width // 64,
            num_key_value_heads=self.width // 64,
            vocab_size=32_000 if self.generate else 1_000,
            max_position_embeddings=1024,
        )
        model: Any = LlamaForCausalLM(config)
        return model.to(self.dtype).eval()

    def run(self, model: Any, tokens: int) -> torch.Tensor:  # noqa: ANN401 (transformers has no types)
        """Generates that many tokens, or reads them at once; returns the tokens, or the last logits."""
        vocabulary = model.config.vocab_size
        with torch.no_grad():
            if not self.generate:
                ids = torch.randint(0, vocabulary, (1, tokens), generator=torch.Generator().manual_seed(1))
                logits: torch.Tensor = model(ids).logits[:, -1]
                return logits
            ids = torch.randint(0, vocabulary, (1, PROMPT), generator=torch.Generator().manual_seed(1))
            made: torch.Tensor = model.generate(
                ids, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0
            )
            return made


CASES: Final = (
    Case("blocks, generating, width 768, float32", 768, 12, torch.float32, "blocks", 3),
    Case("blocks, generating, width 768, bfloat16", 768, 12, torch.bfloat16, "blocks", 3),
    Case("all, generating, 112 M parameters, float32", 768, 12, torch.float32, "all", 15),
    Case("all, generating, 112 M parameters, bfloat16", 768, 12, torch.bfloat16, "all", 15),
    Case("blocks, forward, width 4096, float32", 4096, 4, torch.float32, "blocks", 1, generate=False),
    Case("blocks, forward, width 4096, bfloat16", 4096, 4, torch.bfloat16, "blocks", 1, generate=False),
)
