"""The parts of a model and the modules and parameters that each of them needs."""

from __future__ import annotations

import audited

from palm_torch.challenge import parts


def test_a_llama() -> None:
    embedding, first, second, head = parts.parts(audited.llama())
    assert [part.number for part in (embedding, first, second, head)] == [0, 1, 2, 3]
    assert (embedding.kind, embedding.rows) == ("embedding", {"output": "model.embed_tokens"})
    assert embedding.weights == {"token embedding": "model.embed_tokens.weight"}
    assert first.rows == {
        "input": "model.embed_tokens",
        "attention norm": "model.layers.0.input_layernorm",
        "query": "model.layers.0.self_attn.q_proj",
        "attention out": "model.layers.0.self_attn.o_proj",
        "mlp norm": "model.layers.0.post_attention_layernorm",
        "gate": "model.layers.0.mlp.gate_proj",
        "up": "model.layers.0.mlp.up_proj",
        "down": "model.layers.0.mlp.down_proj",
        "output": "model.layers.0",
    }
    assert first.history == {
        "key": "model.layers.0.self_attn.k_proj",
        "value": "model.layers.0.self_attn.v_proj",
    }
    assert (second.name, second.rows["input"]) == ("model.layers.1", "model.layers.0")
    assert head.rows == {"input": "model.layers.1", "norm": "model.norm", "logits": "lm_head"}
    assert head.weights == {"norm": "model.norm.weight", "logits": "lm_head.weight"}
    assert not [name for name in first.weights.values() if name.endswith("bias")]
    assert (embedding.anchor, first.anchor, head.anchor) == (
        "model.embed_tokens",
        "model.layers.0",
        "lm_head",
    )


def test_biases_norms_of_heads_and_tied_weights() -> None:
    _, block, _, head = parts.parts(
        audited.llama(model_type="qwen3", attention_bias=True, tie_word_embeddings=True)
    )
    biased = [role for role in block.weights if role.endswith(".bias")]
    assert biased == ["query.bias", "key.bias", "value.bias", "attention out.bias"]
    assert block.weights["query norm"] == "model.layers.0.self_attn.q_norm.weight"
    assert head.weights["logits"] == "model.embed_tokens.weight"
    _, block, *_ = parts.parts(audited.llama(mlp_bias=True))
    assert [role for role in block.weights if role.endswith(".bias")] == ["gate.bias", "up.bias", "down.bias"]


def test_a_gpt2() -> None:
    embedding, first, second, head = parts.parts(audited.gpt2())
    positions = {"token embedding": "transformer.wte", "position embedding": "transformer.wpe"}
    assert embedding.rows == positions
    assert first.rows == {
        **positions,
        "attention norm": "transformer.h.0.ln_1",
        "attention out": "transformer.h.0.attn.c_proj",
        "mlp norm": "transformer.h.0.ln_2",
        "up": "transformer.h.0.mlp.c_fc",
        "down": "transformer.h.0.mlp.c_proj",
        "output": "transformer.h.0",
    }
    assert first.history == {"qkv": "transformer.h.0.attn.c_attn"}
    assert first.weights["qkv.bias"] == "transformer.h.0.attn.c_attn.bias"
    assert second.rows["input"] == "transformer.h.0"
    assert head.weights == {
        "norm": "transformer.ln_f.weight",
        "norm.bias": "transformer.ln_f.bias",
        "logits": "transformer.wte.weight",
    }
    assert first.modules[:2] == ("transformer.wte", "transformer.wpe")
    assert first.modules[-1] == "transformer.h.0.attn.c_attn"
