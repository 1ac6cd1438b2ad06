"""The guest's side of a trusted execution environment: what the kernel shows of it.

What a session does when it opens is done here too, short of changing anything: a fresh directory in configfs,
removed at once, is all.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, Final, Literal

from palm_torch.cvm import attester, hardware, machine_log, measurements, quote, tsm
from palm_torch.errors import AttesterError
from palm_torch.machine.finding import ABSENT, NOT_THERE, Finding, absence, said, text

if TYPE_CHECKING:
    from pathlib import Path

    from palm_torch.cvm.kernel_files import KernelFiles

Tee = Literal["tdx", "snp"]

REPORTS_KERNEL: Final = (6, 7)
"""First Linux with configfs-tsm."""

REGISTERS_KERNEL: Final = (6, 16)
"""First Linux that shows the runtime registers of a TDX guest."""

DEVICES: Final[dict[Tee, str]] = {"tdx": "dev/tdx_guest", "snp": "dev/sev-guest"}
NAMES: Final[dict[Tee, str]] = {"tdx": "Intel TDX", "snp": "AMD SEV-SNP"}

_RELEASE: Final = re.compile(r"(\d{1,4})\.(\d{1,4})", re.ASCII)
_LOCK_HOLDER: Final = 4
_LOCK_FILE: Final = 5


def kernel(root: Path) -> Finding:
    """Looks whether this Linux can hand over reports, and runtime registers."""
    release, why = text(root / "proc/sys/kernel/osrelease")
    found = _RELEASE.match(release)
    if found is None:
        return Finding("kernel", "problem", why or "no release of Linux", "attesting hardware needs Linux")
    version = int(found[1]), int(found[2])
    name = f"Linux {release.strip()[:80]}"
    if version < REPORTS_KERNEL:
        return Finding("kernel", "missing", f"{name} has no configfs-tsm", "boot Linux 6.7 or newer")
    if version < REGISTERS_KERNEL:
        return Finding("kernel", "ok", f"{name}: reports, but the runtime register of TDX needs 6.16")
    return Finding("kernel", "ok", name)


def processor(root: Path) -> Finding:
    """Looks what the processor says it runs this system as."""
    cpuinfo, why = text(root / "proc/cpuinfo")
    flags = next((set(line.split()) for line in cpuinfo.splitlines() if line.startswith("flags")), None)
    if flags is None:
        why = why or "/proc/cpuinfo names no x86 flags"
        return Finding("processor", "problem", why, "attesting hardware needs an x86 processor")
    of_tdx, of_snp = attester.GUEST_FLAGS
    if of_tdx <= flags:
        return Finding("processor", "ok", "runs this system as a TDX guest")
    if of_snp <= flags:
        return Finding("processor", "ok", "knows SEV-SNP and runs this system as a guest")
    if "hypervisor" in flags:
        detail = "runs this system as a guest, and shows it neither TDX nor SEV-SNP"
        return Finding("processor", "missing", detail, "start a confidential virtual machine")
    detail = "runs no hypervisor below this system: only a guest can attest itself"
    return Finding("processor", "missing", detail, "start a confidential virtual machine")


def device(root: Path, kind: Tee) -> Finding:
    """Looks for the device through which the guest's driver speaks to the hardware."""
    name, path = f"{NAMES[kind]} device", DEVICES[kind]
    why = absence(root / path)
    if not why:
        return Finding(name, "ok", f"/{path}")
    if why == NOT_THERE:
        return Finding(name, "missing", f"/{path} {why}: no {NAMES[kind]} guest, or no driver loaded")
    return Finding(name, "problem", f"/{path} {why}", "run as root")


def reports(root: Path, files: KernelFiles) -> tuple[Finding, Tee | None]:
    """Looks for the driver that makes reports; returns the kind of hardware evidence that can be had too."""
    name, below = "reports", f"below /{tsm.REPORTS}"
    try:
        provider = tsm.find_provider(root=root, files=files)
    except AttesterError as error:
        return Finding(name, "problem", str(error)), None
    if provider is None:
        mounted = "configfs" in text(root / "proc/mounts")[0]
        load = "modprobe tdx_guest (Intel) or sev-guest (AMD), in a confidential virtual machine"
        advice = load if mounted else "mount -t configfs none /sys/kernel/config"
        return Finding(name, "missing", f"no driver makes reports {below}", advice), None
    kind = attester.PROVIDERS.get(provider)
    if kind is None:
        detail = f"made by {provider[:40]!r} {below}, which this version does not know"
        return Finding(name, "problem", detail, "ask for a newer palm-torch"), None
    return Finding(name, "ok", f"{NAMES[kind]}, made by {provider} {below}"), kind


