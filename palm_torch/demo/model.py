"""A small GPT over bytes in plain PyTorch; it knows nothing of attestation.

Shapes: B batch, T tokens, C channels, H heads, K channels of a head, V vocabulary (256: a token is a byte).
"""

# ruff: noqa: N803, N806 (tensors end in their shape, see the legend above)

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

VOCABULARY = 256


class Block(nn.Module):
    """Attention and a multi-layer perceptron, each normalised before and added to what came in."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(channels)
        self.queries_keys_values = nn.Linear(channels, 3 * channels, bias=False)
        self.project = nn.Linear(channels, channels, bias=False)
        self.norm_mlp = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels)
        )

    def forward(self, x_BTC: torch.Tensor) -> torch.Tensor:
        """Returns the next layer's input, [B, T, C]."""
        x_BTC = x_BTC + self._attend(self.norm_attention(x_BTC))
        mixed_BTC: torch.Tensor = self.mlp(self.norm_mlp(x_BTC))
        return x_BTC + mixed_BTC

    def _attend(self, x_BTC: torch.Tensor) -> torch.Tensor:
        b, t, c = x_BTC.shape
        qkv = self.queries_keys_values(x_BTC).view(b, t, 3, self.heads, c // self.heads)
        q_BHTK, k_BHTK, v_BHTK = qkv.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q_BHTK, k_BHTK, v_BHTK, is_causal=True)
        projected_BTC: torch.Tensor = self.project(mixed.transpose(1, 2).reshape(b, t, c))
        return projected_BTC


class TinyGPT(nn.Module):
    """Predicts the next byte.

    Args:
        context: Greatest number of tokens it looks back over.
        channels: Width.
        layers: Number of blocks.
        heads: Attention heads per block.
    """

    def __init__(self, *, context: int = 256, channels: int = 48, layers: int = 2, heads: int = 2) -> None:
        super().__init__()
        self.token = nn.Embedding(VOCABULARY, channels)
        self.position = nn.Embedding(context, channels)
        self.blocks = nn.ModuleList(Block(channels, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, VOCABULARY, bias=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(self, tokens_BT: torch.Tensor) -> torch.Tensor:
        """Returns logits, [B, T, V]."""
        x_BTC = self.token(tokens_BT) + self.position.weight[: tokens_BT.shape[1]]
        for block in self.blocks:
            x_BTC = block(x_BTC)
        logits_BTV: torch.Tensor = self.head(self.norm(x_BTC))
        return logits_BTV
