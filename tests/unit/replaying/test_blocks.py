"""Blocks of models that no audit describes, computed again from opened inputs."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import pytest
import replayed_models
import torch
from torch import nn

from palm_torch.errors import ArtifactError, BindingError, DataError
from palm_torch.replaying import blocks, calls

if TYPE_CHECKING:
    from palm_torch.replaying.result import ReplayResult


@pytest.mark.parametrize("kind", ["plain", "mixtral", "gemma"])
def test_an_honest_run_is_replayed(kind: str) -> None:
    made = replayed_models.model(kind)
    run = replayed_models.run(made, named=made)
    found = run.replay(run.ask(), made)
    assert found.accepted
    assert {one.verdict for one in found.findings} == {"replayed"}
    assert found.farthest is not None
    assert 0 < found.farthest <= blocks.WITHIN
    assert not found.sealed
    assert any("no bound is derived" in words for words in found.not_checked)
    assert len(json.loads(found.encode())["findings"]) == len(found.findings)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_edited_output_differs_where_it_was_edited(number: int) -> None:
    made = replayed_models.model("plain")

    def edit(_module: object, _given: object, output: Any) -> Any:
        changed = output[0].clone()
        changed[0, 5, 3] += 0.5
        return changed, None

    handle = made.blocks[number].register_forward_hook(edit)
    run = replayed_models.run(made)
    handle.remove()
    found = run.replay(run.ask(queries=150), made)
    assert not found.accepted
    assert {(one.block, one.token) for one in found.differing} == {(f"blocks.{number}", 5)}
    (one,) = found.differing
    assert "channel 3: committed" in one.words
    assert one.ratio is not None
    assert one.ratio > blocks.WITHIN
    assert run.replay(run.ask(queries=150), made, within=1e6).accepted


def _unnamed(seed: int) -> ReplayResult:
    made = replayed_models.model("plain")
    run = replayed_models.run(made)
    return run.replay(run.ask(), replayed_models.model("plain", seed=seed))


def test_other_weights_differ() -> None:
    assert _unnamed(0).accepted
    found = _unnamed(1)
    assert len(found.differing) == len(found.findings)
    assert any("the trace names no weights" in words for words in found.not_checked)


def test_other_weights_than_the_trace_names_are_refused() -> None:
    made = replayed_models.model("plain")
    run = replayed_models.run(made, named=made)
    with pytest.raises(ArtifactError, match="model: expected the weights root"):
        run.replay(run.ask(), replayed_models.model("plain", seed=1))


def test_an_answer_to_something_else_is_refused() -> None:
    made = replayed_models.model("plain")
    run = replayed_models.run(made)
    asked = run.ask()
    answer = run.answer(asked)
    with pytest.raises(BindingError, match="expected one to the request"):
        blocks.check(run.ask(1), run.context, answer, made)
    with pytest.raises(BindingError, match="expected the root"):
        blocks.check(asked, run.context + b" ", answer, made)
    fewer = dataclasses.replace(answer, openings=answer.openings[1:])
    with pytest.raises(BindingError, match="openings, got"):
        blocks.check(asked, run.context, fewer, made)
    more = dataclasses.replace(answer, decoding={"do_sample": False})
    with pytest.raises(BindingError, match="expected neither weights nor parameters"):
        blocks.check(asked, run.context, more, made)


def test_what_cannot_be_replayed() -> None:
    made = replayed_models.model("plain")
    run = replayed_models.run(made, bind=False)
    with pytest.raises(DataError, match="it binds no tokens"):
        run.replay(run.ask(), made)
    run = replayed_models.run(made)
    with pytest.raises(DataError, match="within: expected"):
        run.replay(run.ask(), made, within=0.5)
    with pytest.raises(DataError, match=r"call model\.eval"):
        run.replay(run.ask(), replayed_models.model("plain").train())
    with pytest.raises(DataError, match="expected rows like those of the model"):
        run.replay(run.ask(), replayed_models.model("plain", torch.float32))
    with pytest.raises(DataError, match="the model has no such module"):
        run.replay(run.ask(), nn.Linear(2, 2).eval())


def test_padding_is_said() -> None:
    made = replayed_models.model("plain")
    run = replayed_models.run(made, batch=2, padded=2)
    found = run.replay(run.ask(queries=40), made)
    assert found.accepted
    assert {one.sequence for one in found.findings if one.verdict == "not checked"} == {1}
    assert {one.words for one in found.findings if one.sequence == 1} == {blocks._PADDED}


def test_what_is_not_finite() -> None:
    made = replayed_models.model("plain")

    def edit(_module: object, _given: object, output: Any) -> Any:
        return torch.full_like(output[0], float("inf")), None

    handle = made.blocks[0].register_forward_hook(edit)
    run = replayed_models.run(made)
    handle.remove()
    found = run.replay(run.ask(queries=40), made)
    assert not found.accepted
    assert {one.verdict for one in found.findings if one.block == "blocks.0"} == {"differs"}
    assert {one.ratio for one in found.findings if one.block == "blocks.0"} == {None}
    assert all(one.blind for one in found.findings if one.block == "blocks.1")


class Chain(nn.Module):
    """A model whose blocks do what a test says."""

    def __init__(self, *chain: nn.Module, scale: float = 1.0, times: int = 1) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, 4)
        self.chain = nn.ModuleList(chain)
        self.scale, self.times = scale, times

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Returns what the last block returned."""
        hidden = self.embed(ids)
        for block in self.chain:
            for _ in range(self.times):
                hidden = block(hidden)
            hidden = hidden * self.scale
        return hidden


