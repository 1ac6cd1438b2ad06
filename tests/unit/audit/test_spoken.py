"""Question and answer, opened as ids, against the ids that a trace binds."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import traces

from palm_torch.audit import spoken
from palm_torch.challenge.tokens import Tokens
from palm_torch.commit import salted
from palm_torch.commit.salted import Content, SaltedOpening
from palm_torch.errors import BindingError, DataError

SALT = bytes(range(32))
BOUND = Tokens(((5, 6, 7, 8, 9), (-1, -1, 4, 3, 2)))


def opening(role: str, rows: Any, form: str | None = None) -> SaltedOpening:
    array = np.array(rows, np.int64)
    content = Content(form or f"int64[{','.join(map(str, array.shape))}]", array.tobytes())
    return SaltedOpening(
        digest=salted.commit(content, SALT), role=role, form=content.form, content=content.content, salt=SALT
    )


def context(*openings: SaltedOpening) -> Any:
    made = traces.MadeUp((traces.layers(1), "float32", 4, traces.DECODING)).context
    return dataclasses.replace(made, facts={one.role: one.digest for one in openings})


@pytest.mark.parametrize(
    ("role", "rows"),
    [
        ("query", [[5, 6, 7], [0, 0, 4]]),
        ("response", [[8, 9], [3, 2]]),
        ("response", [[5, 6, 7, 8, 9], [0, 0, 4, 3, 2]]),
    ],
)
def test_the_same_ids(role: str, rows: list[list[int]]) -> None:
    said = opening(role, rows)
    spoken.check(said, context(said), BOUND)


def test_one_sequence_without_a_batch() -> None:
    said = opening("response", [8, 9])
    spoken.check(said, context(said), Tokens(((5, 6, 7, 8, 9),)))


@pytest.mark.parametrize(
    ("said", "error", "why"),
    [
        (
            opening("query", [[5, 6, 1], [0, 0, 4]]),
            BindingError,
            "sequence 0, id 2: expected 1, as it says, the trace",
        ),
        (opening("response", [[8, 9], [3, 1]]), BindingError, r"sequence 1, id 1: .* binds 2 \(1 differ\)"),
        (opening("query", [[5, 6]]), BindingError, "expected 2 sequences of at most 5 ids, got 1 of 2"),
        (opening("query", [[0] * 6] * 2), BindingError, "got 2 of 6"),
        (opening("query", [1], "text"), DataError, "comparing it takes the tokenizer"),
        (opening("query", [1], "int64[2,3]"), DataError, "got 8 bytes"),
        (opening("tokens", [[1]]), BindingError, "expected one of the query or response"),
    ],
)
def test_what_is_refused(said: SaltedOpening, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        spoken.check(said, context(said), BOUND)


def test_what_cannot_be_compared() -> None:
    said = opening("query", [[5], [0]])
    with pytest.raises(DataError, match="binds no ids"):
        spoken.check(said, context(said), None)
    with pytest.raises(BindingError, match="expected one of none"):
        spoken.check(said, context(), BOUND)
