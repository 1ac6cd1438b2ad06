"""Honest runs of small models are consistent, whatever their dtype and however they ran."""

from __future__ import annotations

from typing import TYPE_CHECKING

import audited_models
import pytest
import torch

from palm_torch.audit import heads
from palm_torch.errors import BindingError, DataError

if TYPE_CHECKING:
    from pathlib import Path

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("generate", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", sorted(audited_models.KINDS))
def test_honest(kind: str, dtype: torch.dtype, generate: bool, tmp_path: Path) -> None:  # noqa: FBT001
    run = audited_models.run(audited_models.model(kind, dtype), tmp_path, generate=generate)
    found = run.audit(run.ask(queries=48, whole=1), decoding=audited_models.GREEDY)
    assert found.consistent, found.inconsistent
    assert found.margin is not None
    assert found.margin <= 1
    assert not found.blind
    operations = {finding.operation for finding in found.findings if finding.verdict == "consistent"}
    expected = {"attention norm", "attention out", "mlp norm", "down", "output", "norm", "logits"}
    assert expected <= operations
    assert ("token" in operations) is generate
    assert any("3 ids, which the trace binds as padding" in words for words in found.not_checked)


@pytest.mark.parametrize("kind", sorted(audited_models.KINDS))
def test_weights_that_the_answer_opens(kind: str, tmp_path: Path) -> None:
    run = audited_models.run(audited_models.model(kind), tmp_path)
    asked = run.ask(queries=24, whole=1, coordinates=3)
    found = run.audit(asked, decoding=audited_models.GREEDY, at_hand=False)
    assert found.consistent, found.inconsistent
    again = run.audit(asked, decoding=audited_models.GREEDY)
    assert again.consistent


def test_an_eager_attention(tmp_path: Path) -> None:
    made = audited_models.model("llama", torch.bfloat16)
    made.set_attn_implementation("eager")
    run = audited_models.run(made, tmp_path)
    assert run.audit(run.ask(queries=64)).consistent


def test_one_sequence_without_ids(tmp_path: Path) -> None:
    ids, mask = audited_models.prompt(batch=1, padded=0)
    run = audited_models.run(audited_models.model("llama"), tmp_path, ids=ids, mask=mask, bind=False)
    found = run.audit(run.ask(queries=48))
    assert found.consistent
    why = {finding.operation: finding.words for finding in found.findings if finding.verdict == "not checked"}
    assert set(why) == {"token embedding", "token"}
    assert any("binds no tokens" in words for words in found.not_checked)


def test_several_sequences_without_ids(tmp_path: Path) -> None:
    run = audited_models.run(audited_models.model("llama"), tmp_path, bind=False)
    found = run.audit(run.ask(queries=48, whole=1))
    assert not found.inconsistent
    attention = [finding for finding in found.findings if finding.operation == "attention out"]
    assert attention
    assert {finding.verdict for finding in attention} == {"not checked"}
    assert set(found.blind) == set(attention)
    assert not found.consistent


def test_calls_that_do_not_go_on_without_ids(tmp_path: Path) -> None:
    """Without a cache each call begins anew: where no ids are bound, nothing says so, nobody is accused."""
    ids, mask = audited_models.prompt(batch=1, padded=0)
    made = audited_models.model("llama")
    run = audited_models.run(made, tmp_path, ids=ids, mask=mask, bind=False, use_cache=False, new=3)
    found = run.audit(run.ask(queries=24, whole=1))
    assert not found.inconsistent
    assert {finding.operation for finding in found.blind} == {"attention out"}
    assert "go" in found.blind[0].words


def test_a_prompt_in_pieces(tmp_path: Path) -> None:
    """The last row of a piece has logits, and the token after it was given all the same."""
    made = audited_models.model("llama")
    run = audited_models.run(made, tmp_path, prefill_chunk_size=3)
    found = run.audit(run.ask(queries=64, weights=(1, 1, 1, 9)), decoding=audited_models.GREEDY)
    assert found.consistent, found.inconsistent
    assert any("the first 7 ids of each sequence were given" in words for words in found.not_checked)
    looked = [one for one in found.findings if one.operation == "token" and one.verdict == "consistent"]
    assert looked


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("generate", [True, False])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_padding_at_the_end_of_a_prompt(kind: str, generate: bool, tmp_path: Path) -> None:  # noqa: FBT001
    ids, mask = audited_models.prompt(padded=0)
    mask[-1, -3:] = 0
    run = audited_models.run(audited_models.model(kind), tmp_path, ids=ids, mask=mask, generate=generate)
    found = run.audit(run.ask(queries=64, whole=1, weights=(3, 1, 1, 1)), decoding=audited_models.GREEDY)
    assert found.consistent, found.inconsistent


def test_positions_that_count_padding_whose_rows_are_not_opened(tmp_path: Path) -> None:
    run = audited_models.run(audited_models.model("gpt2"), tmp_path, generate=False)
    asked = run.ask(queries=40, coordinates=2, weights=(50, 1, 1, 1))
    found = run.audit(asked, at_hand=False)
    assert found.consistent, found.inconsistent
    assert any("is not opened" in words for words in found.not_checked)
    assert any("all but 2 outputs at each place" in words for words in found.not_checked)


def test_beams_exchange_what_was_computed_before(tmp_path: Path) -> None:
    run = audited_models.run(audited_models.model("llama"), tmp_path)
    with pytest.raises(DataError, match="num_beams: expected 1"):
        run.audit(run.ask(), decoding={"do_sample": False, "num_beams": 2})


def test_places_that_come_twice_are_looked_at_once(tmp_path: Path) -> None:
    ids, mask = audited_models.prompt(batch=1, length=2, padded=0)
    run = audited_models.run(audited_models.model("llama"), tmp_path, ids=ids, mask=mask, generate=False)
    found = run.audit(run.ask(queries=200))
    norms = [finding.place for finding in found.findings if finding.operation == "attention norm"]
    assert len(norms) == len(set(norms)) == 4
    assert len(found.places) == 200


def test_what_a_request_needs(tmp_path: Path) -> None:
    run = audited_models.run(audited_models.model("llama"), tmp_path)
    with pytest.raises(DataError, match="with coordinates"):
        run.audit(run.ask(), at_hand=False)
    other = run.ask(1)
    with pytest.raises(BindingError, match="expected one to the request"):
        audited_models.checking.check(other, run.context, run.answer(run.ask()))
    with pytest.raises(BindingError, match="another trace"):
        audited_models.checking.check(other, run.context.replace(b"2.13", b"2.14"), run.answer(other))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2"])
def test_where_padding_ends_a_prompt_the_first_token_is_chosen(
    kind: str, attention: str, tmp_path: Path
) -> None:
    """What a sequence with padding at its end goes on from is looked at, though its id is none."""
    ids, mask = audited_models.prompt(padded=0)
    mask[1, -2:] = 0
    made = audited_models.model(kind)
    made.set_attn_implementation(attention)
    run = audited_models.run(made, tmp_path / "honest", ids=ids, mask=mask)
    asked = run.ask(queries=0, whole=2)
    assert run.audit(asked, decoding=audited_models.GREEDY).consistent
    blocks = made.transformer.h if kind == "gpt2" else made.model.layers
    last = blocks[0].attn.c_proj if kind == "gpt2" else blocks[0].self_attn.o_proj

    def edited(_module: object, given: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        if given[0].shape[1] == 1:
            return given
        changed = given[0].clone()
        changed[1, -1] *= 3
        return (changed,)

    handle = last.register_forward_pre_hook(edited)
    run = audited_models.run(made, tmp_path / "edited", ids=ids, mask=mask)
    handle.remove()
    found = run.audit(run.ask(queries=0, whole=2), decoding=audited_models.GREEDY)
    assert {one.operation for one in found.inconsistent} == {"attention out"}


def test_places_are_looked_at_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = audited_models.run(audited_models.model("llama"), tmp_path)
    asked = run.ask(queries=0, whole=2)
    found = run.audit(asked, decoding=audited_models.GREEDY)
    monkeypatch.setattr(heads, "VISIBLE", 30)
    assert run.audit(asked, decoding=audited_models.GREEDY) == found
    assert found.consistent
