"""Honest re-runs: each way computes the same, leaves all as it was, and is refused where it cannot be."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from palm_torch.audit import fingerprint_distance
from palm_torch.committing import reruns
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

IDS = [1, 5, 9, 2, 30, 7, 8, 3]


def llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=40,
        max_position_embeddings=64,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def model() -> Any:
    return llama()


@pytest.mark.parametrize("way", ["batch", "threads", "cache", "attention", "dtype"])
def test_every_way_computes_the_same_and_cleans_up(model: Any, way: str) -> None:
    threads, attention = torch.get_num_threads(), model.config._attn_implementation
    first, other = reruns.run(model, IDS), reruns.run(model, IDS, way=way)
    assert [(part.sequences, part.tokens) for part in other.sites] == [(1, 8), (1, 8)]
    found = fingerprint_distance.distances(first, other)
    assert max(part.measures["projection worst"] for part in found) < (0.1 if way == "dtype" else 0.01)
    assert (torch.get_num_threads(), model.config._attn_implementation) == (threads, attention)
    assert model.dtype == torch.float32


def test_what_a_model_can(model: Any) -> None:
    assert reruns.ways_of(model) == ("batch", "threads", "cache", "attention")
    assert reruns.ways_of(Plain()) == ("batch", "threads")


def test_other_tokens_are_far_away(model: Any) -> None:
    (part, _) = fingerprint_distance.distances(
        reruns.run(model, IDS), reruns.run(model, [*IDS[:4], 31, *IDS[5:]])
    )
    assert part.measures["projection worst"] > 0.2
    assert part.token >= 4


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(40, 8)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5)) for _ in range(2))

    def forward(self, ids: torch.Tensor, **_: Any) -> torch.Tensor:
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x)
        found: torch.Tensor = x
        return found


def test_a_module_by_the_name_of_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    here = sys.modules[__name__]
    monkeypatch.setitem(sys.modules, "made_up_models", here)
    made, tokenizer = reruns.model_of("made_up_models:Plain")
    assert tokenizer is None
    assert not made.training, "nothing is dropped"
    one, two = reruns.run(made, IDS), reruns.run(made, IDS, way="threads")
    assert max(fingerprint_distance.distances(one, two)[1].measures.values()) < 1e-3
    seeded = reruns.run(made, IDS, sites=["layers.0"], seed=b"s" * 32)
    assert seeded.seed == b"s" * 32
    for named, says in (
        ("made_up_models:nothing", "made_up_models:nothing: "),
        ("made_up_models:model_without_type", "expected it to return a torch.nn.Module, got int"),
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("no_such_folder", "expected a folder or module:function, got 'no_such_folder'"),
    ):
        with pytest.raises(DataError, match=says):
            reruns.model_of(named)
    with pytest.raises(DataError, match="no past_key_values: leave 'cache' out"):
        reruns.run(made, IDS, way="cache")
    with pytest.raises(DataError, match="no other attention for None"):
        reruns.run(made, IDS, way="attention")
    with pytest.raises(DataError, match=r"re-run: expected one of .*, got 'upside down'"):
        reruns.run(made, IDS, way="upside down")


def model_without_type() -> int:
    return 1


def test_through_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def compiled(module: nn.Module) -> nn.Module:
        calls.append(module)
        return module

    monkeypatch.setattr(torch, "compile", compiled)
    made = Plain().eval()
    assert reruns.run(made, IDS, way="compiled") == reruns.run(made, IDS)
    assert calls == [made]


def test_a_folder_of_transformers(model: Any, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path / "model")
    made, tokenizer = reruns.model_of(str(tmp_path / "model"))
    assert tokenizer is None
    assert reruns.run(made, IDS) == reruns.run(model, IDS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="cannot be loaded as a causal language model"):
        reruns.model_of(str(tmp_path / "empty"))


def test_prompts(tmp_path: Path) -> None:
    def words(text: str) -> dict[str, list[int]]:
        return {"input_ids": [len(word) for word in text.split()]}

    path = tmp_path / "prompts"
    path.write_text("[1, 2,3,4]\n\n  \nhow are you\n", encoding="utf-8")
    assert reruns.prompts_of(path, words, tokens=3) == [[1, 2, 3], [3, 3, 3]]
    with pytest.raises(DataError, match="line 4: expected a list of ids: the model came without a tokenizer"):
        reruns.prompts_of(path, None, tokens=3)
    for line, says in (
        ("[]", "line 1: expected one token or more"),
        ('["a"]', "line 1: expected a list of ids"),
        ("[-1]", "line 1: expected a list of ids"),
        ("[true]", "line 1: expected a list of ids"),
        ("[1", "line 1: not a JSON document"),
    ):
        path.write_text(line, encoding="utf-8")
        with pytest.raises(DataError, match=says):
            reruns.prompts_of(path, None, tokens=3)
    with pytest.raises(DataError, match="cannot read the prompts"):
        reruns.prompts_of(tmp_path / "none", None, tokens=3)
    with pytest.raises(DataError, match="x: expected a list of ids, got "):
        reruns.ids_of(b'{"a":1}', what="x")
