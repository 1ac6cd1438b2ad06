"""Answers: canonical, bounded, and refused if they answer something else."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import audited
import pytest

from palm_torch.challenge import answer, challenge, questions, request
from palm_torch.challenge.answer import AuditAnswer
from palm_torch.challenge.request import AuditRequest
from palm_torch.commit.trace_rows import Question
from palm_torch.committing import answering
from palm_torch.digest import sha256_digest
from palm_torch.encoding import encode_json
from palm_torch.errors import BindingError, DataError, EvidenceError

if TYPE_CHECKING:
    from pathlib import Path


@dataclasses.dataclass
class Good:
    made: audited.Audited
    drawn: AuditRequest
    asked: list[Question]
    answer: AuditAnswer

    def check(self, **changed: Any) -> None:
        changed_answer = dataclasses.replace(self.answer, **changed)
        answer.check_asked(changed_answer, self.drawn, self.asked, self.made.context)


@pytest.fixture(scope="module")
def good() -> Good:
    made = audited.Audited(audited.llama())
    drawn = request.draw(made.encoded, made.geometry, claims=None, nonce=audited.NONCE, queries=3)
    asked = questions.questions(drawn, made.context, challenge.asked(drawn, made.context))
    return Good(made, drawn, asked, answering.answer(drawn, made.kept()))


def test_a_file_and_back(good: Good, tmp_path: Path) -> None:
    good.check()
    good.answer.save(tmp_path / "a.json")
    read = answer.read(tmp_path / "a.json")
    assert read == good.answer
    assert (tmp_path / "a.json").read_bytes() == good.answer.encode()
    assert read.digest == good.answer.digest != dataclasses.replace(read, decoding={"seed": 1}).digest


def test_an_answer_to_something_else(good: Good) -> None:
    openings = good.answer.openings
    other = dataclasses.replace(openings[0], root=good.drawn.digest)
    for changed, says in (
        ({"request": good.made.root}, "answer: expected one to the request"),
        ({"openings": openings[1:]}, f"answer: expected {len(openings)} openings, got {len(openings) - 1}"),
        ({"openings": (*openings, openings[0])}, f"got {len(openings) + 1}"),
        ({"openings": (openings[1], openings[0], *openings[2:])}, "answer: opening 0: expected an answer to"),
        ({"openings": (other, *openings[1:])}, "answer: opening 0: expected the root"),
        ({"tokens": None}, "answer: tokens: expected the ids of the tokens, to which the trace commits"),
    ):
        with pytest.raises(BindingError) as caught:
            good.check(**changed)
        assert says in str(caught.value)


def test_ids_that_the_trace_knows_nothing_of(good: Good) -> None:
    without = dataclasses.replace(good.made.context, facts={})
    with pytest.raises(BindingError, match="tokens: expected no ids"):
        answer.check_asked(good.answer, good.drawn, good.asked, without)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"media_type": "x"}, "media_type: expected"),
        ({"request": sha256_digest(b"")}, "request: expected a palm-sha256 digest"),
    ],
)
def test_what_is_no_answer(good: Good, changed: dict[str, Any], says: str) -> None:
    with pytest.raises(EvidenceError, match=says):
        dataclasses.replace(good.answer, **changed)


def test_an_opening_of_something_else_for_the_ids(good: Good) -> None:
    assert good.answer.tokens is not None
    other = dataclasses.replace(good.answer.tokens, role="query")
    with pytest.raises(EvidenceError, match="tokens: role: expected 'tokens', got 'query'"):
        dataclasses.replace(good.answer, tokens=other)


def test_malformed_files(good: Good, tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match=r"no\.json: cannot read the answer"):
        answer.read(tmp_path / "no.json")
    document = json.loads(good.answer.encode())
    document["openings"][0]["question"]["tokens"] = [3, 3]
    with pytest.raises(EvidenceError, match=r"a\.openings\[0\]\.question\.tokens: expected a first number"):
        answer.decode(encode_json(document), what="a")


def test_an_answer_that_is_too_long(good: Good, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "MAX_BYTES", 1000)
    with pytest.raises(DataError, match=r"answer: expected at most 1000 bytes, got .* ask for fewer places"):
        good.answer.encode()
