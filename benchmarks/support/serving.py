"""A Llama that answers, and everything that its layers put out on the way.

Shapes: B batch, T tokens, C channels. Token n of a site is the n-th that was fed, over all calls: the prompt
at once, then one token after the other.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import torch
from transformers import DynamicCache

from palm_torch.hooks import tap_targets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Edit: TypeAlias = Callable[[torch.Tensor, int], torch.Tensor]
    """(output [B, T, C], number of its first token) → what is put in its place."""

HEAD: Final = "lm_head"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How a model is run; results differ by rounding alone.

    Attributes:
        threads: Of torch.
        attention: ``sdpa`` or ``eager``.
        float32: Whether weights and activations are widened to float32.
        others: How many other sequences are in the batch.
    """

    threads: int = 1
    attention: str = "sdpa"
    float32: bool = False
    others: int = 0

    @contextlib.contextmanager
    def applied(self, model: Any) -> Iterator[None]:  # noqa: ANN401 (transformers has no types)
        """Sets threads and attention, and puts them back."""
        threads, attention = torch.get_num_threads(), model.config._attn_implementation  # noqa: SLF001 (no other way to ask)
        torch.set_num_threads(self.threads)
        model.set_attn_implementation(self.attention)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            model.set_attn_implementation(attention)


PLAIN: Final = Setting()


@dataclass(frozen=True, slots=True)
class Served:
    """An answer and how it came about, as somebody says.

    Attributes:
        tensors: Module → what it put out, [1, T, C], call by call, in the order of the first calls.
        tokens: Prompt and answer, int64 [1, T]; the last of them was never fed.
        prompt: How many of them are the prompt.
    """

    tensors: dict[str, list[torch.Tensor]]
    tokens: torch.Tensor
    prompt: int

    @property
    def fed(self) -> int:
        """Number of tokens that were fed."""
        return self.tokens.shape[1] - 1

    def rows(self, module: str) -> torch.Tensor:
        """Returns what a module put out, over all calls, [T, C]."""
        return torch.cat(self.tensors[module], dim=1)[0]


def serve(
    model: Any,  # noqa: ANN401 (transformers has no types)
    prompt: torch.Tensor,
    new: int,
    *,
    forced: torch.Tensor | None = None,
    forgets: int = 0,
    edits: Mapping[str, Edit] | None = None,
    setting: Setting = PLAIN,
) -> Served:
    """Answers a prompt, greedily.

    Args:
        model: A Llama.
        prompt: int64 [1, T].
        new: Tokens of the answer.
        forced: The answer, int64 [1, new], if it is not to be chosen.
        forgets: How many of the first tokens no later one attends to.
        edits: Module → what happens to its output before anything else sees it.
        setting: Threads and attention.
    """
    tensors: dict[str, list[torch.Tensor]] = {}
    made: list[torch.Tensor] = []
    with torch.no_grad(), setting.applied(model), contextlib.ExitStack() as stack:
        counted: dict[str, int] = {}
        for name, edit in (edits or {}).items():
            stack.callback(_edited(model, name, edit, counted).remove)
        for target in tap_targets.select(model, "audit").targets:
            stack.callback(_recorded(target.place.module, target.place.path, tensors).remove)
        if forgets:
            _forward(model, prompt[:, :forgets], 0, DynamicCache(config=model.config))
        cache = DynamicCache(config=model.config)
        fed, start = prompt[:, forgets:], forgets
        for number in range(new):
            logits = _forward(model, fed, start, cache)
            start += fed.shape[1]
            fed = logits[:, -1:].argmax(-1) if forced is None else forced[:, number : number + 1]
            made.append(fed)
    if forgets:
        _join_prompt(tensors)
    return Served(tensors, torch.cat([prompt, *made], dim=1), prompt.shape[1])


def again(model: Any, served: Served, setting: Setting = PLAIN) -> Served:  # noqa: ANN401 (as above)
    """Runs what is claimed to have been run: these tokens, call by call."""
    prompt, answer = served.tokens.tensor_split([served.prompt], dim=1)
    return serve(model, prompt, answer.shape[1], forced=answer, setting=setting)


def read(
    model: Any,  # noqa: ANN401 (as above)
    batch: torch.Tensor,
    modules: list[str],
    setting: Setting,
) -> dict[str, torch.Tensor]:
    """Feeds a batch at once; returns what some modules put out for its first sequence, [T, C].

    Args:
        model: A Llama.
        batch: int64 [B, T].
        modules: Their names.
        setting: Threads and attention.
    """
    tensors: dict[str, list[torch.Tensor]] = {}
    with torch.no_grad(), setting.applied(model), contextlib.ExitStack() as stack:
        for name in modules:
            stack.callback(_recorded(model.get_submodule(name), name, tensors).remove)
        model(batch, use_cache=False)
    return {name: tensors[name][0][0] for name in modules}


def _forward(model: Any, fed: torch.Tensor, start: int, cache: DynamicCache) -> torch.Tensor:  # noqa: ANN401 (as above)
    places = torch.arange(start, start + fed.shape[1]).unsqueeze(0)
    logits: torch.Tensor = model(fed, position_ids=places, past_key_values=cache, logits_to_keep=1).logits
    return logits


def _recorded(module: Any, name: str, tensors: dict[str, list[torch.Tensor]]) -> Any:  # noqa: ANN401 (as above)
    def record(_module: object, _args: object, output: torch.Tensor) -> None:
        tensors.setdefault(name, []).append(output.clone())

    return module.register_forward_hook(record)


def _edited(model: Any, name: str, edit: Edit, counted: dict[str, int]) -> Any:  # noqa: ANN401 (as above)
    def replace(_module: object, _args: object, output: torch.Tensor) -> torch.Tensor:
        first = counted.get(name, 0)
        counted[name] = first + output.shape[1]
        return edit(output, first)

    return model.get_submodule(name).register_forward_hook(replace)


def _join_prompt(tensors: dict[str, list[torch.Tensor]]) -> None:
    """Makes one call of the two in which the prompt was read; the first of them had no logits to show."""
    for name, calls in tensors.items():
        calls[:2] = calls[1:2] if name == HEAD else [torch.cat(calls[:2], dim=1)]
