"""Classes that wrap a model as long as they hold nothing else: they add nothing to canonical names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import transformers
from tap_sink import BLOCKS, Stack
from torch.distributed.algorithms._checkpoint import checkpoint_wrapper

from palm_torch.hooks import wrappers

if TYPE_CHECKING:
    from torch import nn

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def llama() -> Any:
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2}
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, **heads
    )
    return transformers.LlamaForCausalLM(config)


def paths(model: nn.Module) -> list[str]:
    return [path for path, _ in wrappers.named_modules(model)]


def test_checkpointed_blocks_keep_their_names() -> None:
    model = Stack()
    before = paths(model)
    for position, layer in enumerate(model.layers):
        model.layers[position] = checkpoint_wrapper.checkpoint_wrapper(layer)
    assert paths(model) == before
    assert set(BLOCKS) < set(before)


def test_adapted_layers_are_below_the_layer() -> None:
    peft = pytest.importorskip("peft")
    before = paths(llama())
    model = peft.get_peft_model(llama(), peft.LoraConfig(target_modules=["q_proj"]))
    assert set(before) < set(paths(model))
    layer = "model.layers.0.self_attn.q_proj"
    assert {path for path in set(paths(model)) - set(before) if not path.startswith(f"{layer}.")} == set()


def test_a_prompt_encoder_is_no_wrapper() -> None:
    peft = pytest.importorskip("peft")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    model = peft.get_peft_model(llama(), config)
    assert wrappers.unwrap(model) is model
    assert any(path.startswith("prompt_encoder") for path in paths(model))


def test_the_classes_are_where_the_table_says() -> None:
    peft = pytest.importorskip("peft")
    tuner = peft.tuners.tuners_utils.BaseTuner
    classes = {peft.PeftModel, peft.PeftMixedModel, tuner, checkpoint_wrapper.ActivationWrapper}
    assert {wrappers.qualified_name(kind) for kind in classes} == wrappers.ADAPTERS.keys()
