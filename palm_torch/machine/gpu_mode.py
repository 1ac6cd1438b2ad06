"""The mode that NVIDIA's driver says its GPUs are in.

The driver runs in the guest and is asked, not proven: what it says is good for advice before a run. Evidence
of a GPU is the report that the GPU signs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from palm_torch.cvm import nvml

if TYPE_CHECKING:
    from collections.abc import Callable


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


def read(load: Callable[[], Any], *, timeout_s: float = nvml.TIMEOUT_S) -> GpuMode:
    """Asks the driver, through NVML.

    Args:
        load: Returns the module ``pynvml``.
        timeout_s: How long to wait for the driver, in seconds.

    Raises:
        AttesterError: If there is no driver, or it does not answer as it should.
    """
    return nvml.ask(_read, load=load, timeout_s=timeout_s)


def _read(library: Any) -> GpuMode:  # noqa: ANN401 (the module)
    names = tuple(
        nvml.text(library.nvmlDeviceGetName(library.nvmlDeviceGetHandleByIndex(index)))
        for index in range(library.nvmlDeviceGetCount())
    )
    system = nvml.read_system(library)
    return GpuMode(
        driver=system.driver,
        names=names,
        confidential=system.confidential,
        devtools=system.devtools,
        ready=system.ready,
    )
