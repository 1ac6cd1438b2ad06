"""Files of parts that are no parts, and parts that say no together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from palm_torch import part_files
from palm_torch.appraisal import parts
from palm_torch.errors import ClaimError, InputError
from palm_torch.receipt import RECEIPT_START

if TYPE_CHECKING:
    from pathlib import Path

    from workshop import GoodRun


def test_a_receipt_is_no_part(tmp_path: Path) -> None:
    receipt = tmp_path / "r.palm.json"
    receipt.write_bytes(RECEIPT_START)
    with pytest.raises(InputError, match=r"r\.palm\.json: a receipt; parts of a run are sealed evidence"):
        part_files.verify([receipt], appraise=lambda *_: pytest.fail("nothing to appraise"))


def test_what_passed_is_said_when_they_are_refused_together(
    good: GoodRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.palm.json"
    path.write_bytes(good.bundle.encode())

    def refuse(*_: object) -> None:
        raise ClaimError("together: no")

    monkeypatch.setattr(parts, "merge", lambda given: given)
    monkeypatch.setattr(parts, "combine", refuse)
    result: Any = good.verify(good.bundle)
    with pytest.raises(ClaimError, match="together: no") as caught:
        part_files.verify([path], appraise=lambda *_: result)
    assert caught.value.checks == result.checks
