"""Weights root against raw BLAKE3 of the same bytes, and what a hinted re-measurement costs.

Run ``python benchmarks/weights.py``. The model has the tensors of GPT-2 (124 M parameters, 498 MB in
float32, tied head); its bytes also lie in one buffer, which raw BLAKE3 hashes in one call on one core. The
two are timed in turn, so that both meet the same machine; the figure is the median of the pairs' ratios.
"""

from __future__ import annotations

import statistics
from typing import Final

import torch
from blake3 import blake3
from support.timing import seconds
from torch import nn

from palm_torch.hooks.weights import WeightsMeter, canonical_tensors

PAIRS: Final = 9
WIDTH: Final = 768
LAYERS: Final = 12
VOCABULARY: Final = 50257
CONTEXT: Final = 1024
BAR: Final = 0.80


class Block(nn.Module):
    """One layer of GPT-2, by the shapes of its tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(WIDTH)
        self.c_attn = nn.Linear(WIDTH, 3 * WIDTH)
        self.c_proj = nn.Linear(WIDTH, WIDTH)
        self.ln_2 = nn.LayerNorm(WIDTH)
        self.c_fc = nn.Linear(WIDTH, 4 * WIDTH)
        self.c_out = nn.Linear(4 * WIDTH, WIDTH)


class Model(nn.Module):
    """GPT-2 by the shapes of its tensors; it is never run."""

    def __init__(self) -> None:
        super().__init__()
        self.wte = nn.Embedding(VOCABULARY, WIDTH)
        self.wpe = nn.Embedding(CONTEXT, WIDTH)
        self.h = nn.ModuleList(Block() for _ in range(LAYERS))
        self.ln_f = nn.LayerNorm(WIDTH)
        self.lm_head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.lm_head.weight = self.wte.weight


def in_one_buffer(model: nn.Module) -> memoryview:
    """Moves a model's parameters into one buffer, back to back, and returns its bytes."""
    parameters = list(model.parameters())
    buffer = torch.empty(sum(parameter.numel() for parameter in parameters))
    at = 0
    for parameter in parameters:
        part = buffer[at : at + parameter.numel()].view_as(parameter)
        part.copy_(parameter.detach())
        parameter.data = part
        at += parameter.numel()
    return buffer.view(torch.uint8).numpy().data


def main() -> None:
    """Measures and prints."""
    torch.manual_seed(0)
    model = Model()
    raw = in_one_buffer(model)
    meter = WeightsMeter()
    measured = meter.measure(canonical_tensors(model))
    assert measured.hashed_bytes == len(raw)
    pairs = [
        (seconds(lambda: blake3(raw).digest()), seconds(lambda: meter.measure(canonical_tensors(model))))
        for _ in range(PAIRS)
    ]
    ratios = sorted(plain / ours for plain, ours in pairs)
    plain, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"model: {len(raw) / 1e6:.0f} MB in {len(measured.tensors)} tensors")
    print(f"raw BLAKE3: {len(raw) / plain / 1e9:.2f} GB/s; weights root: {len(raw) / ours / 1e9:.2f} GB/s")
    print(f"range over {PAIRS} pairs: {ratios[0]:.2f} to {ratios[-1]:.2f}")
    print(f"weights-root / raw BLAKE3: {statistics.median(ratios):.2f} (bar ≥ {BAR:.2f})")
    hinted = statistics.median(
        seconds(lambda: meter.measure(canonical_tensors(model), full=False)) for _ in range(PAIRS)
    )
    again = meter.measure(canonical_tensors(model), full=False)
    print(
        f"unchanged weights, hinted: {hinted * 1e3:.2f} ms, {again.hashed_bytes} bytes hashed (bar 0 bytes)"
    )
    with torch.no_grad():
        model.ln_f.weight.add_(1)
    touched = meter.measure(canonical_tensors(model), full=False)
    print(f"one tensor of {WIDTH * 4} bytes changed, hinted: {touched.hashed_bytes} bytes hashed")
    assert touched.root == WeightsMeter().measure(canonical_tensors(model)).root


if __name__ == "__main__":
    main()
