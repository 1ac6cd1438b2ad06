"""An ordinary training loop in plain PyTorch: nothing in it knows whether it is being measured."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import nn

PEAK_LEARNING_RATE = 3e-3
WARM_UP_STEPS = 20
EVALUATE_EVERY = 100


class Log(Protocol):
    """Where the loop reports its losses: `run.log`, or anything like it."""

    def __call__(self, **values: Any) -> None:  # noqa: ANN401 (numbers, or tensors with one)
        """Takes quantities by name."""


def train(
    model: nn.Module,
    batches: Iterable[Any],
    validation: Iterable[Any],
    *,
    steps: int,
    log: Log,
    progress: Callable[[int, float], None],
) -> None:
    """Trains for one pass over the batches, with warm-up and cosine decay, evaluating now and then.

    Args:
        model: Maps tokens [B, T] to logits [B, T, V].
        batches: Pairs (tokens, next tokens), int64 [B, T] each; `steps` of them.
        validation: The same, to evaluate on.
        steps: Length of the learning rate schedule.
        log: Takes ``loss`` at every step and ``validation_loss`` at every evaluation.
        progress: Called after each step with (steps so far, loss).
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=PEAK_LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.1
    )

    def factor(step: int) -> float:
        decay = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
        return min(1.0, (step + 1) / WARM_UP_STEPS) * (0.1 + 0.9 * decay)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    for done, (tokens, targets) in enumerate(batches, 1):
        loss = loss_of(model, tokens, targets)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch's own
        optimizer.step()
        schedule.step()
        value = loss.item()
        log(loss=value)
        progress(done, value)
        if done % EVALUATE_EVERY == 0 or done == steps:
            log(validation_loss=evaluate(model, validation))


def loss_of(model: nn.Module, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Returns the mean cross entropy of the next token, in nats."""
    return functional.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())


@torch.no_grad()
def evaluate(model: nn.Module, batches: Iterable[Any]) -> float:
    """Returns the mean loss over the batches, without training on them."""
    model.eval()
    losses = [loss_of(model, tokens, targets).item() for tokens, targets in batches]
    model.train()
    return sum(losses) / len(losses)
