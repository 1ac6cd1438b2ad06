"""Rules that the GPUs of a machine must meet: how many, which, what they run, in which mode.

`gpu.verify_gpu` says that each GPU is genuine and what it runs. The rules say whether that is what was asked
for. An old driver with a known hole measures just what its maker once published, so the least versions have
to be named; so has the number of GPUs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from palm_torch.cvm import gpu_names
from palm_torch.errors import PlatformError, PolicyError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from palm_torch.cvm.gpu import VerifiedGpu
    from palm_torch.cvm.gpu_state import GpuState

MAX_COUNT: Final = 64
MAX_AGE_DAYS: Final = 36_500
ENVIRONMENT: Final = "prod"
_DRIVER: Final = re.compile(r"[0-9]{1,5}(\.[0-9]{1,5}){1,3}")
_VBIOS: Final = re.compile(r"[0-9A-F]{2}(\.[0-9A-F]{2}){4}")
_CHIP_ID: Final = re.compile(r"NVIDIA:[A-Z0-9_]{1,16}:[0-9A-F]{16}")
_MULTI_GPU_MODES: Final[dict[str, tuple[str, ...]]] = {
    "spt": ("none",),
    "mpt": ("nvle", "none"),
    "ppcie": ("ppcie",),
    "unstated": ("none", "unknown"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRules:
    """What GPUs must be like.

    Attributes:
        count: How many there must be; 0 accepts a machine without any.
        architectures: Accepted generations.
        min_driver_version: Least version of the driver, "550.90.07"; None rejects.
        min_vbios_version: Least version of the firmware image, "96.00.9F.00.01"; None rejects.
        modes: Accepted ways of working together; all GPUs have the same. "unstated" is that of reports of
            older drivers, which do not say.
        chip_ids: Accepted chips, "NVIDIA:GH100:48B02D92494BADF4"; None accepts any.
        require_rims: Whether what they run must have been compared with reference measurements.
        require_fwid: Whether their reports must name the firmware that holds their key.
        require_cc: Whether the driver must have said that confidential computing is on.
        require_production: Whether it must have said that the environment is the production one.
        allow_devtools: Whether debuggers may look inside.
        require_revocation: Whether the status of their certificates must have been at hand.
        max_revocation_age_days: How old the oldest statement about a status may be, in days, at most 36500; a
            number requires the status of every certificate, as `require_revocation` does. None does not ask.

    Raises:
        PolicyError: If a value has another form.
    """

    count: int
    architectures: tuple[gpu_names.Architecture, ...] = ("HOPPER",)
    min_driver_version: str | None = None
    min_vbios_version: str | None = None
    modes: tuple[gpu_names.Mode, ...] = ("spt",)
    chip_ids: tuple[str, ...] | None = None
    require_rims: bool = True
    require_fwid: bool = True
    require_cc: bool = True
    require_production: bool = True
    allow_devtools: bool = False
    require_revocation: bool = False
    max_revocation_age_days: int | None = None

    def __post_init__(self) -> None:
        """Checks every value's form."""
        if not 0 <= self.count <= MAX_COUNT:
            raise PolicyError(f"count: expected a number from 0 to {MAX_COUNT}, got {self.count}")
        for name, value, known in (
            *(("architectures", value, gpu_names.ARCHITECTURES) for value in self.architectures),
            *(("modes", value, gpu_names.MODES) for value in self.modes),
        ):
            if value not in known:
                raise PolicyError(f"{name}: expected some of {', '.join(known)}, got {value!r}")
        for name, text, pattern, example in (
            ("min_driver_version", self.min_driver_version, _DRIVER, "550.90.07"),
            ("min_vbios_version", self.min_vbios_version, _VBIOS, "96.00.9F.00.01"),
            *(("chip_ids", chip, _CHIP_ID, "NVIDIA:GH100:48B02D92494BADF4") for chip in self.chip_ids or ()),
        ):
            if text is not None and not pattern.fullmatch(text):
                raise PolicyError(f"{name}: expected text such as {example}, got {text!r}")
        age = self.max_revocation_age_days
        if age is not None and not 0 <= age <= MAX_AGE_DAYS:
            raise PolicyError(
                f"max_revocation_age_days: expected a number from 0 to {MAX_AGE_DAYS}, got {age}"
            )


