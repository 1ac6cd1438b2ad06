"""The driver, asked with care: its state, every error code, a driver that hangs."""

from __future__ import annotations

import sys
import threading
from typing import Any

import fake_nvml
import pytest
from fake_nvml import FakeNvml, NVMLError

from palm_torch.cvm import gpu_state, nvml
from palm_torch.errors import AttesterError, MissingExtraError


def system(**changes: Any) -> gpu_state.SystemState:
    return nvml.ask(nvml.read_system, load=lambda: FakeNvml(**changes))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("on", False, "prod", True, "none")),
        ({"feature": 0, "multi_gpu": 1}, ("off", False, "prod", True, "ppcie")),
        ({"multi_gpu": 2}, ("on", False, "prod", True, "nvle")),
        ({"multi_gpu": 7}, ("on", False, "prod", True, "unknown")),
        ({"environment": 1, "devtools": 1, "ready": 0}, ("on", True, "sim", False, "none")),
        ({"environment": 0}, ("on", False, "unavailable", True, "none")),
        ({"environment": 9}, ("on", False, "unknown", True, "none")),
        ({"settings_code": None}, ("on", False, "prod", True, "none")),
        ({"settings_code": 25}, ("on", False, "prod", True, "unknown")),
        ({"nvmlSystemGetConfComputeSettings": NVMLError(13)}, ("on", False, "prod", True, "unknown")),
        ({"nvmlSystemGetConfComputeState": NVMLError(3)}, ("off", False, "unavailable", True, "unknown")),
        ({"nvmlSystemGetConfComputeGpusReadyState": NVMLError(3)}, ("on", False, "prod", False, "none")),
        (
            {"nvmlSystemGetConfComputeGpusReadyState": NVMLError(3), "feature": 0},
            ("off", False, "prod", True, "none"),
        ),
        (
            {"nvmlSystemGetConfComputeGpusReadyState": NVMLError(13), "feature": 0, "multi_gpu": 1},
            ("off", False, "prod", False, "ppcie"),
        ),
    ],
)
def test_the_state_of_the_machine(changes: dict[str, Any], expected: tuple[object, ...]) -> None:
    found = system(**changes)
    state = (found.cc_mode, found.devtools, found.environment, found.ready, found.multi_gpu_mode)
    assert (found.driver, state) == ("550.90.07", expected)


def test_a_feature_that_is_neither_on_nor_off() -> None:
    with pytest.raises(AttesterError, match="unexpected answer of the driver: 2"):
        system(feature=2)


@pytest.mark.parametrize("code", fake_nvml.ERRORS)
@pytest.mark.parametrize(
    "function",
    ["nvmlInit", "nvmlSystemGetDriverVersion", "nvmlSystemGetConfComputeState", "settings_code"],
)
def test_every_error_code_is_one_of_ours_or_has_a_meaning(function: str, code: int) -> None:
    failing = {function: code if function == "settings_code" else NVMLError(code)}
    if code in nvml.UNKNOWING and function in ("nvmlSystemGetConfComputeState", "settings_code"):
        assert system(**failing).multi_gpu_mode == "unknown"
        return
    with pytest.raises(AttesterError) as caught:
        system(**failing)
    assert fake_nvml.ERRORS[code] in str(caught.value)
    assert nvml.ADVICE.get(code, "") in str(caught.value)


def test_the_library_is_given_back_even_if_that_fails() -> None:
    module = FakeNvml(nvmlSystemGetDriverVersion=NVMLError(15))
    with pytest.raises(AttesterError, match="GPU is lost; the GPU has fallen off the bus"):
        nvml.ask(nvml.read_system, load=lambda: module)
    assert module.open == 0
    assert system(nvmlShutdown=NVMLError(1)).cc_mode == "on"


def test_a_driver_that_hangs_is_left() -> None:
    left = threading.Event()
    try:
        with pytest.raises(AttesterError, match=r"did not answer in 0\.01 seconds"):
            nvml.ask(nvml.read_system, load=lambda: FakeNvml(nvmlInit=left.wait), timeout_s=0.01)
    finally:
        left.set()


def test_a_binding_that_is_missing_or_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())  # type: ignore[arg-type]
    assert nvml.ask(nvml.read_system).cc_mode == "on"
    monkeypatch.setitem(sys.modules, "pynvml", object())  # type: ignore[arg-type]
    with pytest.raises(AttesterError, match="pynvml is not usable"):
        nvml.ask(nvml.read_system)
    monkeypatch.delitem(sys.modules, "pynvml")
    monkeypatch.setattr(sys, "path", [])
    with pytest.raises(MissingExtraError, match=r"pip install 'palm-torch\[nvidia\]'"):
        nvml.ask(nvml.read_system)


def state(**changes: Any) -> gpu_state.GpuState:
    fields = {
        "driver": "550.90.07",
        "cc_mode": "on",
        "devtools": False,
        "environment": "prod",
        "ready": True,
        "multi_gpu_mode": "none",
        "uuid": "GPU-1",
        "name": "NVIDIA H100",
        "vbios": "96.00.9F.00.01",
    }
    return gpu_state.GpuState(**fields | changes)


def test_a_state_as_statements_carry_it() -> None:
    assert state().to_json() == {
        "uuid": "GPU-1",
        "name": "NVIDIA H100",
        "driver": "550.90.07",
        "vbios": "96.00.9F.00.01",
        "cc_mode": "on",
        "devtools": False,
        "environment": "prod",
        "ready": True,
        "multi_gpu_mode": "none",
    }


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cc_mode": "off"}, "is off, so it cannot attest: the host switches it on"),
        ({"devtools": True}, "DevTools, which lets debuggers look inside"),
        ({"environment": "sim"}, "expected the production environment, got 'sim'"),
        ({"environment": "unavailable"}, "expected the production environment, got 'unavailable'"),
        ({"ready": False}, "nvidia-smi conf-compute -srs 1"),
    ],
)
def test_gpus_that_are_in_no_state_to_attest(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(AttesterError, match=r"GPU 1 \(NVIDIA H100, GPU-1\)") as caught:
        gpu_state.check_confidential([state(), state(**changes)])
    assert said in str(caught.value)


def test_gpus_that_may_attest() -> None:
    gpu_state.check_confidential([state(), state(cc_mode="off", multi_gpu_mode="ppcie")])
    assert state(cc_mode="off", multi_gpu_mode="ppcie").confidential
    assert not state(environment="sim").confidential
    with pytest.raises(AttesterError, match="the driver knows none"):
        gpu_state.check_confidential([])
