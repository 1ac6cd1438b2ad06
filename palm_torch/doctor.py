"""What this machine offers to a session, and why not.

One finding for each thing that a session needs or could use, in the order in which they depend on each other,
and which attester ``attested()`` would take now.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from palm_torch.cvm import attester, kernel_files
from palm_torch.encoding import Json
from palm_torch.errors import AttesterError
from palm_torch.machine import guest, software
from palm_torch.machine.finding import Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from palm_torch.cvm.kernel_files import KernelFiles

Chosen = Literal["tdx", "snp", "simulated", "none"]
Need = Literal["tdx", "snp", "gpu"]

NEEDS: Final[tuple[Need, ...]] = ("tdx", "snp", "gpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What a machine offers.

    Attributes:
        findings: What was looked at.
        attester: Which attester ``attested()`` would take now; "none" if it would refuse.
        why: One sentence about that.
        gpus: Whether ``attested()`` would add evidence of GPUs to it, and why; in words.
        usable: What hardware evidence can be had of now.
    """

    findings: tuple[Finding, ...]
    attester: Chosen
    why: str
    gpus: str
    usable: frozenset[Need]

    def to_json(self) -> dict[str, Json]:
        """Returns everything as a JSON value."""
        return {
            "attester": self.attester,
            "why": self.why,
            "gpus": self.gpus,
            "usable": list[Json](need for need in NEEDS if need in self.usable),
            "findings": [
                {"name": found.name, "state": found.state, "detail": found.detail, "advice": found.advice}
                for found in self.findings
            ],
        }


def examine(
    *,
    root: Path = Path("/"),
    files: KernelFiles = kernel_files.LINUX,
    installed: Callable[[str], bool] = software.is_installed,
    load_nvml: Callable[[], Any] = software.import_nvml,
) -> Diagnosis:
    """Looks at a machine; nothing that is odd about it is an error here.

    Args:
        root: Root of the file system.
        files: The kernel's interface to a trusted execution environment.
        installed: Tells whether a package can be imported.
        load_nvml: Returns the module ``pynvml``.
    """
    reports, kind = guest.reports(root, files)
    register = guest.register(root, files, kind)
    session = guest.session(root)
    account = guest.account(root, files, kind, extendable=register.state == "ok")
    boot_log = guest.boot_log(root, files, kind)
    gpu = software.gpu(root, installed, load_nvml)
    simulated = software.simulated_tee()
    findings = (
        Finding("python", "ok", platform.python_version()),
        guest.kernel(root),
        guest.processor(root),
        *(guest.device(root, tee) for tee in guest.DEVICES),
        reports,
        register,
        session,
        boot_log,
        account,
        gpu,
        software.libraries(installed),
        *(software.brought_by(extra, installed) for extra in software.EXTRAS),
        simulated,
    )
    needed = (session, boot_log, account) if register.state == "ok" else (boot_log, account)
    in_the_way = [found for found in needed if found.state == "problem"]
    chosen, why = _choice(root, files, in_the_way, simulated)
    gpus_attest = gpu.state == "ok" and chosen != "none"  # a quote has to seal what they say
    usable = frozenset(need for need in NEEDS if need == chosen or (need == "gpu" and gpus_attest))
    return Diagnosis(
        findings=findings, attester=chosen, why=why, gpus=_evidence_of_gpus(chosen, gpu), usable=usable
    )


def _evidence_of_gpus(chosen: Chosen, gpu: Finding) -> str:
    if gpu.state != "ok":
        return f"none ({gpu.detail})"
    if chosen == "none":
        return f"none (no attester to seal it, but {gpu.detail})"
    return f"of each ({gpu.detail})"


def _choice(
    root: Path, files: KernelFiles, in_the_way: Sequence[Finding], simulated: Finding
) -> tuple[Chosen, str]:
    """Returns which attester would be taken, and why; `in_the_way` is what keeps a TDX guest from quoting."""
    try:
        found = attester.find_hardware(root=root, files=files)
    except AttesterError as error:
        return "none", str(error)
    if found == "tdx" and in_the_way:
        return "none", f"this is a TDX guest, but {in_the_way[0].name}: {in_the_way[0].detail}"
    if found is not None:
        return found, f"this machine is a guest of {guest.NAMES[found]}"
    if simulated.state != "ok":
        return "none", f"this machine has no trusted execution environment, and {simulated.detail}"
    return "simulated", "this machine has no trusted execution environment: its evidence proves nothing"
