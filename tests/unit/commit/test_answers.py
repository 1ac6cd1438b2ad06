"""The account of a session's answers: what a log makes of it, and which accounts are none."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from palm_torch import codec
from palm_torch.commit import answers, history, salted
from palm_torch.commit.answers import Account, Look, Revoked, Turn
from palm_torch.digest import SHA256, Digest, sha256_digest, tagged_digest
from palm_torch.encoding import encode_json
from palm_torch.errors import BindingError, EncodingError, EvidenceError

ROOT = tagged_digest("palm-torch/example/v1", b"weights")


def turn(number: int) -> Turn:
    made = tagged_digest("palm-torch/example/v1", str(number).encode())
    return Turn(answer=number, query=made, response=made, trace=None)


def look(count: int, tensor: str | None = None) -> Look:
    return Look(answers=count, root=ROOT, tensor=tensor)


def log_of(*events: Turn | Look) -> list[bytes]:
    entries = []
    for event in events:
        kind = answers.ANSWER
        if isinstance(event, Look):
            kind = answers.MEASURED if event.tensor is None else answers.CHANGED
        payload: Any = codec.to_json(event)
        entries.append(encode_json({"seq": len(entries), "type": kind, "payload": payload}))
    return entries


@pytest.mark.parametrize(
    ("events", "revoked", "settled"),
    [
        ((look(0), turn(0), look(1)), (), True),
        ((look(0), turn(0)), (), False),
        ((look(0), turn(0), turn(1), look(1)), (), False),
        ((look(0), turn(0), look(1), turn(1), look(2, "w")), (Revoked(first=1, last=1, tensor="w"),), True),
        ((look(0), turn(0), turn(1), look(1), look(1, "w")), (Revoked(first=1, last=1, tensor="w"),), True),
        ((look(0), turn(0), look(1), look(1, "w")), (), True),
        ((look(0), turn(0), turn(1), look(2, "w")), (Revoked(first=0, last=1, tensor="w"),), True),
    ],
)
def test_a_measurement_revokes_since_the_one_before(
    events: tuple[Turn | Look, ...],
    revoked: tuple[Revoked, ...],
    settled: bool,  # noqa: FBT001 (a parameter of the table)
) -> None:
    replayed = answers.replay(log_of(*events))
    assert replayed.revoked() == revoked
    assert replayed.settled is settled
    turns = [event.encode() for event in events if isinstance(event, Turn)]
    assert replayed.history_root() == Digest(SHA256, history.root_of(turns))
    assert replayed.history_root(1) == Digest(SHA256, history.root_of(turns[:1]))


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ((turn(0),), "after 0 of them"),
        ((look(0), turn(1)), "expected answer 0"),
        ((look(1),), "began after 1 answers"),
        ((look(0, "w"),), "where 0 had been given"),
        ((look(0), turn(0), look(1), look(0)), "began after 0 answers"),
        ((look(0), turn(0), look(1, "w"), turn(1)), "after the weights were found changed"),
        ((look(0), dataclasses.replace(look(0), root=turn(0).query)), "do not fit"),
    ],
)
def test_a_log_that_no_session_writes_does_not_replay(events: tuple[Turn | Look, ...], says: str) -> None:
    with pytest.raises(EvidenceError, match=says):
        answers.replay(log_of(*events))


def account(**changes: Any) -> Account:
    summed = answers.Parameters()
    summed.add({"temperature": 1, "stop": ["a"], "top_k": 5})
    summed.add({"temperature": 0.5, "stop": None})
    good = Account(answers=2, traced=0, looks=2, revoked=(), parameters=summed.summed())
    return dataclasses.replace(good, **changes)


def test_parameters_are_summed_up_and_come_back() -> None:
    found = answers.account_of(account().to_value())
    assert found == account()
    temperature = found.parameters["temperature"]
    assert (temperature.said, temperature.least, temperature.greatest) == (2, 0.5, 1)
    assert found.parameters["stop"].others == (["a"], None)
    assert found.parameters["top_k"].said == 1


def test_an_account_of_another_form_is_refused() -> None:
    one = account().parameters["stop"]
    for bent in (
        dataclasses.replace(one, said=3),
        dataclasses.replace(one, said=0),
        dataclasses.replace(one, least=1.0),
        dataclasses.replace(one, others=(None, ["a"])),
        dataclasses.replace(one, others=(None, None)),
    ):
        with pytest.raises(EvidenceError, match="stop"):
            answers.account_of(account(parameters={"stop": bent}).to_value())
    with pytest.raises(EvidenceError, match="revoked"):
        answers.account_of({**account().to_value(), "revoked": [{"first": 2, "last": 1, "tensor": "w"}]})
    with pytest.raises(EvidenceError):
        answers.account_of({})
    many = {str(number): one for number in range(answers.MAX_PARAMETERS + 1)}
    with pytest.raises(EvidenceError, match="parameters: expected at most 256, got 257"):
        answers.account_of(account(parameters=many).to_value())


def test_answers_that_say_the_same_are_counted_each() -> None:
    summed = answers.Parameters()
    said: list[dict[str, Any]] = [
        *[{"n": 1}] * 3, {"n": True}, {"n": True}, {"n": 1.0}, {}, {}, {"n": 1, "s": "a"}, {"s": "a", "n": 1}
    ]  # fmt: skip
    for parameters in said:
        summed = summed.with_answer(parameters)
        assert summed.spelled == encode_json(parameters)
    found = summed.summed()
    assert (found["n"].said, found["n"].least, found["n"].greatest, found["n"].others) == (8, 1, 1, (True,))
    assert (found["s"].said, found["s"].others) == (2, ("a",))


def test_an_answer_more_leaves_those_before_as_they_were() -> None:
    before = answers.Parameters().with_answer({"n": 1})
    more = before.with_answer({"n": 1})
    for bent in ({"n": float("nan")}, {"n": "\ud800"}):
        with pytest.raises(EncodingError):
            more.add(bent)
    assert (before.summed()["n"].said, more.summed()["n"].said, more.spelled) == (1, 2, b'{"n":1}')


@pytest.mark.parametrize("trace", [None, sha256_digest(b"trace")])
def test_a_turn_is_spelled_as_json_is(trace: Digest | None) -> None:
    one = dataclasses.replace(turn(7), trace=trace)
    assert one.encode() == encode_json(codec.to_json(one))


def test_too_many_values_are_refused_and_leave_nothing_behind() -> None:
    summed = answers.Parameters()
    for number in range(answers.MAX_VALUES):
        summed.add({"seed": str(number)})
    with pytest.raises(EncodingError, match="seed"):
        summed.add({"a": 1, "seed": "more"})
    assert list(summed.summed()) == ["seed"]
    with pytest.raises(EncodingError, match="parameters"):
        summed.add({str(number): 1 for number in range(answers.MAX_PARAMETERS + 1)})


def test_a_salted_commitment_opens_with_its_salt_alone() -> None:
    content, salt = salted.Content("text", b"yes"), bytes(range(32))
    digest = salted.commit(content, salt)
    secrets = salted.Salts(answer=0, query=salt, response=bytes(32))
    opening = salted.decode(secrets.opening("query", content).encode())
    assert salted.verify(opening, digest) == content
    for bent in (
        dataclasses.replace(opening, content=b"no"),
        dataclasses.replace(opening, form="bytes"),
        dataclasses.replace(opening, salt=bytes(32)),
        secrets.opening("response", content),
    ):
        with pytest.raises(BindingError):
            salted.verify(bent, digest)
    with pytest.raises(BindingError):
        salted.verify(opening, None)


def test_a_content_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(salted, "MAX_CONTENT_BYTES", 1)
    assert salted.Content("bytes", b"1").content == b"1"
    with pytest.raises(EncodingError, match="expected at most 1 bytes, got 2"):
        salted.Content("bytes", b"12")


def test_malformed_openings_are_refused() -> None:
    content = salted.Content("text", b"yes")
    good = salted.Salts(answer=0, query=bytes(32), response=bytes(32)).opening("query", content).encode()
    for bent in (
        good + b" ",
        good.replace(b"opening/v1", b"opening/v2"),
        b"{}",
        good.replace(b'"text"', b'""'),
    ):
        with pytest.raises(EvidenceError):
            salted.decode(bent)
    with pytest.raises(EncodingError, match="salt"):
        salted.commit(content, b"short")
    with pytest.raises(EncodingError, match="form"):
        salted.Content("é", b"")
    with pytest.raises(EvidenceError, match="salt: expected 32 bytes, got 31"):
        salted.decode(good.replace(good[good.index(b'"salt":"') + 8 :][:44], b"A" * 40 + b"AA=="))
    file = salted.SaltsFile(run_id="r", salts=())
    for bent in (file.encode() + b" ", file.encode().replace(b"salts/v1", b"salts/v2")):
        with pytest.raises(EvidenceError):
            salted.decode_salts(bent)
    assert salted.decode_salts(file.encode()) == file
    with pytest.raises(EvidenceError):
        salted.decode_salts(good)
