"""Rows and weights out of openings: what was not opened cannot be had, and what was changed is refused."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import audited_models
import numpy as np
import pytest
import torch
import traces

from palm_torch.audit import checking, opened, weights_opened
from palm_torch.challenge import challenge, questions
from palm_torch.commit import trace_question, weights_commitment, weights_opening
from palm_torch.commit.trace import Calls, Site
from palm_torch.errors import BindingError, DataError, EvidenceError, InputError, RejectedError

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.commit.trace_opening import TraceOpening
    from palm_torch.commit.trace_rows import Question

SITE = Site("layers.0")


def parts_of(made: traces.MadeUp, *spans: slice) -> tuple[list[Question], list[TraceOpening]]:
    asked = [trace_question.ask(made.context, SITE, tokens=span, batch=1) for span in spans]
    return asked, [made.open(question, "bfloat16", 6) for question in asked]


@pytest.fixture
def made() -> traces.MadeUp:
    return traces.MadeUp((traces.layers(2), "bfloat16", 6, (Calls(0, 1, (2, 5)), Calls(1, 4, (2, 1)))))


def test_rows_across_openings(made: traces.MadeUp) -> None:
    asked, shown = parts_of(made, slice(0, 3), slice(3, 8))
    found = opened.verified(made.root, made.context, asked, shown)
    whole, opening = parts_of(made, slice(0, 8))
    expected = opened.verified(made.root, made.context, whole, opening).rows("layers.0", 1, range(8))
    assert expected.shape == (8, 6)
    assert found.rows("layers.0", 1, range(1, 8)).tobytes() == expected[1:].tobytes()
    assert found.row("layers.0", 1, 4).tobytes() == expected[4].tobytes()
    assert not found.row("layers.0", 1, 4).flags.writeable
    assert found.dtype("layers.0") == "bfloat16"
    for sequence, tokens in ((0, range(2)), (1, range(7, 9))):
        with pytest.raises(DataError, match="expected openings with sequence"):
            found.rows("layers.0", sequence, tokens)
    with pytest.raises(DataError, match="expected an opening of it"):
        found.dtype("layers.1")


def test_one_sequence_stands_for_all() -> None:
    made = traces.MadeUp(
        (traces.layers(1), "float32", 4, (Calls(0, 1, (2, 3)),)),
        ((Site("positions"),), "float32", 4, (Calls(0, 1, (1, 3)),)),
    )
    sites = (SITE, Site("positions"))
    asked = [trace_question.ask(made.context, site, tokens=slice(0, 3)) for site in sites]
    shown = [made.open(question, "float32", 4) for question in asked]
    found = opened.verified(made.root, made.context, asked, shown)
    assert found.row("positions", 1, 2).tobytes() == found.row("positions", 0, 2).tobytes()
    assert found.row("layers.0", 1, 2).tobytes() != found.row("layers.0", 0, 2).tobytes()


def test_rows_that_nothing_is_computed_with() -> None:
    made = traces.MadeUp((traces.layers(1), "int64", 4, (Calls(0, 1, (2, 3)),)))
    question = trace_question.ask(made.context, SITE, tokens=slice(0, 3))
    with pytest.raises(DataError, match="got int64: no audit computes with it"):
        opened.verified(made.root, made.context, [question], [made.open(question, "int64", 4)])


def test_rows_that_were_changed(made: traces.MadeUp) -> None:
    asked, (shown,) = parts_of(made, slice(0, 3))
    changed = dataclasses.replace(shown, tiles=bytes(len(shown.tiles)))
    with pytest.raises(BindingError, match="not the leaves under root"):
        opened.verified(made.root, made.context, asked, [changed])
    with pytest.raises(EvidenceError, match="expected tiles of"):
        opened.verified(made.root, made.context, asked, [dataclasses.replace(shown, tiles=b"")])


def test_every_opening_of_an_answer_counts(tmp_path: Path) -> None:
    run = audited_models.run(audited_models.model("llama"), tmp_path)
    asked = run.ask(queries=4, coordinates=2)
    answer = run.answer(asked, weights=run.weights)
    decoded = run.proof.trace
    count = len(questions.questions(asked, decoded, challenge.asked(asked, decoded)))
    assert len(answer.openings) == count
    for at in range(count):
        tiles = bytearray(answer.openings[at].tiles)
        tiles[0] ^= 1
        changed = list(answer.openings)
        changed[at] = dataclasses.replace(changed[at], tiles=bytes(tiles))
        with pytest.raises((RejectedError, InputError)):
            checking.check(asked, run.context, dataclasses.replace(answer, openings=tuple(changed)))
    for at in range(len(answer.weights)):
        tiles = bytearray(answer.weights[at].tiles)
        tiles[-1] ^= 1
        weights = list(answer.weights)
        weights[at] = dataclasses.replace(weights[at], tiles=bytes(tiles))
        with pytest.raises((RejectedError, InputError)):
            checking.check(asked, run.context, dataclasses.replace(answer, weights=tuple(weights)))
    with pytest.raises(BindingError):
        checking.check(asked, run.context, dataclasses.replace(answer, weights=answer.weights[1:]))
    with pytest.raises(BindingError):
        checking.check(asked, run.context, dataclasses.replace(answer, openings=answer.openings[1:]))
    with pytest.raises(BindingError):
        checking.check(asked, run.context, dataclasses.replace(answer, tokens=None))


def test_weights_that_were_opened(tmp_path: Path) -> None:
    made = audited_models.model("llama", torch.bfloat16)
    made.save_pretrained(tmp_path)
    name = "model.layers.0.mlp.up_proj.weight"
    root = weights_commitment.commit(tmp_path).root
    openings = [
        weights_opening.read_block(tmp_path, name, rows=(first, first + 1)).opening() for first in (3, 8)
    ]
    openings.append(weights_opening.read_block(tmp_path, "model.norm.weight").opening())
    found = weights_opened.verified(root, openings)
    expected = made.state_dict()[name].float().numpy()
    assert np.array_equal(found.rows(name, [8, 3]).astype(np.float32), expected[[8, 3]])
    assert found.vector("model.norm.weight").shape == (32,)
    for what in (lambda: found.rows(name, [4]), lambda: found.vector("other"), lambda: found.matrix("other")):
        with pytest.raises(DataError, match="expected an opening of row"):
            what()
    with pytest.raises(BindingError):
        weights_opened.verified(weights_commitment.commit(_other(tmp_path)).root, openings)


def _other(folder: Path) -> Path:
    audited_models.model("llama", seed=5).save_pretrained(folder / "other")
    return folder / "other"
