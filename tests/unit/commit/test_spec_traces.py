"""The worked example of the chapter on traces is what the code computes."""

from __future__ import annotations

import re
from pathlib import Path

from blake3 import blake3

from palm_torch.commit import grid, trace, trace_gathering, trace_opening, trace_question
from palm_torch.commit.trace import Calls, Context, ModuleCoverage, Site
from palm_torch.commit.trace_gathering import Captured

PAGE = (Path(__file__).parents[3] / "docs" / "spec" / "26-traces.md").read_text("utf-8").partition("## 6 ")[2]
ROW = re.compile(r"^\| ([^|]+) \| `([0-9a-f]{16,})` \|$", re.MULTILINE)
DATA = {"a": bytes(range(0x20)), "b": bytes(range(0x20, 0x40))}


def test_every_row_and_both_documents() -> None:
    headers = {name: grid.tile_header(f"{name}|", "float32", (4, 2), (0, 0)) for name in DATA}
    captured = [
        Captured(
            Site(name),
            "float32",
            2,
            (Calls(0, 1, (1, 2)), Calls(1, 2, (1, 1))),
            grid.tile_leaf(headers[name], blake3(data).digest()),
        )
        for name, data in DATA.items()
    ]
    ((group, leaves),) = trace_gathering.gather(captured)
    context = Context(
        media_type=trace.MEDIA_TYPE,
        scheme="hash",
        model=None,
        groups=(group,),
        coverage=tuple(ModuleCoverage(name, "always", 3, 3, 0) for name in DATA),
        not_captured=(),
        environment={"torch": "2.13.0"},
        facts={},
    )
    encoded = context.encode()
    root = trace.root(encoded)
    question = trace_question.ask(context, Site("b"), tokens=3)
    opening = trace_opening.make(root, context, [leaves], question, lambda start, stop: DATA["b"][start:stop])
    shown = trace_opening.verify(root, encoded, question, opening)
    assert ROW.findall(PAGE) == [
        ("header of the tile of `a`", headers["a"].hex()),
        ("BLAKE3 of its bytes", blake3(DATA["a"]).hexdigest()),
        ("leaf 0", leaves[:32].hex()),
        ("leaf 1", leaves[32:].hex()),
        ("root of the group", group.root.value.hex()),
        ("trace root", root.value.hex()),
        ("digest of the activations", context.activations().value.hex()),
        ("token 3 of `b`", shown.values.hex()),
    ]
    documents = re.findall(r"(\d+) bytes:\n\n```\n(.*)\n```", PAGE)
    written = [encoded.decode(), opening.encode().decode()]
    assert documents == [(str(len(text)), text) for text in written]
