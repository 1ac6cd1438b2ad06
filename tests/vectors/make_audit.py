"""Writes audit.json: golden files of audits' requests and answers.

Run by ``make vectors``; the same code always writes the same bytes. The audit is that of the example in the
specification, chapter 57 section 8. Each case is a request, the context of the trace and an answer; a valid
one has the places and blocks that were drawn, and the questions, too. Results: ``valid``, ``invalid`` (well
formed, but not what was asked for or committed to) and ``malformed``. Each case that is not valid has one
fault.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))  # also when it is not pytest that runs this

import audited
import spec_audit
from spec_audit import ANSWER, MADE, REQUEST
from terkle_vectors import Case, flipped, rendered

from palm_torch.challenge import challenge, questions
from palm_torch.codec import to_json
from palm_torch.commit.trace import Calls
from palm_torch.committing import answering
from palm_torch.encoding import encode_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from palm_torch.challenge.request import AuditRequest

Document = dict[str, Any]
OTHER_ROOT: Final = "palm-sha256:" + "11" * 32


def put(*path: str | int, value: Any) -> Callable[[Document], None]:
    """Returns a fault: another value at this place of a document."""

    def change(document: Any) -> None:
        for name in path[:-1]:
            document = document[name]
        document[path[-1]] = value

    return change


def bent(*path: str | int, at: int = 0) -> Callable[[Document], None]:
    """Returns a fault: one bit of some bytes."""

    def change(document: Any) -> None:
        for name in path[:-1]:
            document = document[name]
        data = base64.b64decode(document[path[-1]])
        document[path[-1]] = base64.b64encode(flipped(data, at)).decode()

    return change


def cut(document: Document) -> None:
    """A fault: the last opening is left out."""
    document["openings"].pop()


def doubled(document: Document) -> None:
    """A fault: the last opening comes twice."""
    document["openings"].append(document["openings"][-1])


def swapped(document: Document) -> None:
    """A fault: the first two openings in the other order."""
    document["openings"][:2] = document["openings"][1::-1]


ANSWER_FAULTS: Final[list[tuple[str, str, Callable[[Document], None]]]] = [
    ("to another request", "invalid", put("request", value=OTHER_ROOT)),
    ("an opening too few", "invalid", cut),
    ("an opening too many", "invalid", doubled),
    ("two openings in the other order", "invalid", swapped),
    ("an opening under another root", "invalid", put("openings", 0, "root", value=OTHER_ROOT)),
    ("an opening of another token", "invalid", put("openings", 0, "question", "tokens", value=[0, 1])),
    ("a bit of a tile", "invalid", bent("openings", 3, "tiles")),
    ("a bit of a proof", "invalid", bent("openings", 3, "proof")),
    ("a bit of an id", "invalid", bent("tokens", "content", at=8)),
    ("a bit of the salt", "invalid", bent("tokens", "salt")),
    ("no ids", "invalid", put("tokens", value=None)),
    ("another role of the ids", "malformed", put("tokens", "role", value="query")),
    ("another version", "malformed", put("media_type", value="application/x;version=2")),
    ("a request by a digest of another kind", "malformed", put("request", value="sha256:" + "11" * 32)),
    ("an unknown key", "malformed", put("comment", value="")),
]
REQUEST_FAULTS: Final[list[tuple[str, str, Callable[[Document], None]]]] = [
    ("other claims", "invalid", put("claims", value=OTHER_ROOT)),
    ("no claims", "invalid", put("claims", value=None)),
    ("another trace", "invalid", put("trace", value=OTHER_ROOT)),
    ("another nonce", "invalid", put("nonce", value="11" * 32)),
    ("another base of positions", "invalid", put("geometry", "rope_theta", value=500000)),
    ("another width", "malformed", put("geometry", "intermediate", value=4)),
    ("a block more", "malformed", put("geometry", "blocks", value=2)),
    ("a place more", "invalid", put("queries", value=4)),
    ("a whole block", "invalid", put("whole", value=1)),
    ("coordinates of weights", "invalid", put("coordinates", value=1)),
    ("other weights of the draw", "invalid", put("weights", value=[1, 2, 9])),
    ("a part that is never drawn", "malformed", put("weights", value=[1, 0, 1])),
    ("a weight too few", "malformed", put("weights", value=[1, 2])),
    ("a short nonce", "malformed", put("nonce", value="00" * 31)),
    ("another version of the request", "malformed", put("media_type", value="application/x;version=2")),
]


def case(comment: str, made: audited.Audited, request: AuditRequest) -> Case:
    """Returns a valid case."""
    asked = challenge.asked(request, made.context)
    return {
        "comment": comment,
        "request": request.encode().decode(),
        "context": made.encoded.decode(),
        "answer": answering.answer(request, made.kept()).encode().decode(),
        "places": [[place.part, place.sequence, place.token] for place in asked.places],
        "whole": list(asked.whole),
        "questions": [str(question) for question in questions.questions(request, made.context, asked)],
        "result": "valid",
    }


def valid() -> Iterator[Case]:
    """Yields the cases that are to be accepted."""
    yield case("the example", MADE, REQUEST)
    yield case("nothing sealed", MADE, dataclasses.replace(REQUEST, claims=None))
    yield case("a whole block alone", MADE, dataclasses.replace(REQUEST, queries=0, whole=1))
    forward = audited.Audited(
        audited.gpt2(n_embd=4, n_head=2, vocab_size=4, n_inner=4),
        fed=(Calls(0, 1, (2, 3)),),
        shown=(Calls(0, 1, (2, 3)),),
        others={"transformer.wpe": (Calls(0, 1, (1, 3)),)},
        tokens=None,
    )
    request = dataclasses.replace(
        REQUEST, trace=forward.root, geometry=forward.geometry, queries=6, weights=(9, 1, 1, 9)
    )
    yield case("one forward pass of a gpt2, of which the positions have one sequence", forward, request)


def faults() -> Iterator[Case]:
    """Yields the cases that are to be refused."""
    good = {"request": REQUEST.encode().decode(), "context": MADE.encoded.decode()}
    answer = ANSWER.encode().decode()
    for comment, result, change in ANSWER_FAULTS:
        document = json.loads(answer)
        change(document)
        yield {
            "comment": f"in the answer: {comment}",
            **good,
            "answer": encode_json(document).decode(),
            "result": result,
        }
    for comment, result, change in REQUEST_FAULTS:
        document = json.loads(good["request"])
        change(document)
        bad = {**good, "request": encode_json(document).decode()}
        yield {"comment": f"in the request: {comment}", **bad, "answer": answer, "result": result}
    document = to_json(dataclasses.replace(MADE.context, facts={}))
    bad = {**good, "context": encode_json(document).decode()}
    yield {"comment": "the context of another trace", **bad, "answer": answer, "result": "invalid"}
    yield {
        "comment": "white space behind the answer",
        **good,
        "answer": answer + "\n",
        "result": "malformed",
    }


def render() -> str:
    """Returns the text of audit.json."""
    spec_audit.verify(REQUEST.encode(), MADE.encoded, ANSWER.encode())
    return rendered("palm-torch audit vectors v1", [("valid", valid()), ("faults", faults())])


if __name__ == "__main__":
    Path(__file__).with_name("audit.json").write_text(render(), encoding="ascii")
