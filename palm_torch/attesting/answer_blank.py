"""The receipts of one session's answers: what all of them share is spelled once, the rest filled in.

An answer has microseconds. `palm_torch.receipt.encode_content` spells one receipt of the session, with marks
where answers differ; afterwards there is a text with holes, and bytes to put into them. What comes of it is
what `encode_content` would spell.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any, Final

from palm_torch import codec, receipt
from palm_torch.commit import salted
from palm_torch.digest import SHA256, TAGGED_SHA256, Digest
from palm_torch.encoding import encode_json
from palm_torch.receipt import AnswerReceipt, Generators, RestsOn
from palm_torch.roles import Artifact, Source, Value

if TYPE_CHECKING:
    from palm_torch.commit.answers import Turn
    from palm_torch.receipt import CodeSoFar, Place

_HOLES: Final[dict[str, tuple[str | int, ...]]] = {
    "answer": ("predicate", "answer"),
    "decoding": ("predicate", "decoding", "value"),
    "since": ("predicate", "generators", "since"),
    "before": ("predicate", "generators", "before"),
    "after": ("predicate", "generators", "after"),
    "history": ("predicate", "history"),
    "history_before": ("predicate", "history_before"),
    "log_root": ("predicate", "issued", "log_root"),
    "log_size": ("predicate", "issued", "log_size"),
    "sequence": ("predicate", "issued", "sequence"),
    "query": ("predicate", "query", "digest"),
    "response": ("predicate", "response", "digest"),
    "age_s": ("predicate", "rests_on", "age_s"),
    "answers": ("predicate", "rests_on", "answers"),
    "tokenizer": ("predicate", "tokenizer"),
    "trace": ("predicate", "trace"),
    "subject_history": ("subject", 0, "digest", SHA256),
    "subject_response": ("subject", 1, "digest", TAGGED_SHA256),
}
"""Where in the statement that is signed answers differ."""


class AnswerBlank:
    """How a session's receipts of answers are spelled as long as it runs the same code.

    Args:
        place: Where a receipt of the session is issued, any.
        code: The code loaded so far.
        model: The weights root.

    Attributes:
        code: The code.
    """

    def __init__(self, place: Place, code: CodeSoFar, model: Digest) -> None:
        self.code: Final = code
        example: Any = receipt.statement_of(_example(place, code, model))
        mark = secrets.token_hex(16)
        for name, (*path, last) in _HOLES.items():
            parent = example
            for key in path:
                parent = parent[key]
            parent[last] = mark + name
        spelled = encode_json(example).replace(b"%", b"%%")
        for name in _HOLES:
            spelled = spelled.replace(b'"%b"' % (mark + name).encode(), b"%%(%b)b" % name.encode())
        self._text = spelled
        self._tokenizer: tuple[Artifact, bytes] | None = None

    def fill(
        self,
        place: Place,
        turn: Turn,
        *,
        rests_on: RestsOn,
        tokenizer: Artifact,
        decoding: bytes,
        generators: Generators,
        history_before: Digest,
        history: Digest,
    ) -> bytes:
        """Returns a receipt's bytes.

        Args:
            place: Where in the session it is issued.
            turn: The answer, as the log has it.
            rests_on: This and what follows as in `palm_torch.receipt.AnswerReceipt`.
            tokenizer: The tokenizer.
            decoding: Parameters of decoding, canonical JSON.
            generators: States of the random number generators.
            history_before: Root of the history of the answers before.
            history: Root of the history with this one.
        """
        if self._tokenizer is None or self._tokenizer[0] is not tokenizer:
            self._tokenizer = (tokenizer, encode_json(codec.to_json(tokenizer)))
        spelled_history = _spelled(history)
        spelled_response = _spelled(turn.response)
        return self._text % {
            b"answer": b"%d" % turn.answer,
            b"decoding": decoding,
            b"since": b'"%b"' % generators.since.encode("ascii"),
            b"before": _spelled(generators.before),
            b"after": _spelled(generators.after),
            b"history": spelled_history,
            b"history_before": _spelled(history_before),
            b"log_root": _spelled(place.log_root),
            b"log_size": b"%d" % place.log_size,
            b"sequence": b"%d" % place.sequence,
            b"query": _spelled(turn.query),
            b"response": spelled_response,
            b"age_s": b"%d" % rests_on.age_s,
            b"answers": b"%d" % rests_on.answers,
            b"tokenizer": self._tokenizer[1],
            b"trace": b"null" if turn.trace is None else _spelled(turn.trace),
            b"subject_history": b'"' + spelled_history.partition(b":")[2],
            b"subject_response": b'"' + spelled_response.partition(b":")[2],
        }


def _spelled(digest: Digest) -> bytes:
    return f'"{digest}"'.encode("ascii")


def _example(place: Place, code: CodeSoFar, model: Digest) -> AnswerReceipt:
    """Returns a receipt in whose holes stands anything."""
    root, commitment = Digest(SHA256, bytes(32)), Digest(TAGGED_SHA256, bytes(32))
    item = Artifact(source=Source.MEASURED, kind=salted.KIND, digest=commitment)
    return AnswerReceipt(
        issued=place.with_code(code),
        answer=0,
        model=model,
        rests_on=RestsOn(answers=0, age_s=0),
        tokenizer=item,
        query=item,
        response=item,
        decoding=Value(source=Source.REPORTED, value={}),
        generators=Generators(since="last", before=commitment, after=commitment),
        trace=None,
        history_before=root,
        history=root,
    )
