"""Tokens chosen from logits: what accuses, and what only keeps from saying anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import audited_models
import pytest
import torch

from palm_torch.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

HEAD = (1, 1, 1, 1000)


def tokens_of(run: audited_models.Run, decoding: Any) -> dict[int, tuple[str, str]]:
    """Returns token → verdict and words, of the first sequence."""
    found = run.audit(run.ask(queries=200, weights=HEAD), decoding=decoding)
    return {
        one.place.token: (one.verdict, one.words)
        for one in found.findings
        if one.operation == "token" and one.place is not None and one.place.sequence == 0
    }


@pytest.fixture
def sampled(tmp_path: Path) -> audited_models.Run:
    ids, mask = audited_models.prompt(batch=1, padded=0)
    words = {"do_sample": True, "top_k": 40, "temperature": 5.0}
    return audited_models.run(audited_models.model("llama"), tmp_path, ids=ids, mask=mask, **words)


def test_sampled_tokens(sampled: audited_models.Run) -> None:
    said = tokens_of(sampled, {"do_sample": True, "top_k": 40, "temperature": 5.0})
    assert set(said) == {6, 7, 8, 9, 10}
    assert {verdict for verdict, _ in said.values()} == {"consistent"}


def test_sampled_tokens_said_to_be_the_likeliest(sampled: audited_models.Run) -> None:
    said = tokens_of(sampled, {"do_sample": False})
    assert "inconsistent" in {verdict for verdict, _ in said.values()}


def test_sampled_tokens_that_top_k_cuts_out(sampled: audited_models.Run) -> None:
    said = tokens_of(sampled, {"do_sample": True, "top_k": 1})
    assert "inconsistent" in {verdict for verdict, _ in said.values()}


@pytest.mark.parametrize(
    ("decoding", "why"),
    [
        ({"do_sample": False, "repetition_penalty": 1.2}, "chosen with repetition_penalty"),
        ({"do_sample": False, "num_beams": 4}, "beams"),
        (None, "nothing says how"),
        ({}, "nothing says how"),
        ({"max_new_tokens": 5, "temperature": 0.7}, "do not say whether tokens were sampled"),
        ({"do_sample": "no"}, "do not say whether tokens were sampled"),
    ],
)
def test_what_nothing_can_be_said_of(sampled: audited_models.Run, decoding: Any, why: str) -> None:
    said = tokens_of(sampled, decoding)
    assert "inconsistent" not in {verdict for verdict, _ in said.values()}
    assert any(why in words for _, words in said.values())


@pytest.mark.parametrize("value", ["1", True])
def test_parameters_that_are_none(sampled: audited_models.Run, value: Any) -> None:
    with pytest.raises(DataError, match="decoding: temperature: expected a number"):
        tokens_of(sampled, {"do_sample": True, "temperature": value})


def test_padding_after_the_end_of_a_sequence(tmp_path: Path) -> None:
    """One of two sequences ends early: what stands after its end was not chosen from logits."""
    made = audited_models.model("llama")
    ids, mask = audited_models.prompt(padded=0)
    full = audited_models.run(made, tmp_path, ids=ids, mask=mask, new=6)
    with torch.no_grad():
        first = made.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False, pad_token_id=0)
    ends = next(token for token in first[0, 7:11].tolist() if token not in first[1].tolist())
    run = audited_models.run(made, tmp_path, ids=ids, mask=mask, new=6, eos_token_id=ends)
    assert run.context != full.context
    said = tokens_of(run, {**audited_models.GREEDY, "eos_token_id": ends})
    assert "inconsistent" not in {verdict for verdict, _ in said.values()}
    assert any("may have ended before" in words for _, words in said.values())


@pytest.mark.parametrize(
    ("more", "excused"),
    [
        ({}, True),
        ({"eos_token_id": 3}, False),
        ({"eos_token_id": [3, 4]}, False),
        ({"pad_token_id": 5, "eos_token_id": 3}, False),
    ],
)
def test_the_last_token_of_a_sequence_that_has_not_ended(
    more: dict[str, Any],
    excused: bool,  # noqa: FBT001 (a case)
    tmp_path: Path,
) -> None:
    """A token that ends the ids looks like padding; it is none where nothing before it ends a sequence."""
    ids, mask = audited_models.prompt(padded=0)
    made = audited_models.model("llama")
    full = audited_models.run(made, tmp_path, ids=ids, mask=mask)
    with torch.no_grad():
        said = made.generate(ids, attention_mask=mask, max_new_tokens=5, do_sample=False, pad_token_id=0)
    assert not {3, 4} & set(said[0].tolist())
    other = said.clone()
    other[0, -1] = 5
    run = audited_models.run(made, tmp_path, ids=ids, mask=mask, bind=other)
    assert run.context != full.context
    verdict, words = tokens_of(run, {"do_sample": False, **more})[10]
    assert verdict == ("not checked" if excused else "inconsistent"), words


def test_the_first_token_is_no_padding_after_the_end(tmp_path: Path) -> None:
    ids, mask = audited_models.prompt(padded=0)
    made = audited_models.model("llama")
    bound = torch.cat([ids, torch.full((2, 1), 5)], dim=1)
    run = audited_models.run(made, tmp_path, ids=ids, mask=mask, new=1, bind=bound)
    assert tokens_of(run, {"do_sample": False})[6][0] == "inconsistent"


def test_an_id_that_is_none_of_the_vocabulary(tmp_path: Path) -> None:
    ids, mask = audited_models.prompt(batch=1, padded=0)
    longer = torch.cat([ids, torch.tensor([[audited_models.VOCABULARY]])], dim=1)
    run = audited_models.run(
        audited_models.model("llama"), tmp_path, ids=ids, mask=mask, generate=False, bind=longer
    )
    with pytest.raises(DataError, match="expected ids below 97, got 97"):
        tokens_of(run, audited_models.GREEDY)


def test_logits_that_are_no_numbers(tmp_path: Path) -> None:
    made = audited_models.model("llama")
    made.lm_head.register_forward_hook(lambda *call: torch.full_like(call[2], float("nan")))
    ids, mask = audited_models.prompt(batch=1, padded=0)
    longer = torch.cat([ids, torch.tensor([[5]])], dim=1)
    run = audited_models.run(made, tmp_path, ids=ids, mask=mask, generate=False, bind=longer)
    assert tokens_of(run, audited_models.GREEDY)[6] == ("not checked", "the logits are not all finite")
    found = run.audit(run.ask(queries=20, weights=HEAD))
    assert "logits" in {finding.operation for finding in found.inconsistent}
