"""Which openings answer a request: merged, without repeats, in one order."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import audited
import pytest

from palm_torch.challenge import challenge, questions, request
from palm_torch.challenge.places import Place
from palm_torch.commit.trace import Calls
from palm_torch.errors import DataError

if TYPE_CHECKING:
    from palm_torch.commit.trace_rows import Question


def asked_of(made: audited.Audited, *places: Place, whole: tuple[int, ...] = ()) -> list[Question]:
    drawn = request.draw(made.encoded, made.geometry, claims=None, nonce=audited.NONCE)
    asked = dataclasses.replace(challenge.asked(drawn, made.context), places=places, whole=whole)
    return questions.questions(drawn, made.context, asked)


def short(found: list[Question]) -> list[tuple[str, int, tuple[int, ...]]]:
    for question in found:
        assert question.call is None
        assert question.batch[1] == question.batch[0] + 1
        assert question.channels[0] == 0
    return [(question.site.module, question.batch[0], question.tokens) for question in found]


@pytest.fixture(scope="module")
def made() -> audited.Audited:
    return audited.Audited(audited.llama())


def test_a_place_of_a_block(made: audited.Audited) -> None:
    found = short(asked_of(made, Place(1, 1, 3)))
    rows = [(module, 1, (3, 4)) for module, _, tokens in found[:9] if tokens == (3, 4)]
    assert found[:9] == rows
    assert [module for module, *_ in rows][:2] == ["model.embed_tokens", "model.layers.0.input_layernorm"]
    assert found[9:] == [
        ("model.layers.0.self_attn.k_proj", 1, (0, 4)),
        ("model.layers.0.self_attn.v_proj", 1, (0, 4)),
    ]


def test_a_place_of_the_head_asks_for_the_row_of_its_logits(made: audited.Audited) -> None:
    assert short(asked_of(made, Place(3, 0, 6))) == [
        ("model.layers.1", 0, (6, 7)),
        ("model.norm", 0, (6, 7)),
        ("lm_head", 0, (2, 3)),
    ]


def test_places_that_share_rows_are_asked_for_once(made: audited.Audited) -> None:
    found = short(
        asked_of(made, Place(1, 0, 2), Place(1, 0, 3), Place(1, 0, 3), Place(0, 0, 3), Place(1, 1, 0))
    )
    assert len(found) == len(set(found))
    assert ("model.embed_tokens", 0, (2, 4)) in found
    assert ("model.embed_tokens", 1, (0, 1)) in found
    assert ("model.layers.0.self_attn.k_proj", 0, (0, 4)) in found
    apart = short(asked_of(made, Place(0, 0, 5), Place(0, 0, 2)))
    assert apart == [("model.embed_tokens", 0, (2, 3)), ("model.embed_tokens", 0, (5, 6))]


def test_a_whole_block(made: audited.Audited) -> None:
    found = short(asked_of(made, Place(1, 0, 2), whole=(1,)))
    assert len(found) == 22
    assert {tokens for *_, tokens in found} == {(0, 8)}
    assert {sequence for _, sequence, _ in found} == {0, 1}


def test_long_runs_are_cut(made: audited.Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "MAX_PIECE_BYTES", 3 * 32 * 4 + 1)
    found = asked_of(made, whole=(2,))
    cut = [question.tokens for question in found if question.site.module == "model.layers.0"]
    assert cut == 2 * [(0, 3), (3, 6), (6, 8)]
    monkeypatch.setattr(questions, "MAX_PIECE_BYTES", 1)
    assert asked_of(made, Place(0, 0, 0))[0].tokens == (0, 1)
    monkeypatch.setattr(questions, "MAX_PIECE_BYTES", 1 << 20)
    monkeypatch.setattr(questions, "MAX_PIECE_ROWS", 5)
    cut = [one.tokens for one in asked_of(made, whole=(2,)) if one.site.module == "model.layers.0"]
    assert cut == 2 * [(0, 5), (5, 8)]


def test_positions_of_one_sequence_stand_for_all() -> None:
    alone = tuple(Calls(run.first, run.count, (1, run.tokens)) for run in audited.FED)
    made = audited.Audited(audited.gpt2(), others={"transformer.wpe": alone})
    found = short(asked_of(made, Place(0, 0, 2), Place(1, 1, 3)))
    assert [one for one in found if one[0] == "transformer.wpe"] == [("transformer.wpe", 0, (2, 4))]
    assert [one[1:] for one in found if one[0] == "transformer.wte"] == [(0, (2, 3)), (1, (3, 4))]
    assert ("transformer.h.0.attn.c_attn", 1, (0, 4)) in found


@pytest.mark.parametrize("options", [{}, {"whole": 2}])
def test_every_question_is_one_of_the_trace(made: audited.Audited, options: dict[str, Any]) -> None:
    drawn = request.draw(made.encoded, made.geometry, claims=None, queries=300, **options)
    found = questions.questions(drawn, made.context, challenge.asked(drawn, made.context))
    assert len(found) == len({str(question) for question in found})


def test_more_than_an_answer_holds(made: audited.Audited, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "MAX_QUESTIONS", 22)
    assert len(asked_of(made, whole=(1,))) == 22
    with pytest.raises(DataError, match="openings of this trace: ask for fewer places or whole blocks"):
        asked_of(made, Place(0, 0, 0), whole=(1,))
    monkeypatch.setattr(questions, "MAX_PIECE_ROWS", 5)
    with pytest.raises(DataError, match="openings of this trace"):
        asked_of(made, whole=(1,))
