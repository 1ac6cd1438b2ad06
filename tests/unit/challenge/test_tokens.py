"""Ids of tokens as a salted fact of a trace."""

from __future__ import annotations

import dataclasses
import struct
from typing import Any

import audited
import pytest

from palm_torch.challenge import tokens
from palm_torch.challenge.tokens import Tokens
from palm_torch.commit import salted
from palm_torch.commit.salted import Content, SaltedOpening
from palm_torch.errors import BindingError, DataError, EvidenceError

OPENING = tokens.opening(audited.TOKENS, audited.SALT)


def test_the_content_is_row_major_and_little_endian() -> None:
    content = Tokens(((1, -1), (258, 3))).content()
    assert content.form == "int64[2,2]"
    assert content.content == struct.pack("<4q", 1, -1, 258, 3)


def test_an_opening_and_back() -> None:
    assert OPENING.role == "tokens"
    assert tokens.verify(OPENING, OPENING.digest) == audited.TOKENS
    assert tokens.opening(audited.TOKENS, bytes(32)).digest != OPENING.digest
    assert (audited.TOKENS.batch, audited.TOKENS.length) == (2, 9)


def test_padding_has_no_position() -> None:
    assert [audited.TOKENS.position(0, token) for token in (2, 3, 8)] == [0, 1, 6]
    assert audited.TOKENS.position(1, 3) == 3


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ((), "expected sequences of one length, got lengths []"),
        (((),), "expected sequences of one length, got lengths [0]"),
        (((1,), (1, 2)), "expected sequences of one length, got lengths [1, 2]"),
        (((1, -2),), "expected ids from 0 on, or -1 for padding, got -2"),
    ],
)
def test_what_is_no_batch_of_ids(rows: Any, says: str) -> None:
    with pytest.raises(DataError) as caught:
        Tokens(rows)
    assert says in str(caught.value)


def test_ids_of_another_run() -> None:
    audited.TOKENS.require_fit(2, 9)
    audited.TOKENS.require_fit(2, 8)
    for batch, fed in ((1, 8), (2, 7), (2, 10)):
        with pytest.raises(DataError, match=f"expected {batch} sequences of {fed} ids, or {fed + 1} with"):
            audited.TOKENS.require_fit(batch, fed)


def opened(form: str, data: bytes) -> SaltedOpening:
    digest = salted.commit(Content(form, data), audited.SALT)
    return SaltedOpening(digest=digest, role="tokens", form=form, content=data, salt=audited.SALT)


@pytest.mark.parametrize(
    ("form", "data", "says"),
    [
        ("bytes", bytes(8), "form: expected int64[B,T], got 'bytes'"),
        ("int64[1]", bytes(8), "form: expected"),
        ("int64[1,01]", bytes(8), "form: expected"),
        ("int64[0,1]", b"", "form: expected"),
        ("int64[1,2]", bytes(8), "expected int64[1,2], got 8 bytes"),
        ("int64[1,1]", struct.pack("<q", -2), "expected ids from 0 on, or -1 for padding, got -2"),
    ],
)
def test_what_was_committed_to_is_something_else(form: str, data: bytes, says: str) -> None:
    opening = opened(form, data)
    with pytest.raises(EvidenceError) as caught:
        tokens.verify(opening, opening.digest)
    assert says in str(caught.value)


def test_another_fact_another_id_or_none() -> None:
    other = tokens.opening(Tokens(((1, 2),)), audited.SALT)
    with pytest.raises(BindingError, match="opening of the tokens"):
        tokens.verify(OPENING, other.digest)
    with pytest.raises(BindingError, match="expected one of none"):
        tokens.verify(OPENING, None)
    changed = dataclasses.replace(OPENING, content=OPENING.content[:-8] + struct.pack("<q", 12))
    with pytest.raises(BindingError):
        tokens.verify(changed, OPENING.digest)


def test_what_was_generated_is_no_padding() -> None:
    ids = Tokens(((-1, 2, 3, 4), (1, -1, 3, -1)))
    ids.require_generated(4)
    Tokens(((-1, 2), (1, 2))).require_generated(1)
    with pytest.raises(BindingError, match="sequence 1, token 3 was generated, and is bound as padding"):
        ids.require_generated(2)
    with pytest.raises(BindingError, match="sequence 1, token 1 was generated"):
        ids.require_generated(1)
