"""The worked example of the chapter on audits is what the code computes, and so are the golden files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import audited
import pytest
import spec_audit
import terkle_vectors
from spec_audit import ANSWER, MADE, REQUEST

from palm_torch.challenge import challenge, drawing, questions
from palm_torch.challenge import request as requests
from palm_torch.commit import trace
from palm_torch.errors import BindingError, DataError, EvidenceError, RequestError

PAGE = (Path(__file__).parents[3] / "docs" / "spec" / "57-audit.md").read_text("utf-8").partition("## 8 ")[2]
ROW = re.compile(r"^\| ([^|]+) \| `([0-9a-f]{2,})` \|$", re.MULTILINE)
DRAW = re.compile(r"^\| (\d+) \| (\d+) \| (\d+) \| ([^|]+) \|$", re.MULTILINE)
CASES = terkle_vectors.read("audit.json")
ERRORS = {"invalid": BindingError, "malformed": (DataError, EvidenceError, RequestError)}
ASKED = challenge.asked(REQUEST, MADE.context)


def test_every_row() -> None:
    assert MADE.opening is not None
    places = drawing.Stream(ASKED.seed, "places")
    expected = [
        ("nonce", spec_audit.NONCE),
        ("trace root", MADE.root.value),
        ("seed", ASKED.seed),
        ("stream `places`, 72 bytes", places.take(72)),
        ("stream `whole`, 8 bytes", drawing.Stream(ASKED.seed, "whole").take(8)),
        ("stream `signs/1/query`, 1 byte", drawing.Stream(ASKED.seed, "signs/1/query").take(1)),
        ("content of the ids", MADE.opening.content),
        ("salt", audited.SALT),
        ("fact `tokens`", MADE.opening.digest.value),
        ("digest of the request", REQUEST.digest.value),
        ("digest of the answer", ANSWER.digest.value),
    ]
    assert ROW.findall(PAGE) == [(name, value.hex()) for name, value in expected]


def test_every_number_that_was_drawn() -> None:
    stream = drawing.Stream(ASKED.seed, "places")
    numbers, rows = [], []
    for place in ASKED.places:
        head = place.part == 2
        for bound, word in (
            (4, f"part {place.part}"),
            (1, f"sequence {place.sequence}"),
            (
                3 if head else 5,
                f"row {MADE_ROW[place.token]}, token {place.token}" if head else f"token {place.token}",
            ),
        ):
            number = int.from_bytes(stream.take(8), "big")
            numbers.append(number)
            rows.append((str(number), str(bound), str(number % bound), word))
    assert DRAW.findall(PAGE) == rows
    assert max(numbers) < 2**64 - 5  # none was drawn again


MADE_ROW = {token: row for row, token in enumerate((2, 3, 4))}


def test_documents_and_questions() -> None:
    document, listed = re.findall(r"\n```\n(.*?)\n```", PAGE, re.DOTALL)
    assert document == REQUEST.encode().decode()
    assert f"{len(document)} bytes" in PAGE
    assert listed.splitlines() == [
        f"{question.site.module} {question.tokens[0]}:{question.tokens[1]}"
        for question in questions.questions(REQUEST, MADE.context, ASKED)
    ]
    assert ASKED.signs(1, "query", 2) == (-1, 1)
    assert f"the answer has {len(ANSWER.encode())} bytes" in PAGE


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{case['tcId']}-{case['comment'].replace(' ', '-')}")
        for group in CASES.values()
        for case in group
    ],
)
def test_golden_audits(case: Any) -> None:
    parts = [case[name].encode() for name in ("request", "context", "answer")]
    if case["result"] != "valid":
        with pytest.raises(ERRORS[case["result"]]):
            spec_audit.verify(*parts)
        return
    request = requests.decode(parts[0], what="request")
    context = trace.decode(parts[1], what="context")
    asked = challenge.asked(request, context)
    assert [[place.part, place.sequence, place.token] for place in asked.places] == case["places"]
    assert list(asked.whole) == case["whole"]
    assert [str(one) for one in questions.questions(request, context, asked)] == case["questions"]
    assert len(spec_audit.verify(*parts)) == len(case["questions"])


def test_every_result_occurs_and_every_field_has_a_fault() -> None:
    assert {case["result"] for case in CASES["faults"]} == {"invalid", "malformed"}
    for name, good in (("request", REQUEST), ("answer", ANSWER)):
        document = json.loads(good.encode())
        changed = [json.loads(case[name]) for case in CASES["faults"] if not case[name].endswith("\n")]
        untouched = [field for field in document if all(other[field] == document[field] for other in changed)]
        assert untouched == {"request": [], "answer": ["decoding", "weights"]}[name]
