"""What a check refuses before it computes anything, and what it says that it did not look at."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import audited_models
import numpy as np
import pytest
import torch
import weights_at_hand

from palm_torch.audit import arithmetic, checking, weights_opened
from palm_torch.audit.layers import Source, WholeLayers
from palm_torch.audit.stretch import Stretch
from palm_torch.challenge import parts
from palm_torch.commit import answer_facts
from palm_torch.digest import sha256_digest
from palm_torch.errors import BindingError, DataError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def run(tmp_path: Path) -> audited_models.Run:
    ids, mask = audited_models.prompt(batch=1, padded=0)
    return audited_models.run(audited_models.model("llama"), tmp_path / "own", ids=ids, mask=mask)


def test_weights_of_another_trace(run: audited_models.Run, tmp_path: Path) -> None:
    other = audited_models.run(audited_models.model("llama", seed=4), tmp_path / "other")
    asked = other.ask()
    weights = checking.weights_at_hand(asked, other.context, [other.weights])
    own = run.ask()
    with pytest.raises(BindingError, match="weights: expected the root"):
        checking.check(own, run.context, run.answer(own), weights=weights)


def test_a_trace_that_names_no_weights(tmp_path: Path) -> None:
    run = audited_models.run(audited_models.model("llama"), tmp_path, name_weights=False)
    found = run.audit(run.ask())
    assert found.consistent
    assert any("names no weights" in words for words in found.not_checked)
    asked = run.ask(coordinates=2)
    answer = run.answer(run.ask())
    with pytest.raises(DataError, match="the trace names no weights"):
        checking.check(asked, run.context, dataclasses.replace(answer, request=asked.digest))


def test_sealed_claims_and_decoding(tmp_path: Path) -> None:
    said = {"do_sample": False}
    facts = {answer_facts.DECODING: answer_facts.decoding_digest(said)}
    ids, mask = audited_models.prompt(batch=1, padded=0)
    run = audited_models.run(audited_models.model("llama"), tmp_path, ids=ids, mask=mask, facts=facts)
    asked = run.ask(claims=sha256_digest(b"claims"))
    found = run.audit(asked, decoding=said)
    assert found.sealed
    assert found.consistent
    unseen = " ".join(found.not_checked)
    assert "that was sealed" not in unseen
    assert "prover's words" not in unseen
    with pytest.raises(BindingError, match="decoding: expected those that the trace binds"):
        run.audit(asked, decoding={"do_sample": True})
    assert run.audit(asked).consistent


def test_parameters_of_decoding_that_an_answer_leaves_out(tmp_path: Path) -> None:
    """A receipt says how tokens were chosen: a prover who keeps it to himself is looked at all the same."""
    said = {"do_sample": False}
    facts = {answer_facts.DECODING: answer_facts.decoding_digest(said)}
    ids, mask = audited_models.prompt(batch=1, padded=0)
    words = {"ids": ids, "mask": mask, "facts": facts, "do_sample": True, "temperature": 5.0}
    run = audited_models.run(audited_models.model("llama"), tmp_path, **words)
    asked = run.ask(queries=40, weights=(1, 1, 1, 50))
    shown = run.answer(asked)
    read = checking.weights_at_hand(asked, run.context, [run.weights])
    assert checking.check(asked, run.context, shown, weights=read).consistent
    found = checking.check(asked, run.context, shown, weights=read, decoding=said)
    assert {finding.operation for finding in found.inconsistent} == {"token"}
    with pytest.raises(BindingError, match="receipt: decoding: expected those that the trace binds"):
        checking.check(asked, run.context, shown, weights=read, decoding={"do_sample": True})


def test_weights_that_the_configuration_does_not_describe(run: audited_models.Run) -> None:
    asked = run.ask()
    weights = checking.weights_at_hand(asked, run.context, [run.weights])
    part = parts.parts(run.geometry)[1]

    def source(**changes: Any) -> Source:
        fields = {"weights": weights, "geometry": run.geometry, "part": part}
        return Source(**{**fields, "arithmetic": arithmetic.of("float32", {}), **changes})

    with pytest.raises(
        DataError, match=r"expected shape \[73, 32\], as the configuration says, got \[72, 32\]"
    ):
        source(geometry=dataclasses.replace(run.geometry, intermediate=73)).matrix("gate")
    with pytest.raises(DataError, match="expected bfloat16, the element type of what"):
        source(arithmetic=arithmetic.of("bfloat16", {})).matrix("gate")
    rows = {"input": np.zeros((1, 32), np.float32), "query": np.zeros((1, 32), np.float16)}
    with pytest.raises(DataError, match="query: expected float32, as the part's other rows, got float16"):
        Stretch(source=source(), layers=WholeLayers(), rows=rows, together=False)


def test_opened_weights_that_nothing_is_computed_with(tmp_path: Path) -> None:
    path = weights_at_hand.write(tmp_path / "a.safetensors", {"a": ("I8", [4], bytes(4))})
    opening = weights_at_hand.opened(path, "a")
    with pytest.raises(DataError, match="got int8: no audit computes with it"):
        weights_opened.verified(opening.root, [opening])


def test_a_whole_block_of_which_nothing_follows(tmp_path: Path) -> None:
    made = audited_models.model("llama")

    def edit(_module: object, _given: object, output: torch.Tensor) -> torch.Tensor:
        return torch.full_like(output, float("nan"))

    made.model.embed_tokens.register_forward_hook(edit)
    run = audited_models.run(made, tmp_path, generate=False)
    found = run.audit(run.ask(queries=0, whole=2))
    assert not found.consistent
    assert not found.inconsistent
    assert {finding.operation for finding in found.blind} >= {"query", "attention out", "output"}
