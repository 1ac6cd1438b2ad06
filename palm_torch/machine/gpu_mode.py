"""The mode that NVIDIA's driver says its GPUs are in.

The driver runs in the guest and is asked, not proven: what it says is good for advice before a run. Evidence
of a GPU is the report that the GPU signs.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from palm_torch.deadlines import Deadline, within
from palm_torch.errors import AttesterError

if TYPE_CHECKING:
    from collections.abc import Callable

TIMEOUT_S: Final = 10.0
"""How long the driver may take to answer; a wedged one never does."""

_FEATURE_ON: Final = 1
_ENVIRONMENT_PRODUCTION: Final = 2
_READY: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuMode:
    """What the driver says.

    Attributes:
        driver: Its version.
        names: The GPUs' names, one for each.
        confidential: Whether confidential computing is on, in the production environment.
        devtools: Whether debuggers may look inside: such a GPU keeps no secrets.
        ready: Whether the GPUs take work; in confidential mode somebody has to say that they may.
    """

    driver: str
    names: tuple[str, ...]
    confidential: bool
    devtools: bool
    ready: bool


def read(load: Callable[[], Any], *, timeout_s: float = TIMEOUT_S) -> GpuMode:
    """Asks the driver, through NVML.

    Args:
        load: Returns the module ``pynvml``.
        timeout_s: How long to wait for the driver, in seconds.

    Raises:
        AttesterError: If there is no driver, or it does not answer as it should.
    """
    try:
        return within(Deadline.after(timeout_s), functools.partial(_read, load))
    except TimeoutError as error:
        raise AttesterError(
            f"GPU: the driver did not answer in {timeout_s:g} seconds: see the kernel's log"
        ) from error


def _read(load: Callable[[], Any]) -> GpuMode:
    try:
        nvml = load()
        failures: tuple[type[Exception], ...] = (nvml.NVMLError, AttributeError, TypeError, ValueError)
        unsupported: type[Exception] = nvml.NVMLError_NotSupported
    except (ImportError, AttributeError, OSError) as error:
        raise AttesterError(f"GPU: pynvml is not usable: {error}; reinstall nvidia-ml-py") from error
    try:
        nvml.nvmlInit()
    except failures as error:
        raise AttesterError(f"GPU: no answer from the driver: {error}") from error
    try:
        names = tuple(
            _text(nvml.nvmlDeviceGetName(nvml.nvmlDeviceGetHandleByIndex(index)))
            for index in range(nvml.nvmlDeviceGetCount())
        )
        driver = _text(nvml.nvmlSystemGetDriverVersion())
        try:
            state = nvml.nvmlSystemGetConfComputeState()
            on = (state.ccFeature, state.environment) == (_FEATURE_ON, _ENVIRONMENT_PRODUCTION)
            devtools = bool(state.devToolsMode)
            ready = nvml.nvmlSystemGetConfComputeGpusReadyState() == _READY
        except unsupported:  # neither GPU nor driver knows of it
            on, devtools, ready = False, False, True
    except failures as error:
        raise AttesterError(f"GPU: unexpected answer of the driver: {error}") from error
    finally:
        nvml.nvmlShutdown()
    return GpuMode(driver=driver, names=names, confidential=on, devtools=devtools, ready=ready)


def _text(value: object) -> str:
    """Returns text that older versions of NVML's binding give as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
