"""A stand-in for the module ``pynvml``: GPUs that say and sign what a test wants, and fail as it wants.

By default two GPUs in confidential mode answer with reports that are spelled well and signed by nobody; a
test with real reports and chains hands them in.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

from palm_torch.cvm import certificate_bytes, spdm

ERRORS: Final = {
    1: "Uninitialized",
    2: "Invalid Argument",
    3: "Not Supported",
    4: "Insufficient Permissions",
    5: "Already Initialized",
    6: "Not Found",
    7: "Insufficient Size",
    8: "Insufficient External Power",
    9: "Driver Not Loaded",
    10: "Timeout",
    11: "Interrupt Request Issue",
    12: "NVML Shared Library Not Found",
    13: "Function Not Found",
    14: "Corrupted infoROM",
    15: "GPU is lost",
    16: "GPU requires restart",
    17: "The operating system has blocked the request.",
    18: "RM has detected an NVML/RM version mismatch.",
    19: "In use",
    20: "Insufficient memory",
    21: "No data",
    22: "ECC not supported on vGPU host",
    23: "Insufficient resources",
    24: "Frequency not supported",
    25: "Argument version mismatch",
    26: "Deprecated",
    27: "Not ready",
    28: "GPU not found",
    29: "Invalid state",
    30: "Reset type not supported",
    999: "Unknown Error",
}
"""Every code of the library, and its words."""

CHAIN: Final = tuple(bytes([0x30, 1, number]) for number in range(5))
"""Five pieces of DER that stand for certificates."""


class NVMLError(Exception):
    """As pynvml's: made of a code."""

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value

    def __str__(self) -> str:
        return ERRORS.get(self.value, f"NVML Error with code {self.value}")


class Settings(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint)
        for name in ("version", "environment", "ccFeature", "devToolsMode", "multiGpuMode")
    ]


def report(nonce: bytes) -> bytes:
    """Returns a report over a nonce, spelled well; nobody signed it."""
    request = spdm.REQUEST_HEADER + nonce + spdm.SLOT
    record = b"\x01" + spdm.RECORD_HEADER + bytes(spdm.MEASUREMENT_BYTES)
    records = b"\x01" + len(record).to_bytes(3, "little") + record
    return request + spdm.RESPONSE_HEADER + records + bytes(32) + bytes(2) + bytes(96)


@dataclass(frozen=True, slots=True)
class Card:
    """One GPU: how it answers a nonce, and its chain in PEM."""

    answer: Callable[[bytes], bytes] = report
    chain: bytes = certificate_bytes.encode_pem(CHAIN)
    name: str = "NVIDIA H100 80GB HBM3"
    vbios: str = "96.00.9F.00.01"


class FakeNvml:
    """The module; every function of it can be made to answer or to fail otherwise.

    `instead` has for the name of a function what it does in place of what it would do: an exception or a code
    is raised, a callable called with its arguments, anything else returned.
    """

    NVMLError = NVMLError
    c_nvmlSystemConfComputeSettings_v1_t = Settings  # noqa: N815 (NVML's name)
    __spec__ = None

    def __init__(
        self,
        *cards: Card,
        feature: int = 1,
        devtools: int = 0,
        environment: int = 2,
        ready: int = 1,
        multi_gpu: int = 0,
        settings_code: int | None = 0,
        **instead: Any,
    ) -> None:
        self.cards = cards or (Card(), Card())
        self.system = SimpleNamespace(environment=environment, ccFeature=feature, devToolsMode=devtools)
        self.ready, self.multi_gpu, self.settings_code = ready, multi_gpu, settings_code
        self.instead = instead
        self.open = 0

    def __getattr__(self, name: str) -> Any:
        if not re.fullmatch("nvml[A-Z].*", name):
            raise AttributeError(name)

        def call(*arguments: Any) -> Any:
            if name not in self.instead:
                return getattr(self, f"_{name[4:]}")(*arguments)
            instead = self.instead[name]
            if isinstance(instead, NVMLError | Exception):
                raise instead
            return instead(*arguments) if callable(instead) else instead

        return call

    def _Init(self) -> None:  # noqa: N802 (NVML's name)
        self.open += 1

    def _Shutdown(self) -> None:  # noqa: N802 (NVML's name)
        self.open -= 1

    def _SystemGetDriverVersion(self) -> bytes:  # noqa: N802 (NVML's name)
        return b"550.90.07"

    def _SystemGetConfComputeState(self) -> Any:  # noqa: N802 (NVML's name)
        return self.system

    def _SystemGetConfComputeGpusReadyState(self) -> int:  # noqa: N802 (NVML's name)
        return self.ready

    def _SystemGetConfComputeSettings(self, reference: Any) -> int | None:  # noqa: N802 (NVML's name)
        reference._obj.multiGpuMode = self.multi_gpu
        return self.settings_code

    def _DeviceGetCount(self) -> int:  # noqa: N802 (NVML's name)
        return len(self.cards)

    def _DeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802 (NVML's name)
        return index

    def _DeviceGetName(self, handle: int) -> str:  # noqa: N802 (NVML's name)
        return self.cards[handle].name

    def _DeviceGetUUID(self, handle: int) -> str:  # noqa: N802 (NVML's name)
        return f"GPU-{handle}"

    def _DeviceGetVbiosVersion(self, handle: int) -> str:  # noqa: N802 (NVML's name)
        return self.cards[handle].vbios

    def _DeviceGetConfComputeGpuAttestationReport(self, handle: int, nonce: bytes) -> Any:  # noqa: N802 (NVML's name)
        data = self.cards[handle].answer(bytes((ctypes.c_uint8 * len(nonce))(*nonce)))
        return SimpleNamespace(
            attestationReport=(ctypes.c_uint8 * 8192)(*data), attestationReportSize=len(data)
        )

    def _DeviceGetConfComputeGpuCertificate(self, handle: int) -> Any:  # noqa: N802 (NVML's name)
        data = self.cards[handle].chain
        return SimpleNamespace(
            attestationCertChain=(ctypes.c_uint8 * 5120)(*data), attestationCertChainSize=len(data)
        )
