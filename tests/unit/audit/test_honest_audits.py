"""Honest runs of small models are consistent, whatever their dtype and however they ran."""

from __future__ import annotations

from typing import TYPE_CHECKING

import audited_models
import pytest
import torch

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
    assert found.consistent
    attention = [finding for finding in found.findings if finding.operation == "attention out"]
    assert attention
    assert {finding.verdict for finding in attention} == {"not checked"}


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
