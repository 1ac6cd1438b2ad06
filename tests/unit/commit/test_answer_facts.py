"""Facts that bind a trace to its answer."""

from __future__ import annotations

import pytest
from blake3 import blake3

from palm_torch.commit import answer_facts, history
from palm_torch.digest import tagged_digest
from palm_torch.encoding import encode_json
from palm_torch.errors import EncodingError

ONE, TWO, THREE, FOUR = (tagged_digest("palm-torch/example/v1", bytes([n])) for n in range(4))


def test_every_part_of_an_answer_is_a_fact_of_its_own() -> None:
    said = {"query": ONE, "response": TWO, "before": THREE, "after": FOUR, "decoding": {"t": 1}}
    found = answer_facts.facts(tokenizer=None, **said)
    assert found == {
        "query": ONE,
        "response": TWO,
        "generators.before": THREE,
        "generators.after": FOUR,
        "decoding": tagged_digest("palm-torch/decoding/v1", encode_json({"t": 1})),
    }
    assert answer_facts.facts(tokenizer=ONE, **said) == {**found, "tokenizer": ONE}
    other = answer_facts.facts(tokenizer=None, **{**said, "decoding": {"t": 2}})
    assert other["decoding"] != found["decoding"]
    with pytest.raises(EncodingError):
        answer_facts.facts(tokenizer=None, **{**said, "decoding": {"t": float("nan")}})


def test_logits_are_bound_token_by_token_and_in_order() -> None:
    first, second = (answer_facts.token_logits("float32[2]", blake3(bytes([n])).digest()) for n in range(2))
    assert first != answer_facts.token_logits("float16[2]", blake3(b"\0").digest())
    both = answer_facts.logits([first, second])
    assert both.value == history.root_of([first.value, second.value])
    assert both != answer_facts.logits([second, first])
