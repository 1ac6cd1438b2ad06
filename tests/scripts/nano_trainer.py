"""A small language model trained from a memory-mapped file of tokens; settings are given as --name=value.

An ordinary script that knows nothing of palm-torch: random windows of the file, AdamW with a warm-up and a
cosine schedule, gradient clipping, evaluation now and then, the best checkpoint kept.
"""

# An ordinary script, without annotations and with print, as people write them.
# ruff: noqa: ANN001, ANN201, ANN204, T201

import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

settings = {
    "data": "data",
    "out": "out",
    "block": 16,
    "batch": 8,
    "width": 32,
    "heads": 2,
    "layers": 2,
    "vocabulary": 64,
    "dropout": 0.1,
    "steps": 12,
    "warmup": 3,
    "lr": 3e-3,
    "min_lr": 3e-4,
    "clip": 1.0,
    "accumulate": 2,
    "eval_every": 6,
    "eval_batches": 2,
    "seed": 1337,
}
for word in sys.argv[1:]:
    name, given = word.removeprefix("--").split("=", 1)
    settings[name] = type(settings[name])(given)

torch.manual_seed(settings["seed"])
out = Path(settings["out"])
out.mkdir(exist_ok=True)


def windows(split):
    """Returns a batch of random windows and their successors; the file is mapped anew each time."""
    tokens = np.memmap(Path(settings["data"]) / f"{split}.bin", dtype=np.uint16, mode="r")
    starts = torch.randint(len(tokens) - settings["block"] - 1, (settings["batch"],)).tolist()
    rows = [torch.from_numpy(tokens[at : at + settings["block"] + 1].astype(np.int64)) for at in starts]
    both = torch.stack(rows)
    return both[:, :-1], both[:, 1:]


class Block(nn.Module):
    """Attention and a small network, each behind a normalisation and beside a shortcut."""

    def __init__(self, width, heads, dropout):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.net = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x):
        shape = (*x.shape[:2], self.heads, -1)
        q, k, v = (part.reshape(shape).transpose(1, 2) for part in self.qkv(self.before(x)).chunk(3, dim=-1))
        rate = self.dropout if self.training else 0.0
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=rate)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        return x + functional.dropout(self.net(self.between(x)), self.dropout, self.training)


class Model(nn.Module):
    """Embeddings, blocks, and a head that shares its weights with the embedding."""

    def __init__(self):
        super().__init__()
        width = settings["width"]
        self.token = nn.Embedding(settings["vocabulary"], width)
        self.place = nn.Embedding(settings["block"], width)
        blocks = [Block(width, settings["heads"], settings["dropout"]) for _ in range(settings["layers"])]
        self.blocks = nn.Sequential(*blocks, nn.LayerNorm(width))
        self.head = nn.Linear(width, settings["vocabulary"], bias=False)
        self.head.weight = self.token.weight

    def forward(self, x, y):
        logits = self.head(self.blocks(self.token(x) + self.place.weight[: x.shape[1]]))
        return functional.cross_entropy(logits.flatten(0, 1), y.flatten())


@torch.no_grad()
def evaluate(model):
    model.eval()
    losses = {}
    for split in ("train", "val"):
        found = [model(*windows(split)).item() for _ in range(settings["eval_batches"])]
        losses[split] = sum(found) / len(found)
    model.train()
    return losses


def rate_at(step):
    if step < settings["warmup"]:
        return settings["lr"] * (step + 1) / settings["warmup"]
    share = (step - settings["warmup"]) / max(1, settings["steps"] - settings["warmup"])
    return settings["min_lr"] + 0.5 * (1 + math.cos(math.pi * share)) * (settings["lr"] - settings["min_lr"])


model = Model()
decayed = [parameter for parameter in model.parameters() if parameter.dim() > 1]
others = [parameter for parameter in model.parameters() if parameter.dim() < 2]
groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=settings["lr"], betas=(0.9, 0.95))
best, began = math.inf, time.perf_counter()

for step in range(settings["steps"]):
    for group in optimizer.param_groups:
        group["lr"] = rate_at(step)
    if step % settings["eval_every"] == 0:
        losses = evaluate(model)
        print(f"step {step}: train {losses['train']:.4f}, val {losses['val']:.4f}")
        if losses["val"] < best:
            best = losses["val"]
            torch.save({"model": model.state_dict(), "step": step, "best": best}, out / "ckpt.pt")
    for _ in range(settings["accumulate"]):
        loss = model(*windows("train")) / settings["accumulate"]
        loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), settings["clip"])
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)

torch.save(model.state_dict(), out / "final.pt")
print(f"{settings['steps']} steps in {time.perf_counter() - began:.1f} s")
