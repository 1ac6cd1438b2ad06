"""Choosing the machine's attester: hardware if there is any, the simulated one only if there is none.

A machine that has a trusted execution environment never falls back to simulation: evidence that could have
been real must not quietly become evidence that is not.
"""

from __future__ import annotations

import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Protocol, get_args

from palm_torch.cvm import simulated
from palm_torch.errors import AttesterError

if TYPE_CHECKING:
    from palm_torch.cvm.collateral import Collateral

Kind = Literal["auto", "simulated", "tdx", "snp"]

HARDWARE_PATHS: Final = ("sys/kernel/config/tsm/report", "dev/tdx_guest", "dev/sev-guest")
"""Where Linux shows a trusted execution environment to its guest, below the root of the file system."""

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
    def platform(self) -> Literal["tdx", "snp"]:
        """Which kind of quotes it makes."""

    @property
    def simulated(self) -> bool:
        """Whether it is a simulation. For file names and banners; a verifier decides for itself."""

    @property
    def runtime_register(self) -> Literal["rtmr3", "none"]:
        """Which register `extend` extends."""

    def quote(self, report_data: bytes) -> bytes:
        """Returns a canonical quote over 64 bytes of report data."""

    def collateral(self) -> Collateral | None:
        """Returns what a verifier needs beside the quote; None if this machine cannot know it."""

    def extend(self, digest: bytes) -> None:
        """Extends the runtime register with a 48-byte digest."""

    def register(self) -> bytes:
        """Returns the runtime register as it stands, 48 bytes."""


def select(kind: str = "auto", *, root: Path = Path("/")) -> Attester:
    """Returns the attester of this machine, announcing a simulated one on standard error.

    Args:
        kind: "auto": the hardware's, or the simulated one where there is no hardware; "simulated": that
            one; "tdx", "snp": that hardware and nothing else.
        root: Root of the file system in which hardware is looked for.

    Raises:
        AttesterError: If the kind is unknown, the hardware asked for is missing, or hardware is present
            that this version cannot make attest.
    """
    if kind not in get_args(Kind):
        raise AttesterError(f"attester: expected one of {', '.join(get_args(Kind))}, got {kind[:40]!r}")
    if kind != "simulated":
        found = [path for path in HARDWARE_PATHS if _is_present(root / path)]
        if found:
            raise AttesterError(
                f"attester: this machine has a trusted execution environment (/{found[0]}), for which this "
                f"version has no driver; it never falls back to simulation by itself: ask for "
                f"'simulated' if simulated evidence is what you want"
            )
        if kind != "auto":
            raise AttesterError(
                f"attester: {kind!r} was asked for, but this machine shows none: "
                f"looked for /{', /'.join(HARDWARE_PATHS)}"
            )
    attester = simulated.SimulatedTdx()
    _announce()
    return attester


@functools.cache
def _announce() -> None:
    """Writes the banner, once in a process."""
    sys.stderr.write(BANNER)
    sys.stderr.flush()


def _is_present(path: Path) -> bool:
    """Whether a path exists; a path that cannot be looked at is not taken for a missing one."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise AttesterError(
            f"attester: cannot tell whether {path} exists: {error.strerror or error}"
        ) from error
    return True
