"""Every field of an answer's receipt is signed, and stands in the log: changed anywhere, it is refused."""

from __future__ import annotations

import copy
import dataclasses
import json
from typing import TYPE_CHECKING, Any

import answering
import pytest
from answering import chat, check

from palm_torch import dsse, receipt
from palm_torch.digest import tagged_digest
from palm_torch.encoding import encode_json
from palm_torch.errors import InputError, RejectedError
from palm_torch.receipt import AnswerReceipt, Generators, Issued, RestsOn
from palm_torch.roles import Artifact, Value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from answering import Chat

pytestmark = pytest.mark.usefixtures("fresh_process")

OTHER = str(tagged_digest("palm-torch/example/v1", b"another"))
Path = tuple[str | int, ...]


@pytest.fixture(scope="module")
def talk() -> Iterator[Chat]:
    with answering.few_sources():
        yield chat(2)


def leaves(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yields where a document has something that is no container; of a list the first item."""
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from leaves(item, (*path, name))
    elif isinstance(value, list) and value:
        yield from leaves(value[0], (*path, 0))
    else:
        yield path


def other(value: Any) -> Any:
    """Returns another value, as near as may be to one that is accepted."""
    if isinstance(value, bool) or value is None:
        return OTHER if value is None else not value
    if isinstance(value, (int, float)):
        return value + 1
    if isinstance(value, str):
        flipped = "1" if value[-1:] == "0" else "0"
        return value[:-1] + flipped if value[-1:] in "0123456789abcdef" else f"{value}x"
    return [OTHER] if isinstance(value, list) else {"more": OTHER}


def bent(document: Any) -> Iterator[tuple[Path, bytes]]:
    """Yields each document that differs in one leaf, or lacks it."""
    for path in leaves(document):
        for change in ("other", "gone"):
            made = copy.deepcopy(document)
            *before, last = path
            holder = made
            for step in before:
                holder = holder[step]
            if change == "other":
                holder[last] = other(holder[last])
            else:
                del holder[last]
            yield path, encode_json(made)


def refused(found: receipt.Receipt, talk: Chat, **options: Any) -> bool:
    try:
        check(found, talk.run, **options)
    except (InputError, RejectedError):
        return True
    return False


def test_no_field_of_an_answer_can_be_changed(talk: Chat) -> None:
    good = talk.receipts[0].receipt
    document = json.loads(good.envelope.payload)
    assert not refused(good, talk)
    accepted = [
        path
        for path, payload in bent(document)
        if not refused(
            dataclasses.replace(good, envelope=dataclasses.replace(good.envelope, payload=payload)), talk
        )
    ]
    assert accepted == []


def test_no_field_of_an_answer_can_be_changed_under_the_sessions_own_key(talk: Chat) -> None:
    good = talk.receipts[0].receipt
    document = json.loads(good.envelope.payload)
    accepted = []
    for path, payload in bent(document):
        envelope = dsse.sign(payload, payload_type=dsse.IN_TOTO_PAYLOAD, key=talk.run._sealer._key)
        if not refused(dataclasses.replace(good, envelope=envelope), talk, closing=talk.closing):
            accepted.append(path)
    assert accepted == []


def test_the_walk_reaches_every_field_by_name(talk: Chat) -> None:
    document = json.loads(talk.receipts[0].receipt.envelope.payload)
    paths = {path[1:] for path in leaves(document) if path[0] == "predicate"}
    for kind, at in (
        (AnswerReceipt, ()),
        (Issued, ("issued",)),
        (RestsOn, ("rests_on",)),
        (Generators, ("generators",)),
        (Artifact, ("query",)),
        (Artifact, ("tokenizer",)),
        (Value, ("decoding",)),
    ):
        for field in dataclasses.fields(kind):
            assert any(path[: len(at) + 1] == (*at, field.name) for path in paths), (kind, field.name)


def test_twin_a_document_that_is_not_bent_is_accepted_under_the_sessions_key(talk: Chat) -> None:
    assert not refused(talk.receipts[0].receipt, talk, closing=talk.closing)
    assert not refused(answering.signed_by(talk.run, talk.receipts[0]), talk, closing=talk.closing)
