"""Where evidence cannot be written, the message names the place and the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from palm_torch.errors import SealError
from palm_torch.evidence import Evidence

if TYPE_CHECKING:
    from pathlib import Path

    from workshop import GoodRun


def test_a_name_that_is_too_long(good: GoodRun, tmp_path: Path) -> None:
    path = tmp_path / ("x" * 300)
    with pytest.raises(SealError) as caught:
        Evidence(bundle=good.bundle, simulated=False, sidecars={}).save(path)
    assert str(caught.value) == f"{path}: cannot write here: File name too long"
