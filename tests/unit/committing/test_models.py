"""Commitments to models as people have them: roots that do not depend on how it was done, and openings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
import transformers
from torch import nn

import palm_torch
from palm_torch.commit import trace_opening
from palm_torch.commit.trace import Calls

if TYPE_CHECKING:
    from collections.abc import Callable

    from palm_torch.committing.proof import Proof
    from palm_torch.digest import Digest

SIZES = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": 0, "eos_token_id": None}
IDS = torch.tensor([[0, 0, 0, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14, 15]])
MASK = (IDS > 0).long()
NEW = 4

MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, **HEADS)),
    "gpt2": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=64, n_embd=32, n_layer=2, n_head=4, pad_token_id=0, bos_token_id=1, eos_token_id=None
        )
    ),
    "qwen": lambda: transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**SIZES, **HEADS, head_dim=8)),
    "mixtral": lambda: transformers.MixtralForCausalLM(
        transformers.MixtralConfig(**SIZES, **HEADS, num_local_experts=4)
    ),
}


def make(name: str) -> Any:
    torch.manual_seed(3)
    return MODELS[name]().eval()


def generate(model: Any) -> torch.Tensor:
    """Four tokens after two prompts of unequal length, one of them padded on the left."""
    made: torch.Tensor = model.generate(IDS, attention_mask=MASK, max_new_tokens=NEW, do_sample=False)
    return made


def committed(model: nn.Module, body: Callable[[], object], **options: Any) -> Proof:
    proof: Proof
    with palm_torch.commit(model, **options) as proof:
        body()
    return proof


def activations(proof: Proof) -> Digest:
    return proof.trace.activations()


def shown(proof: Proof, site: str, **where: Any) -> torch.Tensor:
    """What an opening shows, by whoever has root, context and opening."""
    opening = trace_opening.decode(proof.open(site, **where).encode(), what="opening")
    values = trace_opening.verify(proof.root, proof.context, opening.question, opening)
    dtype = getattr(torch, values.dtype)
    return torch.frombuffer(bytearray(values.values), dtype=dtype).reshape(values.shape)


@pytest.mark.parametrize("name", MODELS)
def test_padded_prompts_are_continued_and_any_part_is_opened(name: str) -> None:
    model = make(name)
    states: list[torch.Tensor] = []
    block = model.get_submodule("transformer.h.1" if name == "gpt2" else "model.layers.1")
    with block.register_forward_hook(lambda *call: states.append(call[2])), torch.no_grad():
        plain = generate(model)
    found: list[torch.Tensor] = []
    proof = committed(model, lambda: found.append(generate(model)), layers="all", keep="memory")
    assert torch.equal(found[0], plain)
    site = "transformer.h.1" if name == "gpt2" else "model.layers.1"
    group = next(group for group in proof.trace.groups if any(one.module == site for one in group.sites))
    assert group.schedule == (Calls(0, 1, (2, 7)), Calls(1, NEW - 1, (2, 1)))
    whole = torch.cat(states, dim=1)
    assert torch.equal(
        shown(proof, site, tokens=slice(5, 9), batch=1, channels=slice(8, 16)), whole[1:, 5:9, 8:16]
    )
    logits = shown(proof, "", output="logits", call=2)
    assert torch.equal(logits[:, 0].argmax(dim=-1), plain[:, 7 + 2])
    for threads in (0, 1, 2):
        again = committed(model, lambda: generate(model), layers="all", threads=threads)
        assert again.root == proof.root


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_one_root_in_every_mode_that_computes_the_same() -> None:
    model = make("llama")
    proof = committed(model, lambda: generate(model))
    with torch.inference_mode():
        assert committed(model, lambda: generate(model)).root == proof.root
    recomputed = make("llama").train()

    def train(one: Any) -> Callable[[], object]:
        return lambda: one(IDS, attention_mask=MASK, use_cache=False).logits.sum().backward()

    with_gradients = committed(model.train(), train(model), layers="all")
    for reentrant in (False, True):
        recomputed.gradient_checkpointing_enable({"use_reentrant": reentrant})
        again = committed(recomputed, train(recomputed), layers="all")
        assert again.root == with_gradients.root
        assert any(again.recomputed.values())
    assert not any(with_gradients.recomputed.values())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_compiled_model_has_the_root_of_the_eager_one() -> None:
    model = make("llama")

    @torch.compile(backend="aot_eager", fullgraph=True)
    def step(ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = model(ids).logits  # with its cache, which is left out
        return logits

    with torch.no_grad():
        eager = committed(model, lambda: [model(IDS) for _ in range(2)], layers="all")
        graph = committed(model, lambda: [step(IDS) for _ in range(2)], layers="all", threads=1)
    assert graph.trace.not_captured == eager.trace.not_captured != ()
    assert graph.root == eager.root


def test_a_smaller_type_is_bound_as_it_is() -> None:
    model = make("qwen").to(torch.bfloat16)
    proof = committed(model, lambda: generate(model), keep="memory")
    with torch.no_grad():
        state = model(IDS, attention_mask=MASK, output_hidden_states=True).hidden_states[1]
    row = shown(proof, "model.layers.0", call=0, batch=1, tokens=3)
    assert row.dtype is torch.bfloat16
    assert torch.equal(row[0, 0], state[1, 3])
    model = make("qwen")
    with torch.autocast("cpu", torch.bfloat16):
        mixed = committed(model, lambda: generate(model), layers="all")
    assert {group.dtype for group in mixed.trace.groups} == {"bfloat16", "float32"}
    assert mixed.trace.environment["autocast.cpu"] == "bfloat16"


def test_pictures_are_rows_of_pixels() -> None:
    def stage() -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), stage(), stage(), nn.Flatten(), nn.Linear(4 * 36, 5)).eval()
    images = torch.randn(2, 3, 6, 6).to(memory_format=torch.channels_last)
    with torch.no_grad():
        proof = committed(model, lambda: model(images), keep="memory")
        inner = model[:2](images)
    line = shown(proof, "1", batch=6, tokens=4)  # of 2 pictures × 4 channels the seventh, fifth line
    assert torch.equal(line[0, 0], inner[1, 2, 4])


def test_a_plain_transformer() -> None:
    torch.manual_seed(0)
    model = nn.Transformer(8, 2, 2, 2, 16, batch_first=True, dropout=0.0)
    source, target = torch.randn(2, 5, 8), torch.randn(2, 3, 8)
    plain = model(source, target)
    outputs: list[torch.Tensor] = []
    proof = committed(model, lambda: outputs.append(model(source, target)), layers="all", keep="memory")
    assert torch.equal(outputs[0], plain)
    assert torch.equal(shown(proof, ""), plain.detach())
