"""The parts of a model that an audit looks at: embedding, blocks, head, with the modules that a check needs.

A part is a stretch of the computation whose inputs and outputs a trace has if it was made with
``layers="audit"``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from palm_torch.challenge.geometry import Geometry

Kind: TypeAlias = Literal["embedding", "block", "head"]


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a model.

    Attributes:
        number: Its place: the embedding is 0, then come the blocks, then the head.
        kind: What it is.
        name: ``embedding``, ``head``, or the module of the block.
        rows: Role → module whose row at a place's token a check needs.
        history: Role → module whose rows of all tokens up to that one it needs.
        weights: Role → canonical name of a parameter.
        anchor: The module whose rows are the places of the part.
    """

    number: int
    kind: Kind
    name: str
    rows: Mapping[str, str]
    history: Mapping[str, str]
    weights: Mapping[str, str]
    anchor: str

    @property
    def modules(self) -> tuple[str, ...]:
        """Every module that a check of the part needs, each once, rows before history."""
        return tuple(dict.fromkeys((*self.rows.values(), *self.history.values())))


def parts(geometry: Geometry) -> tuple[Part, ...]:
    """Returns the parts of a model: embedding, blocks in order, head."""
    make = _llama if geometry.family == "llama" else _gpt2
    blocks = [make(geometry, number) for number in range(geometry.blocks)]
    return (_embedding(geometry), *blocks, _head(geometry, blocks[-1].name))


def _embedding(geometry: Geometry) -> Part:
    prefix = geometry.prefix
    if geometry.family == "llama":
        name = f"{prefix}embed_tokens"
        weights = {"token embedding": f"{name}.weight"}
        return Part(0, "embedding", "embedding", {"output": name}, {}, weights, name)
    rows = {"token embedding": f"{prefix}wte", "position embedding": f"{prefix}wpe"}
    weights = {role: f"{module}.weight" for role, module in rows.items()}
    return Part(0, "embedding", "embedding", rows, {}, weights, rows["token embedding"])


def _head(geometry: Geometry, last: str) -> Part:
    llama = geometry.family == "llama"
    norm = f"{geometry.prefix}{'norm' if llama else 'ln_f'}"
    embedding = f"{geometry.prefix}{'embed_tokens' if llama else 'wte'}"
    weights = {"norm": f"{norm}.weight"}
    if not llama:
        weights["norm.bias"] = f"{norm}.bias"
    weights["logits"] = f"{embedding if geometry.tied else 'lm_head'}.weight"
    rows = {"input": last, "norm": norm, "logits": "lm_head"}
    return Part(geometry.blocks + 1, "head", "head", rows, {}, weights, "lm_head")


def _llama(geometry: Geometry, number: int) -> Part:
    prefix = geometry.prefix
    name = f"{prefix}layers.{number}"
    modules = {
        "attention norm": f"{name}.input_layernorm",
        "query": f"{name}.self_attn.q_proj",
        "key": f"{name}.self_attn.k_proj",
        "value": f"{name}.self_attn.v_proj",
        "attention out": f"{name}.self_attn.o_proj",
        "mlp norm": f"{name}.post_attention_layernorm",
        "gate": f"{name}.mlp.gate_proj",
        "up": f"{name}.mlp.up_proj",
        "down": f"{name}.mlp.down_proj",
    }
    before = f"{prefix}layers.{number - 1}" if number else f"{prefix}embed_tokens"
    history = {role: modules[role] for role in ("key", "value")}
    rows = {role: module for role, module in modules.items() if role not in history}
    biased = {
        "query": geometry.query_bias,
        "key": geometry.query_bias,
        "value": geometry.query_bias,
        "attention out": geometry.output_bias,
        "gate": geometry.mlp_bias,
        "up": geometry.mlp_bias,
        "down": geometry.mlp_bias,
    }
    weights = _weights(modules, {role for role, has in biased.items() if has})
    if geometry.head_norms:
        weights["query norm"] = f"{name}.self_attn.q_norm.weight"
        weights["key norm"] = f"{name}.self_attn.k_norm.weight"
    rows = {"input": before, **rows, "output": name}
    return Part(number + 1, "block", name, rows, history, weights, name)


def _gpt2(geometry: Geometry, number: int) -> Part:
    prefix = geometry.prefix
    name = f"{prefix}h.{number}"
    modules = {
        "attention norm": f"{name}.ln_1",
        "qkv": f"{name}.attn.c_attn",
        "attention out": f"{name}.attn.c_proj",
        "mlp norm": f"{name}.ln_2",
        "up": f"{name}.mlp.c_fc",
        "down": f"{name}.mlp.c_proj",
    }
    if number:
        before = {"input": f"{prefix}h.{number - 1}"}
    else:
        before = {"token embedding": f"{prefix}wte", "position embedding": f"{prefix}wpe"}
    rows = {role: module for role, module in modules.items() if role != "qkv"}
    weights = _weights(modules, set(modules))
    return Part(
        number + 1,
        "block",
        name,
        {**before, **rows, "output": name},
        {"qkv": modules["qkv"]},
        weights,
        name,
    )


def _weights(modules: Mapping[str, str], biased: set[str]) -> dict[str, str]:
    weights: dict[str, str] = {}
    for role, module in modules.items():
        weights[role] = f"{module}.weight"
        if role in biased:
            weights[f"{role}.bias"] = f"{module}.bias"
    return weights
