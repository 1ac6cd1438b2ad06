"""What a session of answers leaves behind, made by hand: nothing here needs torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from palm_torch import codec
from palm_torch.commit import answers, salted
from palm_torch.commit.answers import Account, Look, Turn
from palm_torch.digest import sha256_digest, tagged_digest
from palm_torch.encoding import encode_json
from palm_torch.receipt import AnswerReceipt, Generators, RestsOn
from palm_torch.roles import Artifact, Source, Value

if TYPE_CHECKING:
    from palm_torch.digest import Digest
    from palm_torch.receipt import Issued

QUERY = salted.Content("text", b"yes or no?")
RESPONSE = salted.Content("int64[2]", bytes(16))
SALTS = salted.Salts(answer=0, query=bytes(range(32)), response=bytes(32))
ROOT = tagged_digest("palm-torch/example/v1", b"weights")
TRACE = tagged_digest("palm-torch/example/v1", b"trace")
TURN = Turn(
    answer=0,
    query=salted.commit(QUERY, SALTS.query),
    response=salted.commit(RESPONSE, SALTS.response),
    trace=TRACE,
)


def log() -> list[bytes]:
    """Returns the events of a session of one answer, whose weights changed afterwards."""
    events: list[tuple[str, Any]] = [
        (answers.MEASURED, Look(answers=0, root=ROOT, tensor=None)),
        (answers.ANSWER, TURN),
        (answers.CHANGED, Look(answers=1, root=ROOT, tensor="w")),
    ]
    return [
        encode_json({"seq": number, "type": kind, "payload": codec.to_json(event)})
        for number, (kind, event) in enumerate(events)
    ]


def account() -> Account:
    """Returns what the end statement of that session says."""
    summed = answers.Parameters()
    summed.add({"temperature": 0.5, "stop": ["a"], "do_sample": True})
    revoked = answers.replay(log()).revoked()
    return Account(answers=1, traced=1, looks=2, revoked=revoked, parameters=summed.summed())


def receipt_of(issued: Issued) -> AnswerReceipt:
    """Returns the receipt of its answer."""

    def artifact(digest: Digest) -> Artifact:
        return Artifact(source=Source.MEASURED, kind=salted.KIND, digest=digest)

    return AnswerReceipt(
        issued=issued,
        answer=0,
        model=ROOT,
        rests_on=RestsOn(answers=0, age_s=3),
        tokenizer=artifact(sha256_digest(b"tokenizer")),
        query=artifact(TURN.query),
        response=artifact(TURN.response),
        decoding=Value(source=Source.REPORTED, value={"temperature": 0.5}),
        generators=Generators(since="begin", before=ROOT, after=TRACE),
        trace=TRACE,
        history_before=sha256_digest(b""),
        history=sha256_digest(b"history"),
    )
