"""Which collector is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gpu_tools
import pytest

from palm_torch.cvm import gpu_collector
from palm_torch.errors import AttesterError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_driver_decides_by_default(tmp_path: Path) -> None:
    assert gpu_collector.select(root=tmp_path) is None
    (tmp_path / "dev").mkdir()
    assert gpu_collector.select(root=tmp_path) is None
    (tmp_path / gpu_collector.DRIVER).touch()
    found = gpu_collector.select(root=tmp_path)
    assert found is not None
    assert found.name == "nvml"


def test_a_collector_that_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu_tools.nvattest(tmp_path, {})
    monkeypatch.setenv("PATH", str(tmp_path))
    for kind in ("nvml", "nvattest", "nv-sdk"):
        found = gpu_collector.select(kind, root=tmp_path)
        assert found is not None
        assert found.name == kind


def test_what_cannot_be_chosen(tmp_path: Path) -> None:
    with pytest.raises(AttesterError, match="expected one of auto, nvml, nvattest, nv-sdk, got 'nras'"):
        gpu_collector.select("nras", root=tmp_path)
    (tmp_path / "dev").symlink_to("dev")
    with pytest.raises(AttesterError, match="cannot tell whether there is a driver"):
        gpu_collector.select(root=tmp_path)
