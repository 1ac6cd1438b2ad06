"""What is installed, and what is at hand, beside the hardware."""

from __future__ import annotations

import importlib.util
import os
import stat
from typing import TYPE_CHECKING, Any, Final

from palm_torch import extras
from palm_torch.cvm import nvml, simulated_state
from palm_torch.errors import AttesterError
from palm_torch.machine import gpu_mode
from palm_torch.machine.finding import NOT_THERE, Finding, absence, said

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

EXTRAS: Final = {extra: packages for extra, packages in extras.PACKAGES.items() if extra != "nv-sdk"}
"""Extra → the packages that it brings, of the extras worth installing; NVIDIA supports nv-sdk no longer."""

LIBRARIES: Final = ("blake3", "cryptography", "dcap_qvl", "lxml", "rich", "yaml")
"""What every installation has, by the names they are imported under."""

NVIDIA_DEVICE: Final = "dev/nvidiactl"

import_nvml: Final = nvml.load
"""Returns the module ``pynvml``."""

_OTHERS: Final = 0o077


def is_installed(package: str) -> bool:
    """Returns whether a package can be imported, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # broken, or taken out of sys.modules by hand
        return False


def libraries(installed: Callable[[str], bool] = is_installed) -> Finding:
    """Looks for the libraries that every installation has."""
    absent = [package for package in LIBRARIES if not installed(package)]
    if absent:
        detail = f"{', '.join(absent)} not installed"
        return Finding("libraries", "problem", detail, "pip install --force-reinstall palm-torch")
    return Finding("libraries", "ok", ", ".join(LIBRARIES))


def brought_by(extra: str, installed: Callable[[str], bool] = is_installed) -> Finding:
    """Looks for what an extra brings."""
    absent = sorted(package for package in EXTRAS[extra] if not installed(package))
    if absent:
        detail = f"{', '.join(absent)} not installed"
        return Finding(f"extra {extra}", "missing", detail, f"pip install 'palm-torch[{extra}]'")
    return Finding(f"extra {extra}", "ok", ", ".join(sorted(EXTRAS[extra])))


def gpu(root: Path, installed: Callable[[str], bool], load: Callable[[], Any]) -> Finding:
    """Looks for NVIDIA GPUs, and whether they compute confidentially."""
    driver = absence(root / NVIDIA_DEVICE)
    if not installed("pynvml"):
        if driver == NOT_THERE:
            return Finding("GPU", "missing", f"no NVIDIA driver: /{NVIDIA_DEVICE} {driver}")
        detail = "there is an NVIDIA driver, and nothing here to ask it with"
        return Finding("GPU", "problem", detail, "pip install 'palm-torch[nvidia]'")
    if driver:
        state = "missing" if driver == NOT_THERE else "problem"
        return Finding("GPU", state, f"no NVIDIA driver: /{NVIDIA_DEVICE} {driver}")  # type: ignore[arg-type]
    try:
        mode = gpu_mode.read(load)
    except AttesterError as error:
        return Finding("GPU", "problem", str(error), "see nvidia-smi")
    cards = f"{len(mode.names)} × {', '.join(sorted(set(mode.names)))[:200]}, driver {mode.driver[:40]}"
    if not mode.names:
        return Finding("GPU", "missing", f"the driver {mode.driver[:40]} knows none")
    if not mode.confidential:
        advice = "the host turns it on before the machine starts (Hopper and newer), or a provider offers it"
        return Finding("GPU", "missing", f"{cards}: confidential computing is off", advice)
    if mode.devtools:
        detail = f"{cards}: confidential computing with DevTools, which lets the host look inside"
        return Finding("GPU", "problem", detail, "have the host turn confidential computing on without it")
    if not mode.ready:
        detail = f"{cards}: confidential computing is on, and the GPUs take no work yet"
        return Finding("GPU", "problem", detail, "nvidia-smi conf-compute -srs 1, once they are attested")
    return Finding("GPU", "ok", f"{cards}: confidential computing is on, ready")


def simulated_tee() -> Finding:
    """Looks where the simulated TEE keeps its keys."""
    name = "simulated TEE"
    try:
        directory = simulated_state.default_directory()
    except AttesterError as error:
        return Finding(name, "problem", str(error))
    try:
        status = os.lstat(directory)
    except FileNotFoundError:
        return Finding(name, "ok", f"makes its keys when it is first used, in {directory}")
    except OSError as error:
        detail = f"{directory} cannot be looked at: {said(error)}"
        return Finding(name, "problem", detail, "set XDG_STATE_HOME to a folder that can be written")
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & _OTHERS:
        detail = f"{directory} is not a directory of this user alone"
        return Finding(name, "problem", detail, f"chmod 700 {directory}, or remove it")
    return Finding(name, "ok", f"has keys in {directory}")