def test_a_block_that_is_given_something_else() -> None:
    model = Chain(nn.Linear(4, 4), nn.Linear(4, 4), scale=2.0).eval()
    call, returned = calls.of(model, [1, 2], "chain.1", "chain.0")
    assert returned is not None
    with pytest.raises(DataError, match="given what the block before returned, it was not"):
        calls.exchanged(call, returned, returned, block="chain.1")


def test_a_block_that_is_called_twice() -> None:
    with pytest.raises(DataError, match="called them 2 and 0 times"):
        calls.of(Chain(nn.Linear(4, 4), times=2).eval(), [1, 2], "chain.0", None)


def test_a_block_that_cannot_be_called_alone() -> None:
    model = Chain(nn.Linear(4, 4)).eval()
    call, _ = calls.of(model, [1, 2], "chain.0", None)
    with pytest.raises(DataError, match="cannot be called alone as the model calls it"):
        call.result_of(nn.Linear(5, 5))


def test_what_modules_return() -> None:
    one = torch.ones(2)
    assert calls.first(one, what="it") is one
    assert calls.first((None, one), what="it") is one
    assert calls.first({"a": None, "b": one}, what="it") is one
    with pytest.raises(DataError, match="it: expected it to return a tensor, got NoneType"):
        calls.first(None, what="it")


def test_arguments_of_all_kinds_are_reached() -> None:
    one = torch.ones(2)
    call = calls.Call((one, [one]), {"a": (one, None), "b": {"c": one}, "d": "word"})
    made = call.changed(lambda tensor: tensor + 1)
    assert made.args[1][0].tolist() == [2, 2]
    assert made.kwargs["a"][0].tolist() == made.kwargs["b"]["c"].tolist() == [2, 2]
    assert made.kwargs["d"] == "word"


def test_an_identity_is_off_by_nothing() -> None:
    """A block that only hands on has no rounding: then any difference at all is one."""
    request = type("Request", (), {"blocks": ("b",)})()
    place = type("Place", (), {"part": 0, "sequence": 0, "token": 0})()
    zeros = torch.zeros(3, dtype=torch.float64)
    same = blocks._compared(request, place, zeros, zeros, zeros, 0.01, 8.0)
    assert (same.verdict, same.ratio) == ("replayed", 0.0)
    other = blocks._compared(request, place, zeros + 1, zeros, zeros, 0.01, 8.0)
    assert (other.verdict, other.ratio) == ("differs", None)
    assert "far beyond rounding" in other.words
