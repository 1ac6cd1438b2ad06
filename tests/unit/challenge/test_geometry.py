"""What a config.json says of a model, and what is refused by the name of its field."""

from __future__ import annotations

import dataclasses
from typing import Any

import audited
import pytest

from palm_torch.challenge import geometry
from palm_torch.challenge.geometry import Geometry
from palm_torch.errors import DataError

GONE = object()


def read(base: dict[str, Any], **changed: Any) -> Geometry:
    config = {name: value for name, value in {**base, **changed}.items() if value is not GONE}
    return geometry.from_config(config, what="config.json")


def test_a_llama() -> None:
    assert read(audited.LLAMA) == Geometry(
        family="llama",
        blocks=2,
        hidden=32,
        intermediate=48,
        vocabulary=64,
        heads=4,
        key_value_heads=2,
        head_width=8,
        norm_epsilon=1e-6,
        rope_theta=10000.0,
        activation="silu",
        query_bias=False,
        output_bias=False,
        mlp_bias=False,
        head_norms=False,
        tied=False,
        prefix="model.",
    )


def test_a_gpt2() -> None:
    found = read(audited.GPT2)
    assert (found.intermediate, found.head_width, found.rope_theta) == (128, 8, None)
    assert (found.query_bias, found.tied, found.prefix) == (True, True, "transformer.")
    assert read(audited.GPT2, n_inner=40).intermediate == 40
    assert not read(audited.GPT2, tie_word_embeddings=False).tied


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"model_type": "qwen2"}, (True, False, False, False)),
        ({"model_type": "qwen2", "attention_bias": False}, (True, False, False, False)),
        ({"model_type": "qwen3"}, (False, False, False, True)),
        ({"model_type": "qwen3", "attention_bias": True}, (True, True, False, True)),
        ({"model_type": "mistral", "sliding_window": None}, (False, False, False, False)),
        ({"attention_bias": True}, (True, True, False, False)),
        ({"mlp_bias": True}, (False, False, True, False)),
    ],
)
def test_biases_and_norms_of_each_kind(changed: dict[str, Any], expected: tuple[bool, ...]) -> None:
    found = read(audited.LLAMA, **changed)
    assert (found.query_bias, found.output_bias, found.mlp_bias, found.head_norms) == expected


def test_older_files_say_the_base_of_positions_elsewhere() -> None:
    assert read(audited.LLAMA, rope_parameters=GONE, rope_theta=500000).rope_theta == 500000.0
    assert read(audited.LLAMA, rope_parameters=GONE, rope_theta=5e5, rope_scaling=None).rope_theta == 5e5
    both = read(
        audited.LLAMA, rope_theta=10000, rope_parameters={"rope_theta": 1e4, "partial_rotary_factor": 1}
    )
    assert both.rope_theta == 1e4


def test_heads_without_a_width_of_their_own() -> None:
    assert read(audited.LLAMA, head_dim=None).head_width == 8
    assert read(audited.LLAMA, head_dim=16).head_width == 16


def test_a_window_that_is_never_reached() -> None:
    found = read(audited.LLAMA, model_type="mistral", sliding_window=4096, max_position_embeddings=4096)
    assert found.family == "llama"
    assert not read(audited.LLAMA, model_type="qwen2", sliding_window=8, use_sliding_window=False).head_norms
    kinds = ["full_attention", "full_attention"]
    assert read(audited.LLAMA, model_type="qwen3", layer_types=kinds).head_norms


