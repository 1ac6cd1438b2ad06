"""Choosing how evidence of the machine's GPUs is collected: one interface, three ways, one evidence.

Whichever is taken, it hands on what the GPU signed: a verifier neither knows nor cares who fetched it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol, get_args

from palm_torch.cvm import nv_sdk_collector, nvattest_collector, nvml_collector
from palm_torch.errors import AttesterError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from palm_torch.cvm.gpu_state import GpuState
    from palm_torch.evidence import GpuEvidence

Kind = Literal["auto", "nvml", "nvattest", "nv-sdk"]

DRIVER: Final = "dev/nvidiactl"
"""Where Linux shows NVIDIA's driver, below the root of the file system."""


class GpuCollector(Protocol):
    """A way to the machine's GPUs: what state they are in, and what they sign."""

    @property
    def name(self) -> str:
        """Which way this is, such as "nvml"."""

    def state(self) -> tuple[GpuState, ...]:
        """Returns the state of each GPU, in the driver's order; empty if it knows none."""

    def collect(self, nonces: Sequence[bytes]) -> tuple[GpuEvidence, ...]:
        """Returns the evidence of each GPU over its own nonce of 32 bytes, in the driver's order."""


def select(kind: str = "auto", *, root: Path = Path("/")) -> GpuCollector | None:
    """Returns a collector for the GPUs of this machine; it asks them nothing yet.

    Args:
        kind: "auto": NVML where there is a driver of NVIDIA's; "nvml", "nvattest", "nv-sdk": that way.
        root: Root of the file system in which the driver is looked for.

    Returns:
        The collector; None for "auto" on a machine without a driver of NVIDIA's.

    Raises:
        AttesterError: If the kind is unknown, it cannot be told whether there is a driver, or the program
            that was asked for is not installed.
    """
    if kind not in get_args(Kind):
        raise AttesterError(f"GPU collector: expected one of {', '.join(get_args(Kind))}, got {kind[:40]!r}")
    if kind == "nvattest":
        return nvattest_collector.NvattestCollector()
    if kind == "nv-sdk":
        return nv_sdk_collector.NvSdkCollector()
    if kind == "auto" and not _is_there(root / DRIVER):
        return None
    return nvml_collector.NvmlCollector()


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise AttesterError(
            f"GPU collector: cannot tell whether there is a driver of NVIDIA's: {path}: {error.strerror}"
        ) from error
    return True
