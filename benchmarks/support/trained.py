"""Llamas that have learned something: bytes of the standard library's sources; kept in a folder."""

from __future__ import annotations

import math
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import safetensors.torch
import torch
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from palm_torch.demo import corpus

if TYPE_CHECKING:
    from collections.abc import Callable

VOCABULARY: Final = 256
PEAK_LEARNING_RATE: Final = 2e-3
WARM_UP_STEPS: Final = 10
TUNED_LEARNING_RATE: Final = 1e-4
_BATCH: Final = 8


@dataclass(frozen=True, slots=True)
class Size:
    """A Llama over bytes.

    Attributes:
        name: For files and tables.
        width: Hidden channels; heads have 64 each.
        depth: Blocks.
        inner: Channels inside of the multi-layer perceptron.
        steps: Steps of training, of 8 × 256 tokens.
        tuned_steps: Steps of fine-tuning on other data.
    """

    name: str
    width: int
    depth: int
    inner: int
    steps: int
    tuned_steps: int

    def empty(self, seed: int) -> Any:  # noqa: ANN401 (transformers has no types)
        """Returns the model with random weights."""
        torch.manual_seed(seed)
        model: Any = LlamaForCausalLM(
            LlamaConfig(
                hidden_size=self.width,
                intermediate_size=self.inner,
                num_hidden_layers=self.depth,
                num_attention_heads=self.width // 64,
                num_key_value_heads=self.width // 64,
                vocab_size=VOCABULARY,
                max_position_embeddings=1024,
                bos_token_id=None,
                eos_token_id=None,
            )
        )
        return model.eval()


SIZES: Final = {
    "10": Size("10 M", 320, 8, 864, steps=120, tuned_steps=10),
    "120": Size("120 M", 896, 12, 2432, steps=40, tuned_steps=4),
    "quick": Size("10 M, barely trained", 320, 8, 864, steps=25, tuned_steps=5),
}


class Trained:
    """The model that is claimed, the same trained from another seed, and fine-tuned a little.

    Args:
        size: How big.
        cache: Where weights are kept between runs; None keeps none.
        tell: Takes a line for people after each training.
    """

    def __init__(self, size: Size, cache: Path | None, tell: Callable[[str], None]) -> None:
        self._size, self._cache, self._tell = size, cache, tell
        with tempfile.TemporaryDirectory() as folder:
            records = _BATCH * (size.steps + 8)
            made = corpus.write(Path(folder), train_records=records, validation_records=160, shards=1)
            self._train, self.unseen = (_records(path / "shard-0000.bin") for path in made)
        self.claimed = self._model("claimed", lambda: self._learn(seed=0))
        self.other = self._model("another seed", lambda: self._learn(seed=1))
        self.tuned = self._model("fine-tuned", self._tune)

    def loss(self, model: Any) -> float:  # noqa: ANN401 (transformers has no types)
        """Returns nats per byte on text that was not trained on; ln 256 ≈ 5.55 is knowing nothing."""
        with torch.no_grad():
            return float(_loss(model, self.unseen[:16]))

    def _model(self, name: str, make: Callable[[], Any]) -> Any:  # noqa: ANN401 (as above)
        size = self._size
        file = f"{size.width}x{size.depth}-{size.steps}-{name.replace(' ', '-')}.safetensors"
        path = None if self._cache is None else self._cache / file
        if path is not None and path.exists():
            model = self._size.empty(0)
            model.load_state_dict(safetensors.torch.load_file(path))
        else:
            model = make()
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                safetensors.torch.save_file(model.state_dict(), path)
        self._tell(f"{self._size.name}, {name}: {self.loss(model):.2f} nats per byte")
        return model

    def _learn(self, *, seed: int) -> Any:  # noqa: ANN401 (as above)
        model = self._size.empty(seed)
        shuffled = torch.randperm(len(self._train), generator=torch.Generator().manual_seed(seed))
        _fit(model, self._train[shuffled], steps=self._size.steps, peak=PEAK_LEARNING_RATE)
        return model

    def _tune(self) -> Any:  # noqa: ANN401 (as above)
        model = self._size.empty(0)
        model.load_state_dict(self.claimed.state_dict())
        _fit(model, _prose(), steps=self._size.tuned_steps, peak=TUNED_LEARNING_RATE)
        return model


def _fit(model: Any, records: torch.Tensor, *, steps: int, peak: float) -> None:  # noqa: ANN401 (as above)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.95), weight_decay=0.1)
    for step in range(steps):
        rate = peak * min(1.0, (step + 1) / WARM_UP_STEPS) * (0.55 + 0.45 * math.cos(math.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        first = step * _BATCH % (len(records) - _BATCH + 1)
        optimizer.zero_grad()
        _loss(model, records[first : first + _BATCH]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()


def _loss(model: Any, tokens: torch.Tensor) -> Any:  # noqa: ANN401 (as above)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(tokens[:, :-1], use_cache=False).logits
    return functional.cross_entropy(logits.float().flatten(0, 1), tokens[:, 1:].flatten())


def _records(path: Path) -> torch.Tensor:
    """Returns the records of a shard, int64 [records, 257]."""
    tokens = np.fromfile(path, "<u2").astype(np.int64)
    return torch.from_numpy(tokens.reshape(-1, corpus.RECORD_TOKENS))


def _prose() -> torch.Tensor:
    """Returns records of English, the topics of Python's own help, which is no source code."""
    text = (Path(sysconfig.get_path("stdlib")) / "pydoc_data" / "topics.py").read_bytes()
    usable = len(text) // corpus.RECORD_TOKENS * corpus.RECORD_TOKENS
    return torch.from_numpy(
        np.frombuffer(text[:usable], np.uint8).astype(np.int64).reshape(-1, corpus.RECORD_TOKENS)
    )