@pytest.mark.parametrize(
    ("base", "changed", "says"),
    [
        ("llama", {"model_type": "gemma2"}, "model_type: expected one of gpt2, llama"),
        ("llama", {"model_type": GONE}, "model_type: expected text, got None"),
        (
            "llama",
            {"model_type": "mistral", "sliding_window": 8, "max_position_embeddings": 9},
            "sliding_window",
        ),
        (
            "llama",
            {"model_type": "mistral", "sliding_window": 8},
            "max_position_embeddings: expected a whole",
        ),
        ("llama", {"model_type": "qwen2", "use_sliding_window": True}, "use_sliding_window: expected false"),
        ("llama", {"model_type": "qwen3", "use_sliding_window": 1}, "use_sliding_window: expected true or"),
        ("llama", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types"),
        ("llama", {"layer_types": "full_attention"}, "layer_types"),
        ("llama", {"rope_scaling": {"type": "linear"}}, "rope_scaling: expected null"),
        ("llama", {"rope_parameters": {"rope_theta": 1e4, "rope_type": "yarn"}}, "rope_parameters.rope_type"),
        ("llama", {"rope_parameters": {"rope_theta": 1e4, "factor": 2}}, "rope_parameters.factor"),
        (
            "llama",
            {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
            "rope_parameters.partial_rotary_factor",
        ),
        ("llama", {"rope_parameters": 3}, "rope_parameters: expected an object"),
        ("llama", {"rope_parameters": {}}, "rope_parameters.rope_theta: expected a number, got None"),
        ("llama", {"rope_theta": 3}, "rope_theta: expected 10000.0 as in rope_parameters"),
        ("llama", {"rope_parameters": GONE}, "rope_theta: expected a number"),
        ("llama", {"quantization_config": {}}, "quantization_config: expected nothing"),
        ("llama", {"final_logit_softcapping": 30.0}, "final_logit_softcapping"),
        ("llama", {"hidden_act": "relu"}, "hidden_act: expected one of silu"),
        ("llama", {"hidden_size": 32.0}, "hidden_size: expected a whole number"),
        ("llama", {"hidden_size": True}, "hidden_size: expected a whole number"),
        ("llama", {"rms_norm_eps": True}, "rms_norm_eps: expected a number"),
        ("llama", {"rms_norm_eps": float("nan")}, "rms_norm_eps: expected a number"),
        ("llama", {"num_key_value_heads": GONE}, "num_key_value_heads: expected a whole number"),
        ("llama", {"num_key_value_heads": 3}, "key_value_heads: expected a divisor of the 4 heads"),
        ("llama", {"head_dim": None, "num_attention_heads": 5}, "num_attention_heads: expected a divisor"),
        ("llama", {"head_dim": None, "num_attention_heads": 0}, "num_attention_heads: expected a divisor"),
        ("llama", {"head_dim": 7}, "head_width: expected an even number"),
        ("llama", {"rms_norm_eps": 0}, "norm_epsilon: expected a number above 0"),
        ("llama", {"num_hidden_layers": 0}, "blocks: expected a number from 1 to 4096, got 0"),
        ("llama", {"vocab_size": 1 << 25}, "vocabulary: expected a number from 1 to 16777216"),
        ("llama", {"rope_parameters": {"rope_theta": 0}}, "rope_theta: expected a number above 0"),
        ("gpt2", {"scale_attn_weights": False}, "scale_attn_weights: expected true, got False"),
        ("gpt2", {"reorder_and_upcast_attn": True}, "reorder_and_upcast_attn: expected false"),
        ("gpt2", {"n_head": 5}, "n_head: expected a divisor of the width 32, got 5"),
        ("gpt2", {"n_head": 0}, "n_head: expected a divisor"),
        ("gpt2", {"activation_function": "silu2"}, "activation_function"),
    ],
)
def test_what_is_refused(base: str, changed: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError) as caught:
        read({"llama": audited.LLAMA, "gpt2": audited.GPT2}[base], **changed)
    assert f"config.json: {says}" in str(caught.value)


def test_what_cannot_be_checked_points_to_a_replay() -> None:
    with pytest.raises(DataError, match="replay its blocks in torch instead"):
        read(audited.LLAMA, rope_scaling={"rope_type": "yarn"})


@pytest.mark.parametrize(
    ("base", "changed", "says"),
    [
        ("llama", {"prefix": ""}, "prefix: expected 'model.'"),
        ("llama", {"activation": "relu"}, "activation: expected one of"),
        ("llama", {"rope_theta": None}, "rope_theta: expected a number above 0, got None"),
        ("llama", {"rope_theta": float("inf")}, "rope_theta: expected a number above 0, got inf"),
        ("gpt2", {"rope_theta": 1.0}, "rope_theta: of gpt2 it is None, got 1.0"),
        ("gpt2", {"head_norms": True}, "head_norms: of gpt2 it is False, got True"),
        ("gpt2", {"head_width": 4}, "head_width: expected 4 heads to make a width of 32"),
    ],
)
def test_a_geometry_of_no_model(base: str, changed: dict[str, Any], says: str) -> None:
    good = {"llama": audited.llama, "gpt2": audited.gpt2}[base]()
    with pytest.raises(DataError) as caught:
        dataclasses.replace(good, **changed)
    assert str(caught.value).startswith(says)


def test_numbers_that_no_double_holds() -> None:
    with pytest.raises(DataError, match="rms_norm_eps: expected a number"):
        audited.llama(rms_norm_eps=10**400)
