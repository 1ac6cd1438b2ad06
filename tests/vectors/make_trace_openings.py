"""Writes trace_openings.json: golden files of openings of traces, under both schemes.

Run by ``make vectors``; the same code always writes the same bytes. The trace is that of the example in the
specification, chapter 26 section 6. Each case is the root that a verifier trusts, the context and the file
that came from elsewhere, and the question that the verifier asks: that of the file, unless the case has one
of its own. Results: ``valid``, ``invalid`` (well formed, but not what was committed to) and ``malformed``.
Each case that is not valid has one fault.
"""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))  # also when it is not pytest that runs this

import spec_trace
from terkle_vectors import Case, flipped, rendered

from palm_torch.commit import trace_opening
from palm_torch.encoding import encode_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from palm_torch.commit import trace_schemes

Document = dict[str, Any]


def put(*path: str | int, value: Any) -> Callable[[Document], None]:
    """Returns a fault: another value at this place of a document."""

    def change(document: Any) -> None:
        for name in path[:-1]:
            document = document[name]
        document[path[-1]] = value

    return change


def bent(name: str, at: int = 0) -> Callable[[Document], None]:
    """Returns a fault: one bit of some bytes."""

    def change(document: Document) -> None:
        document[name] = base64.b64encode(flipped(base64.b64decode(document[name]), at)).decode()

    return change


def longer(name: str, by: bytes) -> Callable[[Document], None]:
    """Returns a fault: some bytes too many."""

    def change(document: Document) -> None:
        document[name] = base64.b64encode(base64.b64decode(document[name]) + by).decode()

    return change


OTHER_ROOT: Final = "palm-sha256:" + "11" * 32
OPENING_FAULTS: Final[list[tuple[str, str, Callable[[Document], None]]]] = [
    ("said to be under another root", "invalid", put("root", value=OTHER_ROOT)),
    ("a bit of the first row of the tile, which is not asked for", "invalid", bent("tiles")),
    ("a bit of the row that is asked for", "invalid", bent("tiles", 31)),
    ("the tile of another site", "invalid", put("question", "site", "module", value="a")),
    ("an output that there is not", "malformed", put("question", "site", "output", value="0")),
    ("a token beyond the last", "malformed", put("question", "tokens", value=[3, 5])),
    ("no tokens", "malformed", put("question", "tokens", value=[3, 3])),
    ("a range with a step", "malformed", put("question", "batch", value=[0, 1, 1])),
    ("a call that there was not", "malformed", put("question", "call", value=3)),
    ("a tile with something behind", "malformed", longer("tiles", bytes(1))),
    ("something behind the proof", "malformed", longer("proof", bytes(32))),
    ("another version", "malformed", put("media_type", value="application/x;version=2")),
    ("a root of another algorithm", "malformed", put("root", value="sha256:" + "11" * 32)),
    ("an unknown key", "malformed", put("comment", value="")),
]
CONTEXT_FAULTS: Final[list[tuple[str, Callable[[Document], None]]]] = [
    ("another module", put("groups", 0, "sites", 0, "module", value="c")),
    ("another element type", put("groups", 0, "dtype", value="int32")),
    ("another schedule of as many rows", put("groups", 0, "schedule", 0, "shape", value=[2, 1])),
    ("another root of the group", put("groups", 0, "root", value=OTHER_ROOT)),
    ("a fact more", put("facts", "query", value=OTHER_ROOT)),
    ("a model", put("model", value=OTHER_ROOT)),
    ("another coverage", put("coverage", 0, "fired", value=2)),
]


def cases(scheme: trace_schemes.Name) -> Iterator[Case]:
    """Yields the cases of one scheme."""
    example = spec_trace.Example(scheme)
    same = {"root": str(example.root), "context": example.encoded.decode()}
    for comment, ranges in (
        ("token 3 of b", {"tokens": 3}),
        ("channel 1 of all tokens of b", {"channels": 1}),
        ("call 2 of b", {"call": 2}),
    ):
        opening = example.open("b", **ranges)
        shown = trace_opening.verify(example.root, example.encoded, opening.question, opening)
        file = opening.encode().decode()
        yield {"comment": comment, **same, "file": file, "values": shown.values.hex(), "result": "valid"}
    opening = example.open("b", tokens=3)
    good = opening.encode()
    no_point = "malformed" if scheme == "kzg" else "invalid"
    for comment, result, change in (*OPENING_FAULTS, ("a bit of the proof", no_point, bent("proof"))):
        document = json.loads(good)
        change(document)
        yield {"comment": comment, **same, "file": encode_json(document).decode(), "result": result}
    for comment, change in CONTEXT_FAULTS:
        document = json.loads(example.encoded)
        change(document)
        bad = {**same, "context": encode_json(document).decode()}
        yield {"comment": f"in the context: {comment}", **bad, "file": good.decode(), "result": "invalid"}
    asked = example.open("b", tokens=2).encode()
    question = json.loads(asked)["question"]
    yield {
        "comment": "another question",
        **same,
        "file": good.decode(),
        "question": question,
        "result": "invalid",
    }
    for comment, root, file, result in (
        ("a root of another trace", OTHER_ROOT, good.decode(), "invalid"),
        ("white space behind the document", str(example.root), good.decode() + "\n", "malformed"),
    ):
        yield {"comment": comment, **same, "root": root, "file": file, "result": result}
    other = spec_trace.Example("hash" if scheme == "kzg" else "kzg")
    crossed = json.loads(good) | {"proof": base64.b64encode(other.open("b", tokens=3).proof).decode()}
    yield {
        "comment": "the proof of the other scheme",
        **same,
        "file": encode_json(crossed).decode(),
        "result": "malformed",
    }


def render() -> str:
    """Returns the text of trace_openings.json."""
    schemes: tuple[trace_schemes.Name, ...] = ("hash", "kzg")
    return rendered(
        "palm-torch trace openings vectors v1", [(scheme, list(cases(scheme))) for scheme in schemes]
    )


if __name__ == "__main__":
    Path(__file__).with_name("trace_openings.json").write_text(render(), encoding="ascii")
