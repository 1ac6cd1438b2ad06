"""What is installed, and what NVIDIA's driver says."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from fake_nvml import FakeNvml, NVMLError

from palm_torch.cvm import simulated
from palm_torch.errors import AttesterError
from palm_torch.machine import gpu_mode, software

if TYPE_CHECKING:
    from pathlib import Path


def everything(_package: str) -> bool:
    return True


def nothing(_package: str) -> bool:
    return False


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "dev").mkdir()
    (tmp_path / software.NVIDIA_DEVICE).touch()
    return tmp_path


def test_gpus_that_compute_confidentially(root: Path) -> None:
    nvml = FakeNvml()
    found = software.gpu(root, everything, lambda: nvml)
    assert (found.state, nvml.open) == ("ok", 0)
    assert found.detail == (
        "2 × NVIDIA H100 80GB HBM3, driver 550.90.07: confidential computing is on, ready"
    )


@pytest.mark.parametrize(
    ("changes", "expected", "said"),
    [
        ({"feature": 0}, "missing", "confidential computing is off"),
        ({"environment": 1}, "missing", "confidential computing is off"),
        ({"nvmlSystemGetConfComputeState": NVMLError(3)}, "missing", "confidential computing is off"),
        ({"nvmlSystemGetConfComputeState": NVMLError(13)}, "missing", "confidential computing is off"),
        ({"feature": 0, "multi_gpu": 1}, "ok", "confidential computing is on"),  # protected PCIe
        ({"devtools": 1}, "problem", "lets the host look inside"),
        ({"ready": 0}, "problem", "take no work yet"),
        ({"nvmlDeviceGetCount": 0}, "missing", "the driver 550.90.07 knows none"),
        ({"nvmlDeviceGetCount": None}, "problem", "unexpected answer of the driver"),
        (
            {"nvmlDeviceGetName": NVMLError(15)},
            "problem",
            "unexpected answer of the driver: GPU is lost",
        ),
        ({"nvmlSystemGetConfComputeState": SimpleNamespace()}, "problem", "unexpected answer of the driver"),
        ({"nvmlInit": NVMLError(9)}, "problem", "no answer from the driver: Driver Not Loaded"),
    ],
)
def test_gpus_that_do_not(changes: dict[str, Any], expected: str, said: str, root: Path) -> None:
    found = software.gpu(root, everything, lambda: FakeNvml(**changes))
    assert (found.state, said in found.detail) == (expected, True), found


def test_a_driver_that_hangs_is_left() -> None:
    left = threading.Event()
    try:
        with pytest.raises(AttesterError, match=r"did not answer in 0\.01 seconds"):
            gpu_mode.read(lambda: FakeNvml(nvmlInit=left.wait), timeout_s=0.01)
    finally:
        left.set()


@pytest.mark.parametrize("broken", [ImportError("no libnvidia-ml"), OSError("bad library")])
def test_a_binding_that_is_broken(broken: Exception, root: Path) -> None:
    def load() -> Any:
        raise broken

    found = software.gpu(root, everything, load)
    assert (found.state, "pynvml is not usable" in found.detail) == ("problem", True)
    assert software.gpu(root, everything, object).state == "problem"


def test_no_driver_or_nothing_to_ask_it_with(root: Path, tmp_path: Path) -> None:
    found = software.gpu(root, nothing, FakeNvml)
    assert (found.state, found.advice) == ("problem", "pip install 'palm-torch[nvidia]'")
    elsewhere = tmp_path / "elsewhere"
    for installed in (everything, nothing):
        found = software.gpu(elsewhere, installed, FakeNvml)
        assert (found.state, found.detail) == ("missing", "no NVIDIA driver: /dev/nvidiactl is not there")
    elsewhere.symlink_to("elsewhere")
    assert software.gpu(elsewhere, everything, FakeNvml).state == "problem"


def test_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert software.is_installed("cryptography")
    assert not software.is_installed("palm_torch_no_such_package")
    monkeypatch.setitem(sys.modules, "odd", SimpleNamespace(__spec__=None))  # type: ignore[arg-type]
    assert not software.is_installed("odd")
    assert software.libraries().state == "ok"
    found = software.libraries(nothing)
    assert (found.state, found.detail) == (
        "problem",
        "blake3, cryptography, dcap_qvl, lxml, rich, yaml not installed",
    )
    found = software.brought_by("nvidia", nothing)
    assert (found.name, found.state, found.advice) == (
        "extra nvidia",
        "missing",
        "pip install 'palm-torch[nvidia]'",
    )
    assert software.brought_by("torch", everything).detail == "gmpy2, numpy, safetensors, torch"


def test_nvml_is_imported_when_it_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())  # type: ignore[arg-type]
    assert gpu_mode.read(software.import_nvml).ready


def test_the_simulated_tee(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    found = software.simulated_tee()
    assert (found.state, "when it is first used" in found.detail) == ("ok", True)
    assert list(tmp_path.iterdir()) == []
    simulated.SimulatedTdx()
    found = software.simulated_tee()
    assert (found.state, "has keys in" in found.detail) == ("ok", True)
    directory = tmp_path / "palm-torch" / "simulated"
    directory.chmod(0o755)
    assert software.simulated_tee().state == "problem"
    (tmp_path / "palm-torch").rename(tmp_path / "moved")
    (tmp_path / "palm-torch").symlink_to("palm-torch")
    found = software.simulated_tee()
    assert (found.state, "cannot be looked at" in found.detail) == ("problem", True)


def test_nowhere_to_keep_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Any:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr("pathlib.Path.home", homeless)
    assert software.simulated_tee().state == "problem"
