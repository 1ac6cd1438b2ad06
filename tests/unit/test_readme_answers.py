"""What the README prints about answers runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from palm_torch import receipt, statement
from palm_torch.appraisal import answer_traces
from palm_torch.commit import salted
from palm_torch.properties import Session

README = Path(__file__).parents[2] / "README.md"

pytestmark = pytest.mark.usefixtures("fresh_process", "few_sources")


def test_a_session_of_answers_runs_as_it_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = README.read_text(encoding="utf-8")
    (section,) = re.findall(r"## Answers of a model\n(.*?)\n## ", text, flags=re.DOTALL)
    (block,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(block, README.name, "exec"), names)  # noqa: S102 (our own page)
    claims = statement.decode(names["run"].evidence.bundle.end.statement).claims
    assert isinstance(claims, Session)
    found = receipt.decode(Path("answer.simulated.palm-receipt.json").read_bytes())
    content = receipt.decode_content(found.envelope.payload)
    assert isinstance(content, receipt.AnswerReceipt)
    assert answer_traces.check(names["proof"].context, content).model == claims.model.digest
    opening = salted.decode(Path("query.palm-opening.json").read_bytes())
    assert salted.verify(opening, claims.query.digest).form == "int64[1,3]"
