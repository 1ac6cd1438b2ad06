"""The worked example of the chapter on traces is what the code computes, and so are the golden files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import spec_trace
import terkle_vectors
from blake3 import blake3

from palm_torch.codec import from_json
from palm_torch.commit import trace_opening, trace_schemes
from palm_torch.commit.trace_rows import Question
from palm_torch.commit.tree_context import Context as TreeContext
from palm_torch.digest import Digest
from palm_torch.errors import BindingError, DataError, EvidenceError

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = (Path(__file__).parents[3] / "docs" / "spec" / "26-traces.md").read_text("utf-8").partition("## 6 ")[2]
ROW = re.compile(r"^\| ([^|]+) \| `([0-9a-f]{16,})` \|$", re.MULTILINE)
CASES = terkle_vectors.read("trace_openings.json")
ERRORS = {"invalid": BindingError, "malformed": (EvidenceError, DataError)}


def part(scheme: str) -> str:
    """Returns what the page says of one scheme."""
    before, _, after = PAGE.partition("Under `kzg`")
    return before if scheme == "hash" else after


@pytest.mark.parametrize("scheme", ["hash", "kzg"])
def test_every_row_and_both_documents(scheme: trace_schemes.Name) -> None:
    example = spec_trace.Example(scheme)
    opening = example.open("b", tokens=3)
    shown = trace_opening.verify(example.root, example.encoded, opening.question, opening)
    over = TreeContext(trace_schemes.TREE_ID, "float32", example.group.grid(), scheme)
    roots: list[tuple[str, Callable[[], bytes]]] = [
        ("context of the tree", over.encode),
        ("root of the group", lambda: example.group.root.value),
        ("trace root", lambda: example.root.value),
        ("digest of the activations", lambda: example.context.activations().value),
    ]
    leaves: list[tuple[str, Callable[[], bytes]]] = [
        ("header of the tile of `a`", lambda: spec_trace.HEADERS["a"]),
        ("BLAKE3 of its bytes", lambda: blake3(spec_trace.DATA["a"]).digest()),
        ("leaf 0", lambda: spec_trace.LEAVES["a"]),
        ("leaf 1", lambda: spec_trace.LEAVES["b"]),
        *roots,
        ("token 3 of `b`", lambda: shown.values),
    ]
    under_kzg = [("top: commitment", lambda: opening.proof[:48]), *roots, ("proof", lambda: opening.proof)]
    expected = {"hash": leaves, "kzg": under_kzg}[scheme]
    assert ROW.findall(part(scheme)) == [(name, value().hex()) for name, value in expected]
    documents = re.findall(r"(\d+) bytes:\n\n```\n(.*)\n```", part(scheme))
    written = [example.encoded.decode(), opening.encode().decode()]
    assert documents == [(str(len(text)), text) for text in written]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{case['tcId']}-{case['comment'].replace(' ', '-')}")
        for group in CASES.values()
        for case in group
    ],
)
def test_golden_openings(case: Any) -> None:
    def check() -> trace_opening.Shown:
        opening = trace_opening.decode(case["file"].encode(), what="the file")
        question = opening.question
        if "question" in case:
            question = from_json(Question, case["question"], what="question", error=EvidenceError)
        return trace_opening.verify(Digest.parse(case["root"]), case["context"].encode(), question, opening)

    if case["result"] == "valid":
        assert check().values.hex() == case["values"]
        return
    with pytest.raises(ERRORS[case["result"]]):
        check()


def test_every_result_occurs_under_each_scheme() -> None:
    for scheme in ("hash", "kzg"):
        assert {case["result"] for case in CASES[scheme]} == {"valid", "invalid", "malformed"}
        assert {json.loads(case["context"])["scheme"] for case in CASES[scheme]} == {scheme}
