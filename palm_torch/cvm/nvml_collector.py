"""Collecting evidence of the machine's GPUs through NVML, the library of NVIDIA's driver.

Not run on a GPU in confidential mode: tested with a stand-in for the library that serves reports and chains
of real GPUs, and every error code.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from palm_torch.cvm import collected_gpu, gpu_state, nvml
from palm_torch.errors import AttesterError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from palm_torch.evidence import GpuEvidence

TIMEOUT_S: Final = 60.0
"""How long the driver may take to collect all evidence, in seconds; a GPU signs in much less than one."""


class NvmlCollector:
    """A `gpu_collector.GpuCollector` that asks the driver itself."""

    def __init__(self, *, load: Callable[[], Any] = nvml.load, timeout_s: float = TIMEOUT_S) -> None:
        """Asks nothing yet.

        Args:
            load: Returns the module ``pynvml``.
            timeout_s: How long the driver may take for one call of a method, in seconds.
        """
        self._load, self._timeout_s = load, timeout_s

    @property
    def name(self) -> str:
        """How the evidence is collected."""
        return "nvml"

    def state(self) -> tuple[gpu_state.GpuState, ...]:
        """Returns the state of each GPU, in the driver's order; whether it is good enough is not asked here.

        Raises:
            AttesterError: If there is no driver, or it does not answer as it should.
            MissingExtraError: If ``nvidia-ml-py`` is not installed.
        """
        return nvml.ask(_states, load=self._load, timeout_s=self._timeout_s)

    def collect(self, nonces: Sequence[bytes]) -> tuple[GpuEvidence, ...]:
        """Returns each GPU's report over its own nonce, with its certificates.

        Steps:
         1. The nonces are 32 bytes each, and no two are alike.
         2. Every GPU computes confidentially, in the production environment, without DevTools, and is ready.
         3. There are as many GPUs as nonces.
         4. Each report answers its nonce, and fits the driver's buffer; so does its chain, five certificates.

        Args:
            nonces: One for each GPU, 32 bytes, in the driver's order.

        Raises:
            AttesterError: If one of the steps fails, or the driver does not answer as it should.
            MissingExtraError: If ``nvidia-ml-py`` is not installed.
        """
        collected_gpu.check_nonces(nonces)  # 1
        question = functools.partial(_collect, tuple(nonces))
        return nvml.ask(question, load=self._load, timeout_s=self._timeout_s)


def _states(library: Any) -> tuple[gpu_state.GpuState, ...]:  # noqa: ANN401 (the module)
    system = nvml.read_system(library)
    shared = {name: getattr(system, name) for name in gpu_state.SystemState.__slots__}
    return tuple(
        gpu_state.GpuState(
            uuid=nvml.text(library.nvmlDeviceGetUUID(handle)),
            name=nvml.text(library.nvmlDeviceGetName(handle)),
            vbios=nvml.text(library.nvmlDeviceGetVbiosVersion(handle)),
            **shared,
        )
        for handle in _handles(library)
    )


def _collect(nonces: tuple[bytes, ...], library: Any) -> tuple[GpuEvidence, ...]:  # noqa: ANN401 (the module)
    gpu_state.check_confidential(_states(library))  # 2
    handles = _handles(library)
    collected_gpu.check_count(len(handles), nonces, what="GPU")  # 3
    return tuple(  # 4
        _one(library, handle, nonce, f"GPU {number}")
        for number, (handle, nonce) in enumerate(zip(handles, nonces, strict=True))
    )


def _handles(library: Any) -> tuple[Any, ...]:  # noqa: ANN401 (the module)
    return tuple(
        library.nvmlDeviceGetHandleByIndex(index) for index in range(int(library.nvmlDeviceGetCount()))
    )


def _one(library: Any, handle: object, nonce: bytes, what: str) -> GpuEvidence:  # noqa: ANN401 (the module)
    report = library.nvmlDeviceGetConfComputeGpuAttestationReport(handle, nonce)
    certificates = library.nvmlDeviceGetConfComputeGpuCertificate(handle)
    return collected_gpu.make_evidence(
        _filled(report.attestationReport, report.attestationReportSize, f"{what}: report"),
        _filled(
            certificates.attestationCertChain, certificates.attestationCertChainSize, f"{what}: certificates"
        ),
        nonce=nonce,
        what=what,
    )


def _filled(buffer: Any, size: int, what: str) -> bytes:  # noqa: ANN401 (an array of ctypes)
    """Returns the part of a buffer that the driver says it filled, which must lie inside it."""
    if not 0 < size <= len(buffer):
        raise AttesterError(f"{what}: expected 1 to {len(buffer)} bytes in the driver's buffer, got {size}")
    return bytes(buffer[:size])
