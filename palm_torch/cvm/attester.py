"""Choosing the machine's attester: hardware if there is any, the simulated one only if there is none.

A machine that has a trusted execution environment never falls back to simulation: evidence that could have
been real must not quietly become evidence that is not.
"""

from __future__ import annotations

import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol, get_args

from palm_torch.cvm import hardware, kernel_files, measurements, simulated, simulated_snp, tsm
from palm_torch.errors import AttesterError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from palm_torch.cvm.collateral import Collateral
    from palm_torch.cvm.kernel_files import KernelFiles
    from palm_torch.cvm.snp_endorsements import SnpEndorsements

Platform = Literal["tdx", "snp"]
Kind = Literal["auto", "simulated", "simulated-snp", "simulated-gpu", "tdx", "snp"]

PROVIDERS: Final[dict[str, Platform]] = {tsm.TDX_PROVIDER: "tdx", tsm.SNP_PROVIDER: "snp"}
"""The drivers that configfs-tsm names, and what they drive."""

HARDWARE_PATHS: Final = (
    "dev/tdx_guest",
    str(measurements.MISC_DEVICE),  # shows in containers that have no device files
    "dev/sev-guest",
    "sys/devices/virtual/misc/sev-guest",
    "sys/devices/system/cpu/sev",
)
"""Where Linux shows a trusted execution environment to its guest, below the root of the file system."""

_CPU: Final = Path("proc/cpuinfo")
GUEST_FLAGS: Final = (frozenset({"tdx_guest"}), frozenset({"sev_snp", "hypervisor"}))
"""Flags of a processor that runs a guest of TDX; that knows SEV-SNP and runs a guest, of whatever kind."""

_MAX_CPU_BYTES: Final = 16_384
"""The first processor's part is enough: all of them are guests, or none."""

BANNER: Final = """\
┌──────────────────────────────────────────────────────────────────────────┐
│  SIMULATED TEE - NOT A TEE: this evidence proves nothing about hardware  │
└──────────────────────────────────────────────────────────────────────────┘
"""


class Attester(Protocol):
    """A machine, real or simulated, that signs 64 bytes together with what is running on it."""

    @property
    def name(self) -> str:
        """Which attester this is, such as "tdx-simulated"."""

    @property
    def platform(self) -> Platform:
        """Which kind of quotes it makes."""

    @property
    def simulated(self) -> bool:
        """Whether it is a simulation. For file names and banners; a verifier decides for itself."""

    @property
    def runtime_register(self) -> Literal["rtmr3", "none"]:
        """Which register `extend` extends."""

    def quote(self, report_data: bytes) -> bytes:
        """Returns a canonical quote over 64 bytes of report data."""

    def collateral(self) -> Collateral | SnpEndorsements | None:
        """Returns what a verifier needs beside the quote; None if this machine cannot know it."""

    def extend(self, digest: bytes) -> None:
        """Extends the runtime register with a 48-byte digest."""

    def register(self) -> bytes | None:
        """Returns the runtime register as it stands, 48 bytes; None where there is none to extend."""

    def register_log(self) -> tuple[bytes, ...]:
        """Returns the digests that extended it between boot and this session, 48 bytes each."""

    def boot_log(self) -> bytes | None:
        """Returns the boot event log without its filler, None where there is none."""

    def close(self) -> None:
        """Gives back what only one session can have; may be called again."""


def select(
    kind: str = "auto", *, root: Path = Path("/"), files: KernelFiles = kernel_files.LINUX
) -> Attester:
    """Returns the attester of this machine, announcing a simulated one on standard error.

    Args:
        kind: "auto": the hardware's, or simulated TDX where there is no hardware; "simulated",
            "simulated-snp": simulated TDX or SEV-SNP; "simulated-gpu": simulated TDX, to which whoever opens
            the session adds a simulated GPU; "tdx", "snp": that hardware and nothing else.
        root: Root of the file system in which hardware is looked for.
        files: The kernel that is asked for it.

    Raises:
        AttesterError: If the kind is unknown, the hardware asked for is missing, or hardware is present
            that cannot be made to attest.
    """
    if kind not in get_args(Kind):
        raise AttesterError(f"attester: expected one of {', '.join(get_args(Kind))}, got {kind[:40]!r}")
    found = None if kind.startswith("simulated") else find_hardware(root=root, files=files)
    if found is not None and kind not in ("auto", found):
        raise AttesterError(f"attester: {kind!r} was asked for, but this machine is a {found!r} guest")
    if found == "tdx":
        return hardware.TdxAttester(root=root, files=files)
    if found == "snp":
        return hardware.SnpAttester(root=root, files=files)
    if kind in ("tdx", "snp"):
        raise AttesterError(
            f"attester: {kind!r} was asked for, but this machine shows none: "
            f"looked for /{', /'.join(HARDWARE_PATHS)} and a driver at /{tsm.REPORTS}"
        )
    attester = simulated_snp.SimulatedSnp() if kind == "simulated-snp" else simulated.SimulatedTdx()
    _announce()
    return attester


def find_hardware(*, root: Path = Path("/"), files: KernelFiles = kernel_files.LINUX) -> Platform | None:
    """Returns what trusted execution environment this machine is a guest of, None if of none.

    The driver that answers at configfs-tsm decides: it will make the quotes, and a kernel has one at most.
    Where none answers, any other sign of hardware is an error, not a machine without hardware.

    Raises:
        AttesterError: If there is hardware that cannot be asked for quotes, or it cannot be told.
    """
    provider = tsm.find_provider(root=root, files=files)
    if provider in PROVIDERS:
        return PROVIDERS[provider]
    signs = [f"a driver named {provider[:40]!r}"] if provider is not None else list(_signs(root, files))
    if signs:
        raise AttesterError(
            f"attester: this machine has a trusted execution environment ({signs[0]}), but no driver at "
            f"/{tsm.REPORTS} that this version can ask for quotes: needs Linux 6.7 or newer, modprobe "
            f"tdx_guest or sev-guest, and mount -t configfs none /sys/kernel/config; it never falls back to "
            f"simulation by itself: ask for 'simulated' if simulated evidence is what you want"
        )
    return None


def _signs(root: Path, files: KernelFiles) -> Iterator[str]:
    """Yields what shows that this machine is a guest of a trusted execution environment."""
    try:
        for path in HARDWARE_PATHS:
            if files.exists(root / path):
                yield f"/{path}"
        if files.exists(root / _CPU):
            lines = files.read(root / _CPU, max_bytes=_MAX_CPU_BYTES).decode("ascii", "replace").split("\n")
            for shown in GUEST_FLAGS:
                if any(shown <= set(line.split()) for line in lines):
                    yield f"{' and '.join(sorted(shown))} among the flags in /{_CPU}"
    except OSError as error:
        raise AttesterError(
            f"attester: cannot tell whether this machine has a trusted execution environment: "
            f"{error.filename}: {error.strerror or error}"
        ) from error


@functools.cache
def _announce() -> None:
    """Writes the banner, once in a process."""
    sys.stderr.write(BANNER)
    sys.stderr.flush()
