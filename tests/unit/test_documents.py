"""What the documents show in full works as shown."""

from __future__ import annotations

import re
from pathlib import Path

from palm_torch.policies import policy

DOCS = Path(__file__).parents[2] / "docs"


def test_the_policy_of_the_specification_parses() -> None:
    text = (DOCS / "spec" / "60-evidence.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    found = policy.parse(block.encode())
    assert found.claims.arguments["lr"].greatest == 0.003
    assert found.platform.simulated_root is None


def test_every_attack_story_stands_in_the_threat_model() -> None:
    named = (DOCS / "threat-model.md").read_text(encoding="utf-8")
    stories = sorted((DOCS.parent / "tests" / "attacks").glob("test_*.py"))
    assert stories
    assert [path.name for path in stories if f"`attacks/{path.name}`" not in named] == []