def appraise(gpus: Sequence[VerifiedGpu], rules: GpuRules, *, now: datetime) -> None:
    """Checks that verified GPUs are those that the rules ask for.

    1. As many as asked for, and each another chip.
    2. Each of an accepted generation, and one of the accepted chips where they are restricted.
    3. Each with at least the least versions of driver and firmware image.
    4. Each compared with reference measurements, and naming the firmware of its key, where asked for.
    5. All in one mode, and that an accepted one.
    6. Status of certificates: all at hand, where the rules ask for it or for an age; none too old.

    Args:
        gpus: All GPUs of one machine at one time.
        rules: The rules.
        now: Time of verification, aware.

    Raises:
        PlatformError: At the first of these that does not hold.
    """
    if len(gpus) != rules.count:  # 1
        raise PlatformError(f"GPUs: expected {rules.count}, got {len(gpus)}")
    if len({gpu.chip_id for gpu in gpus}) != len(gpus):
        raise PlatformError(f"GPUs: one is there twice: {', '.join(sorted(gpu.chip_id for gpu in gpus))}")
    for number, gpu in enumerate(gpus):
        what = f"GPU {number}"
        _check_listed(f"{what}: architecture", gpu.architecture, rules.architectures)  # 2
        if rules.chip_ids is not None:
            _check_listed(f"{what}: chip_id", gpu.chip_id, rules.chip_ids)
        for name, found, least, numbers in (  # 3
            ("driver version", gpu.driver_version, rules.min_driver_version, driver_numbers),
            ("VBIOS version", gpu.vbios_version, rules.min_vbios_version, vbios_numbers),
        ):
            _check_least(f"{what}: {name}", found, least, numbers)
        if rules.require_rims and gpu.rims is None:  # 4
            raise PlatformError(f"{what}: the policy requires reference measurements, and none were at hand")
        if rules.require_fwid and not gpu.fwid_checked:
            raise PlatformError(
                f"{what}: the report does not name the firmware that holds its key, as the policy requires; "
                f"the driver, {gpu.driver_version}, is too old for that"
            )
        _check_listed(f"{what}: mode", gpu.mode, rules.modes)  # 5
        _check_revocation(what, gpu, rules, now)  # 6
    if len({gpu.mode for gpu in gpus}) > 1:
        raise PlatformError(f"GPUs: expected one mode, got {', '.join(gpu.mode for gpu in gpus)}")


def appraise_states(states: Sequence[GpuState], gpus: Sequence[VerifiedGpu], rules: GpuRules) -> None:
    """Checks what the driver said about the GPUs, against the rules and against what they signed.

    No GPU signs whether confidential computing is on: the guest says it, and is worth what its measurement
    is worth. Both ends of a run are checked, because a GPU can be reset in between.

    1. As many as attested.
    2. Confidential computing is on, in the production environment, without debuggers, and the GPUs take
       work.
    3. Driver, firmware image and mode are those that the reports have.

    Args:
        states: What the driver said, for each GPU, in the order of the reports.
        gpus: The verified reports of the same time.
        rules: The rules.

    Raises:
        PlatformError: At the first of these that does not hold.
    """
    if len(states) != len(gpus):  # 1
        raise PlatformError(f"GPU states: expected {len(gpus)}, one for each GPU, got {len(states)}")
    for number, (state, gpu) in enumerate(zip(states, gpus, strict=True)):
        what = f"GPU {number}: state"
        cc_on = state.cc_mode == "on" or gpu.mode == "ppcie"  # on a protected bus the driver's switch is off
        if rules.require_cc and not cc_on:  # 2
            raise PlatformError(f"{what}: expected confidential computing to be on, got {state.cc_mode}")
        if rules.require_production and state.environment != ENVIRONMENT:
            raise PlatformError(f"{what}: expected environment {ENVIRONMENT}, got {state.environment}")
        if state.devtools and not rules.allow_devtools:
            raise PlatformError(f"{what}: DevTools are on: debuggers may look inside")
        if not state.ready:
            raise PlatformError(f"{what}: the GPU does not take work")
        _check_listed(f"{what}: multi-GPU mode", state.multi_gpu_mode, _MULTI_GPU_MODES[gpu.mode])  # 3
        for name, said, signed in (
            ("driver", state.driver, gpu.driver_version),
            ("VBIOS", state.vbios, gpu.vbios_version),
        ):
            if said != signed:
                raise PlatformError(f"{what}: {name}: expected {signed} of the report, got {said}")


def driver_numbers(version: str) -> tuple[int, ...]:
    """Returns the numbers by which versions of a driver are compared."""
    return tuple(int(part) for part in version.split("."))


def vbios_numbers(version: str) -> tuple[int, ...]:
    """Returns the numbers by which versions of a firmware image are compared."""
    return tuple(int(part, 16) for part in version.split("."))


def _check_least(name: str, found: str, least: str | None, numbers: Callable[[str], tuple[int, ...]]) -> None:
    if least is None:
        raise PlatformError(f"{name}: the policy names no minimum, so none is good enough; it is {found}")
    if numbers(found) < numbers(least):
        raise PlatformError(f"{name}: expected at least {least}, got {found}")


def _check_revocation(what: str, gpu: VerifiedGpu, rules: GpuRules, now: datetime) -> None:
    """Step 6."""
    checked = gpu.revocation
    asked = rules.require_revocation or rules.max_revocation_age_days is not None
    if asked and not checked.complete:  # what is left out is of no age, and would pass any limit
        raise PlatformError(
            f"{what}: the policy requires the status of its certificates, and it was not at hand for all"
        )
    if checked.issued is None or rules.max_revocation_age_days is None:
        return
    if now - checked.issued > timedelta(days=rules.max_revocation_age_days):
        raise PlatformError(
            f"{what}: status of its certificates: expected it to be at most {rules.max_revocation_age_days} "
            f"days old, got one of {checked.issued}"
        )


def _check_listed(name: str, found: str, accepted: Sequence[str]) -> None:
    if found not in accepted:
        raise PlatformError(f"{name}: expected {' or '.join(accepted) or 'none at all'}, got {found}")
