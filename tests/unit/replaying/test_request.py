"""A replay's request: what it accepts, and that what it asks follows from it and the trace."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest
import replayed_models
import torch

import palm_torch
from palm_torch.commit import trace
from palm_torch.errors import BindingError, DataError, RequestError
from palm_torch.replaying import answering, request

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def run() -> replayed_models.Run:
    return replayed_models.run(replayed_models.model("plain"), batch=2)


def test_it_is_read_as_it_was_written(run: replayed_models.Run, tmp_path: Path) -> None:
    asked = run.ask()
    asked.save(tmp_path / "r.json")
    assert request.read(tmp_path / "r.json") == asked
    assert request.draw(run.context, run.names, claims=None).nonce != asked.nonce
    (tmp_path / "r.json").write_bytes(asked.encode() + b" ")
    with pytest.raises(RequestError):
        request.read(tmp_path / "r.json")


@pytest.mark.parametrize(
    "change",
    [
        {"media_type": "other"},
        {"trace": palm_torch.digest.sha256_digest(b"")},
        {"blocks": ()},
        {"blocks": ("blocks.0", "blocks.0")},
        {"queries": 0},
        {"queries": request.MAX_QUERIES + 1},
    ],
)
def test_what_it_refuses(run: replayed_models.Run, change: dict[str, object]) -> None:
    with pytest.raises(RequestError, match=f"{next(iter(change))}: expected"):
        dataclasses.replace(run.ask(), **change)  # type: ignore[arg-type]


def test_places_follow_from_nonce_and_root(run: replayed_models.Run) -> None:
    context = trace.decode(run.context, what="context")
    places = request.asked(run.ask(queries=64), context).places
    assert places == request.asked(run.ask(queries=64), context).places
    assert places != request.asked(run.ask(1, queries=64), context).places
    assert {place.part for place in places} == {0, 1, 2}
    assert {place.sequence for place in places} == {0, 1}
    assert {place.token for place in places} == set(range(9))


def test_it_asks_for_what_went_in_and_for_one_row_of_what_came_out(run: replayed_models.Run) -> None:
    asked = request.asked(run.ask(queries=1), trace.decode(run.context, what="context"))
    (place,) = asked.places
    found = [(question.site.module, question.batch, question.tokens) for question in asked.questions]
    sequence, token = (place.sequence, place.sequence + 1), (place.token, place.token + 1)
    expected = [(run.names[place.part], sequence, token)]
    if place.part:
        expected.insert(0, (run.names[place.part - 1], sequence, (0, place.token + 1)))
    assert found == expected


def test_a_trace_of_something_else(run: replayed_models.Run) -> None:
    context = trace.decode(run.context, what="context")
    with pytest.raises(DataError, match="no tensor of it is in this trace"):
        request.asked(run.ask(blocks=("blocks.7",)), context)
    other = replayed_models.run(replayed_models.model("plain", seed=1))
    with pytest.raises(BindingError, match="expected one about the trace"):
        answering.answer(other.ask(), run.proof._kept_trace())


def test_a_trace_of_two_runs() -> None:
    made = replayed_models.model("plain")
    with palm_torch.commit(made, layers="blocks", keep="memory") as proof, torch.no_grad():
        made(torch.ones(1, 4, dtype=torch.int64))
        made(torch.ones(2, 4, dtype=torch.int64))
    asked = request.draw(proof.context, ("blocks.0",), claims=None)
    with pytest.raises(DataError, match="expected one forward pass, or one generation of one batch"):
        request.asked(asked, trace.decode(proof.context, what="context"))


def test_blocks_that_were_not_called_together() -> None:
    made = replayed_models.model("plain")
    names = ("blocks.0", "blocks.1")
    seen = palm_torch.commit(made, layers=names, keep="memory", conditional=names)
    with seen as proof, torch.no_grad():
        made(torch.ones(1, 4, dtype=torch.int64))
        hidden, mask = torch.ones(1, 4, 32, dtype=torch.bfloat16), torch.zeros(4, 4, dtype=torch.bool)
        made.blocks[1](hidden=hidden, mask=mask)
    asked = request.draw(proof.context, names, claims=None)
    with pytest.raises(DataError, match=r"blocks\.1: expected the calls of blocks\.0"):
        request.asked(asked, trace.decode(proof.context, what="context"))
