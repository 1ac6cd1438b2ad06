"""What the documents show in full works as shown."""

from __future__ import annotations

import re
from pathlib import Path

from palm_torch import policy

DOCS = Path(__file__).parents[2] / "docs"


def test_the_policy_of_the_specification_parses() -> None:
    text = (DOCS / "spec" / "60-evidence.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    found = policy.parse(block.encode())
    assert found.claims.arguments["lr"].greatest == 0.003
    assert found.platform.simulated_root is None