def register(root: Path, files: KernelFiles, kind: Tee | None) -> Finding:
    """Looks whether this process may extend the runtime register."""
    name, path = "runtime register", f"/{measurements.REGISTER}"
    if kind == "snp":
        return Finding(name, "missing", "SEV-SNP has none: report data alone binds what is sealed")
    try:
        extendable = measurements.is_extendable(root=root, files=files)
        there = files.exists(root / measurements.REGISTER)
    except AttesterError as error:
        return Finding(name, "problem", str(error))
    except OSError as error:
        return Finding(name, "problem", f"{path} cannot be looked at: {said(error)}", "run as root")
    if extendable:
        return Finding(name, "ok", f"RTMR[3] can be extended: {path}")
    if there:
        return Finding(name, "problem", f"{path} may not be written", "let root hand that file to your user")
    return Finding(name, "missing", f"{path} {NOT_THERE}", "a TDX guest with Linux 6.16 or newer has it")


def session(root: Path) -> Finding:
    """Looks whether a session holds the runtime register, without touching its lock."""
    name, state = "session lock", root / measurements.STATE
    try:
        status = os.lstat(state / measurements.LOCK_NAME)
    except OSError as error:
        if error.errno in ABSENT:
            return Finding(name, "ok", "no session has held the runtime register since the machine started")
        return Finding(name, "problem", f"/{measurements.STATE} cannot be looked at: {said(error)}")
    log, _ = text(state / measurements.LOG_NAME)
    count = log.count("\n")
    extended = f"extended {count} times since the machine started"
    file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line in text(root / "proc/locks")[0].splitlines():
        words = line.split()
        if words[1:2] == ["FLOCK"] and words[_LOCK_FILE : _LOCK_FILE + 1] == [file]:
            detail = f"process {words[_LOCK_HOLDER][:20]} holds the runtime register, {extended}"
            return Finding(name, "problem", detail, "one session at a time: wait for it to end, or end it")
    return Finding(name, "ok", f"free; the runtime register was {extended}")


def account(root: Path, files: KernelFiles, kind: Tee | None, *, extendable: bool) -> Finding:
    """Looks whether the boot log and the machine's list explain what is in the runtime register.

    Args:
        root: Root of the file system.
        files: The kernel.
        kind: Kind of guest that this is.
        extendable: Whether a session would hold the register, and write the list.
    """
    name, state = "register's account", root / measurements.STATE
    if kind == "snp":
        return Finding(name, "missing", "SEV-SNP has no runtime register")
    try:
        if not files.exists(root / measurements.REGISTER):
            register = None
        else:
            register = files.read(root / measurements.REGISTER, max_bytes=quote.REGISTER_BYTES)
    except OSError as error:
        register = None
        if extendable:
            return Finding(name, "problem", f"RTMR[3] cannot be read: {said(error)}", "run as root")
    try:
        if extendable:
            _check_state(state)
        lines = machine_log.read_beside(state / measurements.LOG_NAME)
        after_boot = hardware.read_boot_log(root=root, files=files)[1]
        if register is not None:
            explained = lines.explain(after_boot, register, path=state / measurements.LOG_NAME)
            if not extendable and explained != lines.digests:
                detail = "the last line of the list was never carried out, and only root takes it back"
                return Finding(name, "problem", detail, "run a session as root, or start the machine again")
    except OSError as error:
        return Finding(name, "problem", f"/{measurements.STATE} cannot be used: {said(error)}", "run as root")
    except AttesterError as error:
        return Finding(name, "problem", str(error))
    if register is None:
        return Finding(
            name, "missing", "RTMR[3] cannot be read here; a quote shows whether its lists explain it"
        )
    return Finding(name, "ok", f"RTMR[3] is explained: the boot, and {len(lines.digests)} extensions since")


def _check_state(state: Path) -> None:
    """Checks what a session would find where lock and list lie; what is missing it has to be able to make."""
    paths = (state, state / measurements.LOCK_NAME, state / measurements.LOG_NAME)
    for path in paths:
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            continue
        machine_log.check_own(path, status)
        if stat.S_ISDIR(status.st_mode) is not (path == state):
            raise AttesterError(f"{path}: is not what it should be; move it away")
    above = next(folder for folder in (state, *state.parents) if folder.exists())
    if not os.access(above, os.W_OK | os.X_OK):
        raise AttesterError(
            f"{above}: this user may make no files there, which a session has to: run as root"
        )


def boot_log(root: Path, files: KernelFiles, kind: Tee | None) -> Finding:
    """Looks for the log of what was measured while the machine started."""
    name = "boot log"
    if kind == "snp":
        return Finding(name, "missing", "SEV-SNP has none: its launch measurement stands for the start")
    path = root / hardware.BOOT_LOG
    try:
        if not files.exists(path):
            detail = f"/{hardware.BOOT_LOG} {NOT_THERE}: the firmware of a TDX guest writes it"
            return Finding(name, "missing", detail)
        hardware.read_boot_log(root=root, files=files)
    except OSError as error:
        return Finding(name, "problem", f"/{hardware.BOOT_LOG} cannot be read: {said(error)}", "run as root")
    except AttesterError as error:
        return Finding(name, "problem", str(error))
    return Finding(name, "ok", f"/{hardware.BOOT_LOG}")
