"""What is installed, and what NVIDIA's driver says."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from palm_torch.cvm import simulated
from palm_torch.errors import AttesterError
from palm_torch.machine import gpu_mode, software

if TYPE_CHECKING:
    from pathlib import Path


class NvmlError(Exception):
    """As pynvml's."""


class NotSupportedError(NvmlError):
    """As pynvml's."""


class Nvml:
    """A stand-in for the module ``pynvml``, with the values of two GPUs in production mode."""

    NVMLError = NvmlError
    NVMLError_NotSupported = NotSupportedError
    __spec__ = None

    def __init__(self, **changes: Any) -> None:
        self.changes, self.shut = changes, 0

    def __getattr__(self, name: str) -> Any:
        values = {
            "nvmlInit": None,
            "nvmlDeviceGetCount": 2,
            "nvmlDeviceGetHandleByIndex": "handle",
            "nvmlDeviceGetName": "NVIDIA H100 80GB HBM3",
            "nvmlSystemGetDriverVersion": b"550.90.07",
            "nvmlSystemGetConfComputeState": SimpleNamespace(environment=2, ccFeature=1, devToolsMode=0),
            "nvmlSystemGetConfComputeGpusReadyState": 1,
        }
        value = self.changes.get(name, values[name])

        def answer(*_: object) -> Any:
            if isinstance(value, Exception):
                raise value
            return value() if callable(value) else value

        return answer

    def nvmlShutdown(self) -> None:  # noqa: N802 (NVML's name)
        self.shut += 1


def state(**changes: int) -> SimpleNamespace:
    return SimpleNamespace(**{"environment": 2, "ccFeature": 1, "devToolsMode": 0, **changes})


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
    nvml = Nvml()
    found = software.gpu(root, everything, lambda: nvml)
    assert (found.state, nvml.shut) == ("ok", 1)
    assert found.detail == (
        "2 × NVIDIA H100 80GB HBM3, driver 550.90.07: confidential computing is on, ready"
    )


@pytest.mark.parametrize(
    ("changes", "expected", "said"),
    [
        ({"nvmlSystemGetConfComputeState": state(ccFeature=0)}, "missing", "confidential computing is off"),
        ({"nvmlSystemGetConfComputeState": state(environment=1)}, "missing", "confidential computing is off"),
        ({"nvmlSystemGetConfComputeState": NotSupportedError()}, "missing", "confidential computing is off"),
        ({"nvmlSystemGetConfComputeState": state(devToolsMode=1)}, "problem", "lets the host look inside"),
        ({"nvmlSystemGetConfComputeGpusReadyState": 0}, "problem", "take no work yet"),
        ({"nvmlDeviceGetCount": 0}, "missing", "the driver 550.90.07 knows none"),
        ({"nvmlDeviceGetCount": None}, "problem", "unexpected answer of the driver"),
        (
            {"nvmlDeviceGetName": NvmlError("GPU is lost")},
            "problem",
            "unexpected answer of the driver: GPU is lost",
        ),
        ({"nvmlSystemGetConfComputeState": SimpleNamespace()}, "problem", "unexpected answer of the driver"),
        (
            {"nvmlInit": NvmlError("Driver Not Loaded")},
            "problem",
            "no answer from the driver: Driver Not Loaded",
        ),
    ],
)
def test_gpus_that_do_not(changes: dict[str, Any], expected: str, said: str, root: Path) -> None:
    found = software.gpu(root, everything, lambda: Nvml(**changes))
    assert (found.state, said in found.detail) == (expected, True), found


def test_a_driver_that_hangs_is_left() -> None:
    left = threading.Event()
    try:
        with pytest.raises(AttesterError, match=r"did not answer in 0\.01 seconds"):
            gpu_mode.read(lambda: Nvml(nvmlInit=left.wait), timeout_s=0.01)
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
    found = software.gpu(root, nothing, Nvml)
    assert (found.state, found.advice) == ("problem", "pip install 'palm-torch[nvidia]'")
    elsewhere = tmp_path / "elsewhere"
    for installed in (everything, nothing):
        found = software.gpu(elsewhere, installed, Nvml)
        assert (found.state, found.detail) == ("missing", "no NVIDIA driver: /dev/nvidiactl is not there")
    elsewhere.symlink_to("elsewhere")
    assert software.gpu(elsewhere, everything, Nvml).state == "problem"


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
    monkeypatch.setitem(sys.modules, "pynvml", Nvml())  # type: ignore[arg-type]
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
