"""Every kind of machine that a session can run on, as the public door `palm_torch.attested` meets it.

The hardware is a model of the kernel whose quotes the simulated vendors sign: everything above the kernel is
what runs on a real machine, and only the root at the end of the certificates differs.
"""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import boot_log
import fake_kernel

from palm_torch import collateral_file
from palm_torch.collateral_file import CollateralFile
from palm_torch.cvm import attester, platforms, simulated, simulated_snp, snp_endorsements
from palm_torch.cvm.certificates import TrustAnchor

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


KINDS: Final = ("simulated", "simulated v5", "simulated-snp", "tdx", "tdx v5", "snp")
HARDWARE: Final = ("tdx", "tdx v5", "snp")

BOOT: Final = boot_log.log(
    [
        boot_log.event(1, b"firmware"),
        boot_log.event(2, b"kernel"),
        boot_log.event(3, b"command line"),
        boot_log.event(4, b"by the boot loader"),
    ]
)
_FILLER: Final = b"\xff" * 1000


class SimulatedTdx5(simulated.SimulatedTdx):
    """A simulated trust domain on a newer machine."""

    def __init__(self, **options: Any) -> None:
        super().__init__(version=5, **options)


@dataclass(frozen=True)
class Place:
    """A machine to run on, already in the place of this one.

    Attributes:
        name: What `attested` is asked for.
        platform: The kind of evidence that comes out.
        kernel: The model, where it is hardware.
        collateral: What its vendor says of it, a file, where the machine does not know.
        files: The kernel's door and the root of its file system, where it is hardware.
    """

    name: str
    platform: Literal["tdx", "snp"]
    kernel: fake_kernel.FakeKernel | None
    collateral: Path | None

    @property
    def options(self) -> dict[str, Any]:
        """What a script says that runs there."""
        return {"attester": self.name} | ({} if self.collateral is None else {"collateral": self.collateral})


@contextlib.contextmanager
def in_place(
    kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *, door: str = "stand-in"
) -> Iterator[Place]:
    """Puts a machine of a kind in the place of this one.

    Args:
        kind: One of `KINDS`.
        folder: For its files.
        monkeypatch: Ends when the test does.
        door: How the model of the kernel is reached, one of `fake_kernel.DOORS`.
    """
    name, _, version = kind.partition(" v")
    platform: Literal["tdx", "snp"] = "snp" if name.endswith("snp") else "tdx"
    if name.startswith("simulated"):
        if version:
            monkeypatch.setattr(simulated, "SimulatedTdx", SimulatedTdx5)
        yield Place(name, platform, None, None)
        return
    vendor = simulated_snp.SimulatedSnp() if platform == "snp" else simulated.SimulatedTdx()
    root = TrustAnchor.from_certificate(vendor.root_certificate(), name="simulated")
    monkeypatch.setitem(platforms._ANCHORS, platform, root)
    endorsements: Any = vendor.collateral()
    file = CollateralFile(
        type=collateral_file.TYPE, attester=platform, collateral=platforms.fields_of(endorsements)
    )
    path = folder / f"{platform}.collateral.json"
    collateral_file.write(path, file)
    model: dict[str, Any] = {"provider": "sev_guest", "register": None} if platform == "snp" else {}
    with fake_kernel.machine(door, folder, **model) as machine:
        kernel = machine.kernel
        if platform == "snp":
            kernel.report = vendor.quote
        else:
            registers = fake_kernel.booted(BOOT)
            kernel.register = registers.pop("rtmr3")
            kernel.boot_log = BOOT + _FILLER
            kernel.report = fake_kernel.Td(
                vendor._authority,  # type: ignore[arg-type]  # that of SimulatedTdx
                kernel,
                registers,
                version=5 if version else 4,
            )
        select = functools.partial(attester.select, root=machine.root, files=machine.files)
        monkeypatch.setattr(attester, "select", select)
        yield Place(name, platform, kernel, path)


def certificate_table(vcek: bytes, ask: bytes, ark: bytes) -> bytes:
    """Returns the table in which a host hands over the certificates of its processor, DER each."""
    guids = {name: guid for guid, name in snp_endorsements.GUIDS.items()}
    entries, blobs = b"", b""
    for name, der in (("vcek", vcek), ("ask", ask), ("ark", ark)):
        at = 24 * 4 + len(blobs)
        entries += guids[name].bytes + at.to_bytes(4, "little") + len(der).to_bytes(4, "little")
        blobs += der
    return (entries + bytes(24) + blobs).ljust(16_384, b"\x00")
