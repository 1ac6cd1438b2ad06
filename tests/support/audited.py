"""Traces of made-up transformers, without torch: all that an audit asks for, in bytes of no meaning."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

import traces

from palm_torch.challenge import geometry, parts, weights_asked
from palm_torch.challenge import tokens as audit_tokens
from palm_torch.challenge.tokens import PADDING, Tokens
from palm_torch.commit import trace
from palm_torch.commit.trace import Calls, Site
from palm_torch.committing.answering import KeptTrace

if TYPE_CHECKING:
    from palm_torch.challenge.geometry import Geometry
    from palm_torch.commit.trace_schemes import Name
    from palm_torch.digest import Digest

LLAMA: Final[dict[str, Any]] = {
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
    "tie_word_embeddings": False,
}
GPT2: Final[dict[str, Any]] = {
    "model_type": "gpt2",
    "vocab_size": 64,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_inner": None,
    "layer_norm_epsilon": 1e-5,
    "activation_function": "gelu_new",
}

FED: Final = (Calls(0, 1, (2, 5)), Calls(1, 3, (2, 1)))
"""A prefill of five tokens, then three steps, of two sequences."""

SHOWN: Final = (Calls(0, 4, (2, 1)),)
"""The last token of each call."""

FORWARD: Final = (Calls(0, 1, (2, 8)),)

TOKENS: Final = Tokens(((PADDING, PADDING, 5, 6, 7, 8, 9, 10, 11), (1, 2, 3, 4, 5, 6, 7, 8, 63)))
SALT: Final = bytes(range(32))
NONCE: Final = bytes(range(32, 64))


def llama(**changed: Any) -> Geometry:
    return geometry.from_config({**LLAMA, **changed}, what="config.json")


def gpt2(**changed: Any) -> Geometry:
    return geometry.from_config({**GPT2, **changed}, what="config.json")


def widths(model: Geometry) -> dict[str, int]:
    """Returns module → channels, in the order in which a model calls them."""
    linear = weights_asked.linear_widths(model)
    found: dict[str, int] = {}
    for part in parts.parts(model):
        for role, module in (*part.rows.items(), *part.history.items()):
            found[module] = linear[role][0] if role in linear else model.hidden
    return found


class Audited:
    """A trace of a model, as `layers="audit"` captures it."""

    def __init__(  # noqa: PLR0913 (each a fault of its own)
        self,
        model: Geometry,
        *,
        fed: tuple[Calls, ...] = FED,
        shown: tuple[Calls, ...] = SHOWN,
        others: dict[str, tuple[Calls, ...]] | None = None,
        channels: dict[str, int] | None = None,
        left_out: tuple[str, ...] = (),
        weights: Digest | None = None,
        tokens: Tokens | None = TOKENS,
        scheme: Name = "hash",
    ) -> None:
        self.geometry = model
        found = {**widths(model), **(channels or {})}
        calls = {"lm_head": shown, **(others or {})}
        self.trace = traces.MadeUp(
            *(
                ((Site(module),), "float32", width, calls.get(module, fed))
                for module, width in found.items()
                if module not in left_out
            ),
            scheme=scheme,
        )
        self.opening = None if tokens is None else audit_tokens.opening(tokens, SALT)
        facts = {} if self.opening is None else {audit_tokens.FACT: self.opening.digest}
        self.context = dataclasses.replace(self.trace.context, facts=facts, model=weights)
        self.encoded = self.context.encode()
        self.root = trace.root(self.encoded)

    def kept(self) -> KeptTrace:
        return KeptTrace(
            root=self.root,
            context=self.context,
            trees=self.trace.trees,
            read=lambda site, group: self.trace.reader(site, group.dtype, group.channels),
            tokens=self.opening,
        )
