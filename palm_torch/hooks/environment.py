"""What a run ran on: interpreter, packages, torch's build and switches, threads, devices.

Everything here is read from the running process; nothing is set, and no device is initialised by asking.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import re
import sys
import tempfile
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from palm_torch.digest import SHA256, Digest, sha256_digest
from palm_torch.hooks import installed
from palm_torch.statement import LOADING, Device

if TYPE_CHECKING:
    from collections.abc import Iterable

VARIABLES: Final = (
    "PYTHONHASHSEED",
    "PYTHONOPTIMIZE",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_VISIBLE_DEVICES",
    "NVIDIA_TF32_OVERRIDE",
    "DNNL_DEFAULT_FPMATH_MODE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ATEN_CPU_CAPABILITY",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "MKL_CBWR",
    "OPENBLAS_NUM_THREADS",
    "NCCL_ALGO",
    "NCCL_PROTO",
    "PYTORCH_CUDA_ALLOC_CONF",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "TORCH_BLAS_PREFER_CUBLASLT",
    "TORCH_COMPILE_DISABLE",
    "TORCH_CUDNN_V8_API_DISABLED",
    "TORCHDYNAMO_DISABLE",
    "TORCHINDUCTOR_FREEZING",
    "TORCHINDUCTOR_MAX_AUTOTUNE",
)
"""Environment variables that change what is computed, or in which order."""


_GIVEN: Final = {name: os.environ[name] for name in LOADING if os.environ.get(name)}
"""`LOADING` as it was when this file was loaded: torch sets some of them for itself later on."""

_COMPILED: Final = "TORCHINDUCTOR_CACHE_DIR"
_UNFIT: Final = re.compile(r'[\\/:*?"<>|]')

FLAGS: Final = (
    "are_deterministic_algorithms_enabled",
    "is_deterministic_algorithms_warn_only_enabled",
    "utils.deterministic.fill_uninitialized_memory",
    "get_float32_matmul_precision",
    "backends.fp32_precision",
    "backends.cuda.matmul.fp32_precision",
    "backends.cuda.matmul.allow_fp16_reduced_precision_reduction",
    "backends.cuda.matmul.allow_bf16_reduced_precision_reduction",
    "backends.cuda.matmul.allow_fp16_accumulation",
    "backends.cuda.flash_sdp_enabled",
    "backends.cuda.mem_efficient_sdp_enabled",
    "backends.cuda.math_sdp_enabled",
    "backends.cuda.cudnn_sdp_enabled",
    "backends.cudnn.enabled",
    "backends.cudnn.deterministic",
    "backends.cudnn.benchmark",
    "backends.cudnn.conv.fp32_precision",
    "backends.cudnn.rnn.fp32_precision",
    "backends.mkldnn.enabled",
    "backends.mkldnn.deterministic",
    "backends.mkldnn.matmul.fp32_precision",
    "backends.mkldnn.conv.fp32_precision",
)
"""Torch's switches that change numerics, by their names under ``torch``. The older names for TF32 are left
out: reading them raises once a script has used the newer ones."""

ABSENT: Final = "absent"
"""Value of a switch that this version of torch does not have."""

MAX_VARIABLE_CHARACTERS: Final = 256
"""Longer values are given as ``sha256:hex`` of their bytes."""

_GPU: Final = "GPU-"
"""How NVIDIA's driver, and a statement, begins a GPU's identifier; torch leaves it out."""


@dataclass(frozen=True, slots=True)
class Package:
    """An installed distribution.

    Attributes:
        name: Normalised name.
        version: Version.
        record: SHA-256 of its RECORD; None if it has none.
        reason: Why there is no digest; None if there is one.
    """

    name: str
    version: str
    record: Digest | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Environment:
    """Everything around the code that can change a result.

    Attributes:
        python: ``implementation``, ``version`` and ``optimize`` (level of ``-O``).
        platform: ``system``, ``release``, ``machine``, ``libc`` and ``cpu`` (torch's instruction set).
        torch: ``version``, ``git``, ``cuda``, ``hip``, ``cudnn``, ``debug`` and ``config`` (SHA-256 of
            ``torch.__config__.show()``).
        threads: ``intra_op`` and ``inter_op``.
        flags: The switches in `FLAGS`, ``default_dtype`` and ``flush_denormal``.
        autocast: For ``cpu`` and ``cuda``: None when off, else the dtype.
        variables: Environment variables of `VARIABLES` that are set, and the digests of those of `LOADING`.
        packages: All installed distributions, sorted by name.
    """

    python: dict[str, Any]
    platform: dict[str, Any]
    torch: dict[str, Any]
    threads: dict[str, int]
    flags: dict[str, Any]
    autocast: dict[str, str | None]
    variables: dict[str, str]
    packages: tuple[Package, ...]


def environment() -> Environment:
    """Returns the environment of this process as it is now."""
    return Environment(
        python={
            "implementation": platform.python_implementation(),
            "version": platform.python_version(),
            "optimize": sys.flags.optimize,
        },
        platform={
            "system": platform.system(),
            "release": platform.release(),
            "machine": platform.machine(),
            "libc": "-".join(platform.libc_ver()),
            "cpu": torch.backends.cpu.get_cpu_capability(),
        },
        torch={
            "version": str(torch.__version__),
            "git": torch.version.git_version,
            "cuda": torch.version.cuda,
            "hip": torch.version.hip,
            "cudnn": _read_flag("backends.cudnn.version") if _read_flag("cuda.is_initialized") else None,
            "debug": bool(torch.version.debug),
            "config": str(sha256_digest(torch.__config__.show().encode())),
        },
        threads={"intra_op": torch.get_num_threads(), "inter_op": torch.get_num_interop_threads()},
        flags=_flags(),
        autocast={name: _autocast(name) for name in ("cpu", "cuda")},
        variables=_variables(),
        packages=packages(),
    )


def packages() -> tuple[Package, ...]:
    """Returns all installed distributions on `sys.path`, each name once, sorted.

    Beside them stands each that has excused a file from being listed and is another one, or gone, by now.
    A distribution whose metadata lies in a zip archive is not seen.
    """
    found = installed.distributions()
    listed = dict.fromkeys(_package(item) for item in (*found, *installed.vouched()))
    return tuple(sorted(listed, key=lambda item: item.name))


def _package(item: installed.Distribution) -> Package:
    if item.record is None:
        return Package(item.name, item.version, None, "installed without a RECORD")
    return Package(item.name, item.version, Digest(SHA256, hashlib.sha256(item.record).digest()), None)


def devices(tensors: Iterable[torch.Tensor]) -> tuple[Device, ...]:
    """Returns every device these tensors live on, sorted and each one once."""
    places = {tensor.device for tensor in tensors}
    found = {_device(place) for place in places}
    return tuple(sorted(found, key=lambda item: (item.type, item.uuid or "", item.name or "")))


def _device(place: torch.device) -> Device:
    if place.type != "cuda":
        return Device(place.type, None, None)
    properties = torch.cuda.get_device_properties(place)
    uuid = str(properties.uuid).removeprefix(_GPU)
    return Device("cuda", properties.name, f"{_GPU}{uuid}")


def _flags() -> dict[str, Any]:
    flags = {name: _read_flag(name) for name in FLAGS}
    flags["default_dtype"] = str(torch.get_default_dtype()).removeprefix("torch.")
    flags["flush_denormal"] = _flushes_denormals()
    return flags


def _read_flag(name: str) -> Any:  # noqa: ANN401 (switches have many types)
    try:
        value = attrgetter(name)(torch)
    except AttributeError:
        return ABSENT
    return value() if callable(value) else value


def _flushes_denormals() -> bool:
    return bool((torch.tensor([2e-38], dtype=torch.float32, device="cpu") / 4 == 0).item())


def _autocast(kind: str) -> str | None:
    if not torch.is_autocast_enabled(kind):
        return None
    return str(torch.get_autocast_dtype(kind)).removeprefix("torch.")


def _variables() -> dict[str, str]:
    chosen = {name: value for name, value in os.environ.items() if name in VARIABLES}
    shown = {name: _short(value) for name, value in chosen.items()}
    loading = {
        name: str(sha256_digest(os.fsencode(value)))
        for name, value in _GIVEN.items()
        if (name, value) != (_COMPILED, _usual_cache())
    }
    return dict(sorted({**shown, **loading}.items()))


def _usual_cache() -> str | None:
    """Returns where torch keeps compiled code unless told otherwise: torchrun tells its workers just that."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        return None
    return str(Path(tempfile.gettempdir()) / f"torchinductor_{_UNFIT.sub('_', user)}")


def _short(value: str) -> str:
    data = os.fsencode(value)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = None
    if text is None or len(text) > MAX_VARIABLE_CHARACTERS:
        return str(sha256_digest(data))
    return text
